"""A table that a run fills, and beside it, in the same database, the ledger of the units that its rows come from.

What the databases have in common. `_aiopipe_units` has a row for each unit and table; it is written in the
transaction that writes the unit's rows, so the two can never disagree. Rows that a unit gave are known by the unit
column. Every method blocks, and any thread may call: one at a time is served.
"""

from __future__ import annotations

import functools
import json
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from aiopipe.errors import AiopipeError, InputError, OutputError, UnknownNameError, UsageError, nearest
from aiopipe.storage.databases.address import Address, Filling, unit_name
from aiopipe.storage.databases.rows import Rows

__all__ = ["COLUMNS", "Table", "alone"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="Table")

_PAGE = 1000  # rows of the ledger that are looked up together

# Columns of the ledger, and their types; BYTES is the database's own.
COLUMNS = {
    "tbl": "TEXT NOT NULL",
    "unit": "TEXT NOT NULL",
    "path": "BYTES NOT NULL",
    "state": "TEXT NOT NULL",
    "pipeline": "BIGINT NOT NULL",
    "source": "BYTES",
    "why": "TEXT",
    "version": "TEXT",
    "xxh128": "BYTES",
    "read_at": "BIGINT",
    "done_at": "DOUBLE PRECISION",
    "seconds": "DOUBLE PRECISION",
    "taken": "BIGINT",
    "given": "BIGINT",
    "rejected": "BIGINT",
}
_TABLES = (
    "CREATE TABLE IF NOT EXISTS _aiopipe_units ("
    + ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    + ", PRIMARY KEY (tbl, path))",
    "CREATE TABLE IF NOT EXISTS _aiopipe_pipelines (id BIGINT PRIMARY KEY, digest TEXT, parts TEXT)",
    "CREATE TABLE IF NOT EXISTS _aiopipe_rejects (tbl TEXT, unit TEXT, seq BIGINT, body TEXT,"
    " PRIMARY KEY (tbl, unit, seq))",
)


def alone(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """The method, one thread at a time, with the database's complaints as ours."""

    @functools.wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.guard:
            try:
                return method(self, *args, **kwargs)
            except AiopipeError:
                raise
            except self.Error as error:
                raise self.trouble(error) from error

    return call


class Table(ABC):
    """One connection, one writer. known: the columns that can be written, None while there is no such table."""

    Error: type[Exception] = Exception
    mark = "?"  # stands for a parameter
    bytes_type = "BLOB"

    def __init__(self, address: Address, filling: Filling, *, reading: bool = False) -> None:
        self.address = address
        self.reading = reading
        self.filling = filling
        self.guard = threading.RLock()
        self.known: dict[str, str] | None = None
        self.open = False  # whether a transaction is
        self._page: dict[bytes, Any] = {}
        self._page_of: tuple[bytes, bytes | None] | None = None

    # What each database does in its own way.

    @abstractmethod
    def execute(self, text: str, given: Sequence[Any] = ()) -> Any:
        """Execute a statement; a cursor, or what else can be iterated for its rows."""

    @abstractmethod
    def columns(self) -> dict[str, str] | None:
        """The table's columns that can be written, with their types; None where there is no table."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether there is a table of that name."""

    @abstractmethod
    def keys(self) -> list[tuple[str, ...]]:
        """The columns of its primary key and of each unique constraint, the primary key first."""

    @abstractmethod
    def put(
        self, rows: Rows, start: int, stop: int, targets: Sequence[str], last: tuple[Any, ...], strict: bool
    ) -> list[tuple[int, str]]:
        """Insert rows; those that the table would not have, with the reason. strict: the first one ends it.

        last: values of the targets beyond the rows' own columns.
        """

    @abstractmethod
    def trouble(self, error: Exception) -> AiopipeError:
        """What the database complains about, as our error."""

    @abstractmethod
    def disconnect(self) -> None:
        """Close the connection."""

    # Names

    def quote(self, name: str) -> str:
        """A name as SQL has it."""
        return '"' + name.replace('"', '""') + '"'

    @property
    def name(self) -> str:
        """The table, as SQL has it."""
        return ".".join(map(self.quote, self.address.table.split(".", 1)))

    @property
    def owns(self) -> bool:
        """Whether the table says which unit each row came from; so will one that is yet to be made."""
        if self.filling.append:
            return False
        return self.known is None or self._column(self.filling.unit_column) is not None

    def _column(self, name: str) -> str | None:
        """The table's column of that name, in any case where only one fits."""
        assert self.known is not None
        if name in self.known:
            return name
        alike = [k for k in self.known if k.lower() == name.lower()]
        return alike[0] if len(alike) == 1 else None

    # Transactions

    @alone
    def begin(self) -> None:
        """Begin a transaction, where none is open."""
        if not self.open:
            self.execute(self.begins)
            self.open = True
            if self.known is None:  # another run may have made it meanwhile
                self.known = self.columns()

    begins = "BEGIN"
    looks = "BEGIN"  # a transaction in which all is seen as it was at one moment

    @alone
    def commit(self) -> None:
        """All that was done since `begin` is on the disk and can be seen by others."""
        if self.open:
            self.execute("COMMIT")
            self.open = False

    @alone
    def rollback(self) -> None:
        """Nothing was done since `begin`."""
        if self.open:
            self.open = False
            self.execute("ROLLBACK")
            self.known = self.columns()

    @alone
    def close(self) -> None:
        """Give up what is not committed, and let go of the database."""
        self.disconnect()

    @alone
    def save(self) -> None:
        """Begin something that can be taken back alone."""
        self.execute("SAVEPOINT aiopipe_unit")

    @alone
    def keep(self) -> None:
        """Keep what was done since `save`."""
        self.execute("RELEASE SAVEPOINT aiopipe_unit")

    @alone
    def take_back(self) -> None:
        """Take back what was done since `save`."""
        self.execute("ROLLBACK TO SAVEPOINT aiopipe_unit")
        self.execute("RELEASE SAVEPOINT aiopipe_unit")
        self.known = self.columns()

    # Rows

    @alone
    def insert(self, rows: Rows, start: int, stop: int, unit: str | None, *, strict: bool) -> list[tuple[int, str]]:
        """Insert the rows [start, stop) of a unit; see `put`. Makes the table where there is none."""
        if not rows.names:
            return []
        if self.known is None:
            self._create(rows.names)
        targets = [self._target(name, rows) for name in rows.names]
        owned = unit is not None and self.owns
        if owned and self._column(self.filling.unit_column) in targets:
            raise UsageError(
                f"the records have a column {self.filling.unit_column!r}, and the table keeps the unit there",
                stage="write",
                hint="drop or rename it, or choose another name: --unit-column NAME",
            )
        if start == stop:
            return []
        extra = [self._column(self.filling.unit_column) or ""] if owned else []
        return self.put(rows, start, stop, [*targets, *extra], (unit,) if owned else (), strict)

    def _target(self, name: str, rows: Rows) -> str:
        assert self.known is not None
        found = self._column(name)
        if found is None:
            from aiopipe.model import Position

            raise UnknownNameError(
                f"the table {self.address.table} has no column {name!r}",
                position=Position(rows.segments[0].file.path) if rows.segments else None,
                stage="write",
                hint=f"select, drop or rename columns before write; {nearest(name, self.known)}",
            )
        return found

    def _create(self, names: Sequence[str]) -> None:
        """Make the table: every column TEXT but where --types says otherwise, and the unit's column behind them."""
        types, unit = dict(self.filling.types), self.filling.unit_column
        for name in (*types, *self.filling.key):
            if name not in names:
                raise UnknownNameError(f"no column {name!r} to make", stage="write", hint=nearest(name, names))
        made = [f"{self.quote(n)} {types.get(n, 'TEXT')}" for n in names]
        if not self.filling.append and unit not in names:
            made.append(f"{self.quote(unit)} TEXT")
        if self.filling.key:
            made.append(f"PRIMARY KEY ({', '.join(map(self.quote, self.filling.key))})")
        self.execute(f"CREATE TABLE {self.name} ({', '.join(made)})")
        if not self.filling.append:
            if unit not in names:
                index = self.quote(f"{self.address.table.rpartition('.')[2]}{unit}")
                self.execute(f"CREATE INDEX {index} ON {self.name} ({self.quote(unit)})")
            # Whatever an earlier table of this name held is gone.
            self._forget_all()
        self.known = self.columns()

    def on_conflict(self, targets: Sequence[str]) -> str:
        """The clause for rows whose key is there already; UsageError where update has no key to go by."""
        if self.filling.on_conflict == "ignore":
            return " ON CONFLICT DO NOTHING"
        if self.filling.on_conflict != "update":
            return ""
        key = self.conflict_key()
        others = [t for t in targets if t not in key]
        names = ", ".join(map(self.quote, key))
        sets = ", ".join(f"{self.quote(t)} = excluded.{self.quote(t)}" for t in others)
        return f" ON CONFLICT ({names}) DO " + (f"UPDATE SET {sets}" if sets else "NOTHING")

    def conflict_key(self) -> tuple[str, ...]:
        """The columns that --on-conflict update goes by."""
        keys = self.keys()
        if self.filling.key:
            wanted = tuple(self._column(k) or k for k in self.filling.key)
            if set(wanted) in [set(k) for k in keys]:
                return wanted
            raise UsageError(
                f"the table {self.address.table} has no primary key or unique constraint on {', '.join(wanted)}",
                stage="write",
                hint="make a unique index on these columns",
            )
        if not keys:
            raise UsageError(
                f"--on-conflict update needs a primary key or a unique constraint, and {self.address.table} has none",
                stage="write",
                hint="make one, or name the key of a table that is to be made: --key COLUMN",
            )
        return keys[0]

    # The ledger

    @alone
    def prepare(self) -> None:
        """Make the tables of the ledger where they are missing."""
        for text in _TABLES:
            self.execute(text.replace("BYTES", self.bytes_type))

    @alone
    def use(self, digest: str, parts: dict[str, str]) -> int:
        """Note which pipeline is run; its id."""
        number = int(digest[:15], 16)
        self.execute(
            f"INSERT INTO _aiopipe_pipelines VALUES ({self._marks(3)}) ON CONFLICT DO NOTHING",
            (number, digest, json.dumps(parts, ensure_ascii=True)),
        )
        return number

    @alone
    def parts(self, pipeline: int) -> dict[str, str]:
        """What the fingerprint of a pipeline was made of."""
        rows = list(self.execute(f"SELECT parts FROM _aiopipe_pipelines WHERE id = {self.mark}", (pipeline,)))
        found: dict[str, str] = json.loads(rows[0][0]) if rows else {}
        return found

    @alone
    def unit(self, path: bytes) -> tuple[Any, ...] | None:
        """The ledger's row of a unit: the values of COLUMNS; None where it has none, or there is no table."""
        if self.known is None:
            return None
        if self._page_of is None or not self._page_of[0] <= path <= (self._page_of[1] or path):
            rows = self._select(f"path >= {self.mark} ORDER BY path LIMIT {_PAGE}", path)
            self._page = {bytes(row[2]): tuple(row) for row in rows}
            self._page_of = (path, max(self._page, default=None) if len(rows) == _PAGE else None)
        return self._page.get(path)

    @alone
    def units(self) -> list[tuple[Any, ...]]:
        """All of the ledger's rows of this table, in bytewise order of their paths."""
        return self._select("1 = 1 ORDER BY path") if self.known is not None else []

    def _select(self, where: str, *given: Any) -> list[Any]:
        text = f"SELECT {', '.join(COLUMNS)} FROM _aiopipe_units WHERE tbl = {self.mark} AND {where}"
        return list(self.execute(text, (self.address.table, *given)))

    @alone
    def look(self) -> None:
        """Begin to read: what is asked for from here on is of one moment."""
        self.execute(self.looks)
        self.known = self.columns()

    @alone
    def noted(self) -> list[str]:
        """The tables of this database that have a ledger."""
        if not self.has("_aiopipe_units"):
            return []
        return [name for (name,) in self.execute("SELECT DISTINCT tbl FROM _aiopipe_units ORDER BY tbl")]

    @alone
    def notes(self) -> list[tuple[Any, ...]]:
        """As `units`, also where the table itself has been dropped."""
        return self._select("1 = 1 ORDER BY path")

    @alone
    def counts(self, column: str | None) -> dict[str | None, int]:
        """How many rows the table holds of each unit, by its unit column; without one, of all together."""
        found = self._column(column) if column is not None else None
        if found is None:
            [(count,)] = self.execute(f"SELECT count(*) FROM {self.name}")
            return {None: count}
        unit = self.quote(found)
        return dict(list(self.execute(f"SELECT {unit}, count(*) FROM {self.name} GROUP BY {unit}")))

    @alone
    def has_column(self, name: str) -> bool:
        """Whether the table has a column of that name."""
        return self.known is not None and self._column(name) is not None

    @alone
    def note(self, rows: Sequence[Sequence[Any]]) -> None:
        """Write rows of the ledger: the values of COLUMNS without the first. In a transaction with the units' rows."""
        updates = ", ".join(f"{c} = excluded.{c}" for c in COLUMNS if c not in ("tbl", "path"))
        text = (
            f"INSERT INTO _aiopipe_units ({', '.join(COLUMNS)}) VALUES ({self._marks(len(COLUMNS))})"
            f" ON CONFLICT (tbl, path) DO UPDATE SET {updates}"
        )
        for row in rows:
            self.execute(text, (self.address.table, *row))

    @alone
    def claim(self, relative: str) -> None:
        """Make room for the rows of an input file; OutputError where the table holds some, and does not know which.

        In the transaction that will hold them: so of two runs at once, neither adds to what the other has written.
        """
        name = unit_name(relative)
        if not self.owns and self.filling.on_conflict == "error":
            there = f"SELECT 1 FROM _aiopipe_units WHERE tbl = {self.mark} AND path = {self.mark} AND given > 0"
            if list(self.execute(there, (self.address.table, os.fsencode(relative)))):
                raise self.unknown_rows(name, "its rows are there already")
        self.forget([name])

    def unknown_rows(self, unit: str, why: str) -> OutputError:
        """Rows would have to be replaced that the table does not tell from others."""
        table, column = self.address.table, self.filling.unit_column
        return OutputError(
            f"{unit} would be written again ({why}), and {table} has no column {column!r} that tells which rows are"
            " of it",
            stage="write",
            hint=f"ALTER TABLE {table} ADD COLUMN {column} TEXT and fill it with the names of the input files, name a"
            " column that holds them (--unit-column), or use --on-conflict update with a key",
        )

    @alone
    def forget(self, units: Sequence[str], *, wholly: bool = False) -> int:
        """Delete the rows of these units and what was set aside of them; how many rows. wholly: the ledger's, too."""
        gone = 0
        for unit in units:
            if self.known is not None and self.owns:
                column = self.quote(self._column(self.filling.unit_column) or "")
                gone += self.execute(f"DELETE FROM {self.name} WHERE {column} = {self.mark}", (unit,)).rowcount
            self._delete("_aiopipe_rejects", unit)
            if wholly:
                self._delete("_aiopipe_units", unit)
        return gone

    def _delete(self, table: str, unit: str) -> None:
        given = (self.address.table, unit)
        self.execute(f"DELETE FROM {table} WHERE tbl = {self.mark} AND unit = {self.mark}", given)

    def _forget_all(self) -> None:
        for table in ("_aiopipe_units", "_aiopipe_rejects"):
            self.execute(f"DELETE FROM {table} WHERE tbl = {self.mark}", (self.address.table,))

    @alone
    def add_rejects(self, unit: str, first: int, rows: Sequence[dict[str, Any]]) -> None:
        """Records of a unit that were set aside, numbered from `first`."""
        text = f"INSERT INTO _aiopipe_rejects VALUES ({self._marks(4)})"
        for number, row in enumerate(rows, first):
            self.execute(text, (self.address.table, unit, number, json.dumps(row, ensure_ascii=True)))

    @alone
    def rejects(self, unit: str) -> Iterator[dict[str, Any]]:
        """What was set aside of a unit, in order."""
        text = f"SELECT body FROM _aiopipe_rejects WHERE tbl = {self.mark} AND unit = {self.mark} ORDER BY seq"
        return iter([json.loads(body) for (body,) in self.execute(text, (self.address.table, unit))])

    def _marks(self, count: int) -> str:
        return ", ".join([self.mark] * count)


def cannot(address: Address, why: str, hint: str, *, reading: bool = False) -> AiopipeError:
    """An error of this table. What a database says of an address may hold a piece of it: never the password."""
    for secret in address.secrets:
        why = why.replace(secret, "***")
    if reading:
        return InputError(f"cannot read {address.shown}: {why}", hint=hint)
    return OutputError(f"cannot write {address.shown}: {why}", stage="write", hint=hint)
