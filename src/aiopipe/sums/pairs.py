"""Two manifests read side by side: entries of one name meet as soon as both have told of it.

Manifests that one tool wrote of one tree are in one order but for what came and went, so what waits for its other half
is little, and the first pairs are there at once. Where the orders differ, what waits goes to a temporary file, as in
`aiopipe.sums.index`, and pairs come later; which pairs there are does not depend on it.
"""

from __future__ import annotations

import marshal

from aiopipe.sums.parse import Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

__all__ = ["Pairs", "walk_order"]

_MOST = 50_000  # entries that wait in memory: about 25 MB
_CACHE = 20_000  # KiB


def walk_order(name: bytes) -> bytes:
    r"""What names are to be sorted by to be in the order of a walk: in each directory its files, then what is below.

    >>> sorted([b"a/b/c", b"a-b/c", b"a/z", b"z"], key=walk_order)
    [b'z', b'a-b/c', b'a/z', b'a/b/c']
    """
    folder, slash, last = name.rpartition(b"/")
    return (b"\1" + folder.replace(b"/", b"/\1") + b"/" if slash else b"") + b"\0" + last


class Pairs:
    """Pairs of entries under one key, of two streams of them; iterate it, then ask what is left. Close it.

    `most` entries wait in memory. Of two that wait under one key the later stays.
    """

    def __init__(
        self,
        old: Iterator[list[Entry]],
        new: Iterator[list[Entry]],
        key: Callable[[bytes], bytes],
        most: int = _MOST,
    ) -> None:
        self._streams = (old, new)
        self._key = key
        self._most = most
        self._waiting: tuple[dict[bytes, Entry], dict[bytes, Entry]] = ({}, {})
        self._table: sqlite3.Connection | None = None

    def __iter__(self) -> Iterator[tuple[Entry, Entry]]:
        """Each pair, the entry of the old stream first, as soon as it is known."""
        last: list[bytes | None] = [b"", b""]  # how far each stream has come; None at its end
        key, waiting = self._key, self._waiting
        while True:
            left = [side for side in (0, 1) if last[side] is not None]
            if not left:
                break
            side = min(left, key=lambda each: last[each] or b"")  # the one that is behind
            run = next(self._streams[side], None)
            if not run:
                last[side] = None
                continue
            own, others = waiting[side], waiting[1 - side]
            for entry in run:
                name = key(entry[0])
                other = others.pop(name, None)
                if other is None:
                    own[name] = entry
                else:
                    yield (entry, other) if side == 0 else (other, entry)
            last[side] = walk_order(name)
            if len(own) + len(others) >= self._most:
                yield from self._spill()
        if self._table is not None:
            yield from self._spill()

    def left(self, side: int) -> Iterator[Entry]:
        """What has found no other half, of the old stream (0) or of the new (1), in the order of its lines."""
        if self._table is None:
            return iter(sorted(self._waiting[side].values(), key=lambda entry: entry[3]))
        rows = self._table.execute(f"SELECT entry FROM side{side} ORDER BY line")
        return (Entry(*marshal.loads(entry)) for (entry,) in rows)

    def _spill(self) -> Iterator[tuple[Entry, Entry]]:
        """Put what waits into the file; what finds its other half there is a pair."""
        first = self._table is None
        table = self._table = self._table or _database()
        for side, own in enumerate(self._waiting):
            rows, found = [], []
            for name in sorted(own):
                entry = own[name]
                row = None
                if not first:
                    row = table.execute(f"SELECT entry FROM side{1 - side} WHERE key = ?", (name,)).fetchone()
                if row is None:
                    rows.append((name, entry[3], marshal.dumps(tuple(entry))))
                else:
                    found.append((name,))
                    other = Entry(*marshal.loads(row[0]))
                    yield (entry, other) if side == 0 else (other, entry)
            table.executemany(f"DELETE FROM side{1 - side} WHERE key = ?", found)
            table.executemany(f"INSERT OR REPLACE INTO side{side} VALUES (?, ?, ?)", rows)
            own.clear()

    def close(self) -> None:
        """Let it all go."""
        for side in self._waiting:
            side.clear()
        if self._table is not None:
            self._table.close()
            self._table = None

    def __enter__(self) -> Pairs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _database() -> sqlite3.Connection:
    import sqlite3

    connection = sqlite3.connect("", isolation_level=None)
    for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE}"):
        connection.execute(f"PRAGMA {pragma}")
    for side in (0, 1):
        connection.execute(f"CREATE TABLE side{side} (key BLOB PRIMARY KEY, line INTEGER, entry BLOB) WITHOUT ROWID")
    connection.execute("BEGIN")
    return connection
