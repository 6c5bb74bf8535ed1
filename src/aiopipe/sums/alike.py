"""Files by what they have in common, in memory while they are few, in temporary files of SQLite when they are many.

What `aiopipe.sums.dupes` remembers between its steps, so that a tree of many millions of files needs no more memory
than one of a hundred thousand. The files have no name that anybody could find: SQLite removes them when they are
closed, and the system does when the process is killed.
"""

from __future__ import annotations

import marshal
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import groupby, islice
from operator import itemgetter

from aiopipe.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import IO, Any

__all__ = ["Alike", "Entry", "Kept", "Sizes"]

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
    import sqlite3  # 5 ms, which small trees can do without

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
        self.extend(digest, [entry])

    def extend(self, digest: str, entries: list[Entry]) -> None:
        """Remember some entries of one size and digest."""
        self._entries.setdefault((entries[0][2], digest), []).extend(entries)
        self._count += len(entries)
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


class Sizes:
    """Files by their size, numbered in the order in which they came. Close it, or use it as a context.

    `most` of them are in memory.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._paths: list[bytes] = []
        self._places: defaultdict[int, list[int]] = defaultdict(list)
        self._table: sqlite3.Connection | None = None
        self._before = 0  # what is in the table

    @property
    def count(self) -> int:
        """How many there are: the number of the next."""
        return self._before + len(self._paths)

    def extend(self, sizes: Iterable[int], paths: Iterable[bytes]) -> None:
        """Remember files; as many sizes as paths."""
        places = self._places
        for place, size in enumerate(sizes, len(self._paths)):
            places[size].append(place)
        self._paths += paths
        if len(self._paths) >= self._most:
            self._spill()

    def _spill(self) -> None:
        if self._table is None:
            self._table = _database()
            self._table.execute("CREATE TABLE files (size INTEGER, number INTEGER, path BLOB)")
            self._table.execute("BEGIN")
        paths, before = self._paths, self._before
        rows = ((size, before + place, paths[place]) for size, found in self._places.items() for place in found)
        self._table.executemany("INSERT INTO files VALUES (?, ?, ?)", rows)
        self._before = self.count
        self._paths = []
        self._places.clear()

    def families(self, most: int) -> Iterator[tuple[int, list[int], list[bytes], bool]]:
        """The sizes that several files have, with their numbers and paths in the order in which they came.

        A family of more than `most` comes in parts, the last value of which is False. No more can be added.
        """
        if self._table is None:
            path = self._paths.__getitem__
            for size, numbers in self._places.items():
                many = len(numbers)
                if 1 < many <= most:
                    yield size, numbers, list(map(path, numbers)), True
                elif many > 1:
                    for start in range(0, many, most):
                        part = numbers[start : start + most]
                        yield size, part, list(map(path, part)), False
            return
        self._spill()
        execute = self._table.execute
        execute("CREATE INDEX by_size ON files (size, number, path)")
        rows = execute(
            "SELECT size, number, path, many FROM files JOIN "
            "(SELECT size, count(*) AS many FROM files GROUP BY size HAVING many > 1) USING (size) "
            "ORDER BY size, number"
        )
        for size, same in groupby(rows, itemgetter(0)):
            while rows_of_it := list(islice(same, most)):
                _, found, paths, total = zip(*rows_of_it, strict=True)
                yield size, list(found), list(paths), total[0] <= most

    def close(self) -> None:
        """Let it all go."""
        self._paths = []
        self._places.clear()
        if self._table is not None:
            self._table.close()
            self._table = None

    def __enter__(self) -> Sizes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Kept:
    """Tuples, in the order in which they came, for one who comes back to them. Close it, or use it as a context."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rows: list[tuple[Any, ...]] = []
        self._file: IO[bytes] | None = None

    def add(self, row: tuple[Any, ...]) -> None:
        """Remember a tuple of numbers and bytes."""
        self._rows.append(row)
        if len(self._rows) >= self._most:
            if self._file is None:
                import tempfile

                self._file = tempfile.TemporaryFile()  # noqa: SIM115  # until `close`
            marshal.dump(self._rows, self._file)
            self._rows = []

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """All of them; no more can be added."""
        if self._file is not None:
            self._file.seek(0)
            with suppress(EOFError):
                while True:
                    yield from marshal.load(self._file)
        yield from self._rows

    def close(self) -> None:
        """Let it all go."""
        self._rows = []
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
