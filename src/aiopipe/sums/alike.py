"""Files by what they have in common, in memory while they are few, in temporary files of SQLite when they are many.

What `aiopipe.sums.dupes` remembers between its steps, so that a tree of many millions of files needs no more memory
than one of a hundred thousand. The files have no name that anybody could find: SQLite removes them when they are
closed, and the system does when the process is killed.
"""

from __future__ import annotations

import marshal
import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Alike", "Entry", "Sizes"]

_CACHE = 8_000  # KiB


class Entry(NamedTuple):
    """A file: its place in the walk, its path, and its version when it was hashed, as in `Signature`."""

    place: int
    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int
    ino: int
    dev: int


def _database() -> sqlite3.Connection:
    connection = sqlite3.connect("", isolation_level=None)
    for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE}", "temp_store = FILE"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


class Alike:
    """Entries by size and digest; close it, or use it as a context. `most` of them are in memory."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._entries: dict[tuple[int, str], list[Entry]] = {}
        self._table: sqlite3.Connection | None = None

    def add(self, digest: str, entry: Entry) -> None:
        """Remember an entry."""
        self._entries.setdefault((entry[2], digest), []).append(entry)
        self._count += 1
        if self._count >= self._most:
            self._spill()

    def _spill(self) -> None:
        if self._table is None:
            self._table = _database()
            self._table.execute("CREATE TABLE alike (size INTEGER, digest TEXT, place INTEGER, entry BLOB)")
            self._table.execute("BEGIN")
        rows = (
            (size, digest, entry[0], marshal.dumps(tuple(entry)))
            for (size, digest), found in self._entries.items()
            for entry in found
        )
        self._table.executemany("INSERT INTO alike VALUES (?, ?, ?, ?)", rows)
        self._entries, self._count = {}, 0

    def groups(self) -> Iterator[tuple[str, list[Entry]]]:
        """A digest and its entries in the order of their places, where there are several; by the first of them.

        No more can be added. One group is held in memory at a time.
        """
        if self._table is None:
            groups = [(digest, sorted(found)) for (_, digest), found in self._entries.items() if len(found) > 1]
            self._entries = {}
            groups.sort(key=lambda each: each[1][0][0], reverse=True)
            while groups:
                yield groups.pop()
            return
        self._spill()
        execute = self._table.execute
        execute("CREATE INDEX by_digest ON alike (size, digest, place)")
        several = execute(
            "SELECT min(place) AS first, size, digest FROM alike "
            "GROUP BY size, digest HAVING count(*) > 1 ORDER BY first"
        )
        for _, size, digest in several:
            rows = execute("SELECT entry FROM alike WHERE size = ? AND digest = ? ORDER BY place", (size, digest))
            yield digest, [Entry(*marshal.loads(entry)) for (entry,) in rows]

    def close(self) -> None:
        """Let it all go."""
        self._entries = {}
        if self._table is not None:
            self._table.close()
            self._table = None

    def __enter__(self) -> Alike:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_First = tuple[int, bytes, bool]


class Sizes:
    """The first file of each size, until there is a second one. Close it, or use it as a context."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._first: dict[int, _First | None] = {}
        self._table: sqlite3.Connection | None = None

    def second(self, size: int, number: int, path: bytes, follow: bool) -> _First | bool:
        """False for the first file of its size; for the second one the first, as it was given; True after that."""
        if size in self._first:
            held = self._first[size]
        elif (row := self._row(size)) is not None:
            held = None if row[0] is None else (row[0], row[1], bool(row[2]))
        else:
            self._first[size] = (number, path, follow)
            if len(self._first) >= self._most:
                self._spill()
            return False
        if held is None:
            return True
        self._first[size] = None
        return held

    def _row(self, size: int) -> tuple[int | None, bytes, int] | None:
        if self._table is None:
            return None
        found: tuple[int | None, bytes, int] | None = self._table.execute(
            "SELECT number, path, follow FROM sizes WHERE size = ?", (size,)
        ).fetchone()
        return found

    def _spill(self) -> None:
        if self._table is None:
            self._table = _database()
            self._table.execute(
                "CREATE TABLE sizes (size INTEGER PRIMARY KEY, number INTEGER, path BLOB, follow INTEGER)"
            )
            self._table.execute("BEGIN")
        rows = ((size, *(self._first[size] or (None, None, None))) for size in sorted(self._first))
        self._table.executemany("INSERT OR REPLACE INTO sizes VALUES (?, ?, ?, ?)", rows)
        self._first = {}

    def close(self) -> None:
        """Let it all go."""
        self._first = {}
        if self._table is not None:
            self._table.close()
            self._table = None

    def __enter__(self) -> Sizes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
