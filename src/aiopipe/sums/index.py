"""A manifest's entries by name: in memory while they are few, in a temporary file when they are many.

So a manifest of millions of files needs no more memory than one of fifty thousand. The file has no name that
anybody could find: SQLite removes it when it is closed, and the system does when the process is killed.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterator

from aiopipe.sums.parse import Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3

__all__ = ["Index"]

_MOST = 50_000  # entries in memory: about 25 MB
_CACHE = 20_000  # KiB


class Index:
    """Keys and entries; of two entries under one key the later one stays. Close it, or use it as a context."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._entries: dict[bytes, Entry] = {}
        self._table: sqlite3.Connection | None = None

    def add(self, key: bytes, entry: Entry) -> None:
        """Remember an entry."""
        self._entries[key] = entry
        if len(self._entries) >= self._most:
            self._spill()

    def _spill(self) -> None:
        if self._table is None:
            import sqlite3

            self._table = sqlite3.connect("", isolation_level=None)
            for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE}"):
                self._table.execute(f"PRAGMA {pragma}")
            self._table.execute("CREATE TABLE entries (key BLOB PRIMARY KEY, entry BLOB) WITHOUT ROWID")
            self._table.execute("BEGIN")
        rows = ((key, marshal.dumps(tuple(self._entries[key]))) for key in sorted(self._entries))
        self._table.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?)", rows)
        self._entries = {}

    def get(self, key: bytes) -> Entry | None:
        """The entry under a key."""
        entry = self._entries.get(key)
        if entry is not None or self._table is None:
            return entry
        found = self._table.execute("SELECT entry FROM entries WHERE key = ?", (key,)).fetchone()
        return Entry(*marshal.loads(found[0])) if found is not None else None

    def pop(self, key: bytes) -> Entry | None:
        """The entry under a key, which is forgotten."""
        found = self.get(key)
        if found is not None:
            self._entries.pop(key, None)
            if self._table is not None:
                self._table.execute("DELETE FROM entries WHERE key = ?", (key,))
        return found

    def values(self) -> Iterator[Entry]:
        """What is left, in the order of the keys."""
        if self._table is None:
            for key in sorted(self._entries):
                yield self._entries[key]
            return
        self._spill()
        for (entry,) in self._table.execute("SELECT entry FROM entries ORDER BY key"):
            yield Entry(*marshal.loads(entry))

    def close(self) -> None:
        """Let it all go."""
        self._entries = {}
        if self._table is not None:
            self._table.close()
            self._table = None

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
