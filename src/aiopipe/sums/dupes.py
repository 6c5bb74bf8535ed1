"""Files with the same bytes: by size, then by looking at them side by side.

Files of one size are given to one worker, which compares them (`aiopipe.sums.twins`), so most files are read once, and
of most large ones no more than the beginning. What is large and begins alike, or has something odd about it, is told
apart by the digests of `aiopipe.sums.engine`, which knows every oddity. Names of one inode are one file with several
names, not duplicates. A tree that is the same every night gives the same groups in the same order. Changing anything
is `aiopipe.sums.dedupe`'s, which compares once more.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

from aiopipe.sums.alike import Alike, Entry, Kept, Sizes
from aiopipe.sums.engine import HashOptions, run_kind, run_signed
from aiopipe.sums.model import FileHash, Found, Problem, Signature
from aiopipe.sums.reader import TINY
from aiopipe.sums.twins import MOST_BYTES, MOST_FILES, family
from aiopipe.sums.walk import Walk
from aiopipe.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["HEAD", "Copy", "Duplicates", "Group"]

HEAD = TINY
"""Bytes of a file's beginning: most files of one size differ within them."""

_MOST_WHOLE, _MOST_HEADS, _MOST_SIZES = 100_000, 50_000, 100_000  # in memory: about 80 MB together


class Copy(NamedTuple):
    """One file of a group: its names (hard links of each other, as walked) and its version when it was read."""

    names: tuple[bytes, ...]
    signature: Signature


class Group(NamedTuple):
    """Files with the same bytes: at least two, each with an inode of its own. `digest` is empty unless asked for."""

    size: int
    digest: str
    copies: tuple[Copy, ...]


class Duplicates:
    """Finds groups below what `walk` gives; iterate it. `failed` holds what could not be read.

    Files under `min_size` bytes are left alone. `digests` asks for the digest of every group, by the algorithm of the
    options. Memory holds one group and some 250,000 files at a time, however many there are; see `aiopipe.sums.alike`.
    """

    def __init__(
        self,
        walk: Walk,
        options: HashOptions,
        min_size: int = 1,
        *,
        digests: bool = False,
        tick: Callable[[], None] | None = None,
    ) -> None:
        self.walk = walk
        self.options = options
        self.min_size = min_size
        self.digests = digests
        self.tick = tick
        self.failed: list[FileHash] = []
        self.files = 0
        self._follow = walk.options.symlinks == "follow"
        self._named: set[bytes] = set()  # by the user: they may be links, which are followed
        self._roots = walk.roots[:16]
        self._number = 0

    def __iter__(self) -> Iterator[Group]:
        """Groups, in the order of their first names in the walk."""
        with Alike(_MOST_WHOLE) as whole:
            with Alike(_MOST_HEADS) as heads, Kept(_MOST_HEADS) as odd:
                with Sizes(_MOST_SIZES) as sizes:
                    self._measure(sizes)
                    self._compare(sizes, whole, heads, odd)
                self._hash(odd, heads, whole, True)
                self._hash(_alike(heads), whole, whole, False)
            for key, entries in whole.groups():
                inodes = _inodes(entries)
                if inodes > 1:
                    yield _group(key, entries, inodes)

    def _measure(self, sizes: Sizes) -> None:
        """The size of everything there is."""
        waiting: deque[list[bytes]] = deque()

        def items() -> Iterator[Found | Problem]:
            for item in self.walk:
                if isinstance(item, Problem):
                    waiting.append([item.path])
                    yield item
                    continue
                prefix = item.prefix
                paths = [prefix + name for name in item.names]
                waiting.append(paths)
                if item.follow and not self._follow:
                    self._named.update(paths)
                yield Found(b"", paths, item.follow or self._follow)

        asked = chain.from_iterable(iter(waiting.popleft, None))  # there is one for every answer
        for batch in run_kind("sizes", items(), self.options, roots=self._roots, tick=self.tick):
            paths = list(islice(asked, len(batch)))
            if isinstance(batch[0], FileHash) or min(batch) < self.min_size:
                batch, paths = self._large_enough(batch, paths)
            sizes.extend(batch, paths)
            self.files = sizes.count

    def _large_enough(self, batch: list[Any], paths: list[bytes]) -> tuple[list[int], list[bytes]]:
        """Those that have a size that counts."""
        found: list[tuple[int, bytes]] = []
        for size, path in zip(batch, paths, strict=True):
            if isinstance(size, FileHash):  # a directory that could not be listed
                self.failed.append(size)
            elif size >= self.min_size:
                found.append((size, path))
            elif size < 0:
                self._missed(path)
        return [size for size, _ in found], [path for _, path in found]

    def _missed(self, path: bytes) -> None:
        """Say why a file has no size."""
        try:
            os.stat(path, follow_symlinks=self._follow or path in self._named)
        except OSError as error:
            reason = (error.strerror or "").lower()
        else:
            reason = "it came and went"
        self.failed.append(FileHash(path, "unreadable", (), None, reason))

    def _compare(self, sizes: Sizes, whole: Alike, heads: Alike, odd: Kept) -> None:
        """Give the files of each size to one worker; what it does not judge goes to `heads` or is `odd`."""
        waiting: deque[tuple[int, list[int], list[bytes]]] = deque()

        def put_aside(numbers: list[int], paths: list[bytes]) -> None:
            for row in zip(numbers, paths, strict=True):
                odd.add(row)

        def families() -> Iterator[Found]:
            run: list[bytes] = []
            files = 0
            for size, numbers, paths, is_whole in sizes.families(MOST_FILES):
                large = not is_whole or min(size, TINY) * len(paths) > MOST_BYTES
                if large or self._follow or not self._named.isdisjoint(paths):
                    put_aside(numbers, paths)
                    continue
                waiting.append((size, numbers, paths))
                run.append(family(size, paths))
                files += len(paths)
                if files >= MOST_FILES:
                    yield Found(b"", run)
                    run, files = [], 0
            if run:
                yield Found(b"", run)

        make: Any = tuple.__new__  # a named tuple's own constructor is a Python function
        for batch in self._run("twins", families()):
            for classes in batch:
                size, numbers, paths = waiting.popleft()
                if classes is False:
                    put_aside(numbers, paths)
                    continue
                for digest, members in classes:
                    self._number += 1
                    entries = [
                        make(Entry, (numbers[each[0]], paths[each[0]], size) + each[1:])  # noqa: RUF005  # quicker
                        for each in members
                    ]
                    # The number keeps apart what a weak algorithm would not.
                    (heads if digest is None else whole).extend(f"{self._number} {digest}", entries)

    def _run(self, kind: str, items: Iterator[Found]) -> Iterator[list[Any]]:
        """`run_kind`, unless there is nothing to do."""
        first = next(items, None)
        if first is None:
            return iter(())
        names = self.options.algorithms[:1] if self.digests else ()
        every = chain((first,), items)
        return run_kind(kind, every, self.options, algorithms=names, roots=self._roots, tick=self.tick)

    def _hash(self, rows: Iterable[tuple[int, bytes]], long: Alike, short: Alike, head: bool) -> None:
        """The digests of some files, or of their beginnings: those of files that have more go to `long`."""
        waiting: deque[tuple[int, bytes]] = deque()
        source = self._found(rows, waiting)
        first = next(source, None)
        if first is None:
            return
        make: Any = tuple.__new__
        every = chain((first,), source)
        for batch in run_signed(every, self.options, roots=self._roots, head=head, tick=self.tick):
            for result in batch:
                known = waiting.popleft()
                if isinstance(result, FileHash):
                    self.failed.append(result)
                else:
                    entry = make(Entry, known + result[1:])
                    (long if entry.size > HEAD else short).add(f" {result[0]}", entry)

    def _found(self, rows: Iterable[tuple[int, bytes]], waiting: deque[tuple[int, bytes]]) -> Iterator[Found]:
        run: list[bytes] = []
        kind = self._follow
        for row in rows:
            follow = self._follow or row[1] in self._named
            if run and (follow != kind or len(run) >= 256):
                yield Found(b"", run, kind)
                run = []
            kind = follow
            waiting.append(row)
            run.append(row[1])
        if run:
            yield Found(b"", run, kind)


def _alike(heads: Alike) -> Iterator[tuple[int, bytes]]:
    """The files that begin alike, a group at a time: those are neighbours also on most disks."""
    for _, entries in heads.groups():
        if _inodes(entries) > 1:
            for entry in entries:
                yield entry[:2]


def _inodes(entries: list[Entry]) -> int:
    return len({entry[5:] for entry in entries})


def _group(key: str, entries: list[Entry], inodes: int, make: Any = tuple.__new__) -> Group:
    if inodes == len(entries):  # as it is nearly always
        copies = [make(Copy, ((entry[1],), make(Signature, entry[2:]))) for entry in entries]
    else:
        names: dict[tuple[int, ...], list[bytes]] = {}
        for entry in entries:
            names.setdefault(entry[2:], []).append(entry[1])
        copies = [make(Copy, (tuple(found), make(Signature, version))) for version, found in names.items()]
    group: Group = make(Group, (entries[0][2], key.partition(" ")[2], tuple(copies)))
    return group
