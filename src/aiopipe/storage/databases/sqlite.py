"""A table of an SQLite database, through the standard library's driver."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from aiopipe.errors import AiopipeError, LockedError
from aiopipe.storage.databases.address import Address, Filling
from aiopipe.storage.databases.rows import Rows, tuples
from aiopipe.storage.databases.table import Table, cannot

__all__ = ["SqliteTable"]

PATIENCE = 10.0  # seconds that another program may hold the database


class SqliteTable(Table):
    """Rows go in with executemany; a statement that fails leaves those before it in place."""

    Error = sqlite3.Error
    begins = "BEGIN IMMEDIATE"

    def __init__(
        self, address: Address, filling: Filling, patience: float | None = None, *, reading: bool = False
    ) -> None:
        super().__init__(address, filling, reading=reading)
        self._patience = patience = PATIENCE if patience is None else patience
        if reading and not os.path.isfile(address.database):
            raise cannot(address, "there is no such file", "check the path; write makes the database", reading=True)
        directory = os.path.dirname(os.path.abspath(address.database))
        if not os.path.isdir(directory):
            raise cannot(address, f"there is no directory {directory}", "make it first")
        try:
            self._connection = sqlite3.connect(
                f"file:{quote(os.path.abspath(address.database))}?mode=rw" if reading else address.database,
                timeout=patience,
                isolation_level=None,
                check_same_thread=False,
                uri=reading,
            )
        except sqlite3.Error as error:
            raise self.trouble(error) from error
        try:
            # Only to look means: nothing of ours. What a killed program left half is taken back by any reader.
            self.execute("PRAGMA query_only = ON" if reading else "PRAGMA synchronous = FULL")
            self.known = self.columns()
        except sqlite3.Error as error:
            self._connection.close()
            raise self.trouble(error) from error

    def execute(self, text: str, given: Sequence[Any] = ()) -> Any:
        """Execute a statement."""
        return self._connection.execute(text, given)

    def columns(self) -> dict[str, str] | None:
        """Columns but generated ones (hidden, in SQLite's words)."""
        rows = self.execute(f"PRAGMA table_xinfo({self.name})").fetchall()
        return {row[1]: row[2] for row in rows if row[6] == 0} if rows else None

    def has(self, name: str) -> bool:
        """See Table.has."""
        return bool(self.execute(f"PRAGMA table_info({self.quote(name)})").fetchall())

    @property
    def name(self) -> str:
        """The table; a dot is part of its name."""
        return self.quote(self.address.table)

    def keys(self) -> list[tuple[str, ...]]:
        """The primary key, then unique indices that hold for all rows and on columns."""
        rows = self.execute(f"PRAGMA table_xinfo({self.name})").fetchall()
        primary = tuple(r[1] for r in sorted(rows, key=lambda r: r[5]) if r[5])
        found = [primary] if primary else []
        for _, index, unique, _, partial in self.execute(f"PRAGMA index_list({self.name})").fetchall():
            names = tuple(r[2] for r in self.execute(f"PRAGMA index_info({self.quote(index)})"))
            if unique and not partial and None not in names and set(names) not in [set(f) for f in found]:
                found.append(names)
        return found

    def put(
        self, rows: Rows, start: int, stop: int, targets: Sequence[str], last: tuple[Any, ...], strict: bool
    ) -> list[tuple[int, str]]:
        """See Table.put."""
        marks = ", ".join("?" * len(targets))
        text = f"INSERT INTO {self.name} ({', '.join(map(self.quote, targets))}) VALUES ({marks})"
        text += self.on_conflict(targets)
        bad: list[tuple[int, str]] = []
        while start < stop:
            fed = _Counted(tuples(rows, start, stop, last))
            try:
                self._connection.executemany(text, fed)
                break
            except (sqlite3.IntegrityError, sqlite3.DataError) as error:
                if not self._connection.in_transaction:
                    raise  # a trigger has taken everything back
                start += fed.count
                bad.append((start - 1, str(error)))
                if strict:
                    break
        return bad

    def trouble(self, error: Exception) -> AiopipeError:
        """By SQLite's own code."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return LockedError(
                f"{self.address.database} is locked by another program, and was for {self._patience:g} s",
                stage="write",
                hint="wait until the other one is done, then run again: what is finished is passed over",
            )
        hints = {
            sqlite3.SQLITE_FULL: "free some space and run again; nothing half was left behind",
            sqlite3.SQLITE_CANTOPEN: "check the path and its permissions",
            sqlite3.SQLITE_READONLY: "check the permissions of the file and of its directory",
            sqlite3.SQLITE_NOTADB: "name another file: this one is no SQLite database",
            sqlite3.SQLITE_CONSTRAINT: "look at the table's constraints and triggers",
        }
        hint = hints.get(code, "look at the table, then run again")
        return cannot(self.address, str(error), hint, reading=self.reading)

    def disconnect(self) -> None:
        """Close; what is not committed was never there."""
        self._connection.close()


class _Counted:
    """An iterator that knows how many it has given: the last one is the row that failed."""

    def __init__(self, rows: Iterator[tuple[Any, ...]]) -> None:
        self._rows = rows
        self.count = 0

    def __iter__(self) -> _Counted:
        return self

    def __next__(self) -> tuple[Any, ...]:
        row = next(self._rows)
        self.count += 1
        return row
