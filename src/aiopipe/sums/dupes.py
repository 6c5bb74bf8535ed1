"""Files with the same bytes: by size, then by their beginning, then by their whole digest.

Each step reads only what the step before could not tell apart, and a file that is no longer than its beginning is
read once. Names of one inode are one file with several names, not duplicates. A tree that is the same every night
gives the same groups in the same order. Changing anything is `aiopipe.sums.dedupe`'s, which compares byte for byte
first and trusts no digest.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from aiopipe.errors import UsageError
from aiopipe.sums.algorithms import algorithm
from aiopipe.sums.alike import Alike, Entry, Sizes
from aiopipe.sums.engine import HashOptions, run_signed
from aiopipe.sums.model import FileHash, Found, Problem, Signature
from aiopipe.sums.reader import TINY
from aiopipe.sums.walk import Walk

__all__ = ["HEAD", "Copy", "Duplicates", "Group", "default_algorithm"]

HEAD = TINY
"""Bytes of a file's beginning: most files of one size differ within them."""

_MOST_WHOLE, _MOST_HEADS, _MOST_SIZES = 100_000, 50_000, 50_000  # in memory: about 80 MB together


@dataclass(frozen=True, slots=True)
class Copy:
    """One file of a group: its names (hard links of each other, as walked) and its version when hashed."""

    names: tuple[bytes, ...]
    signature: Signature


@dataclass(frozen=True, slots=True)
class Group:
    """Files with the same bytes: at least two, each with an inode of its own."""

    size: int
    digest: str
    copies: tuple[Copy, ...]


@dataclass(slots=True)
class Duplicates:
    """Finds groups below what `walk` gives; iterate it. `failed` holds what could not be read.

    Files under `min_size` bytes are left alone. Memory holds one group and some 150,000 files at a time, however many
    there are; see `aiopipe.sums.alike`.
    """

    walk: Walk
    options: HashOptions
    min_size: int = 1
    tick: Callable[[], None] | None = None
    failed: list[FileHash] = field(default_factory=list)
    files: int = 0

    def __iter__(self) -> Iterator[Group]:
        """Groups, in the order of their first names in the walk."""
        with Alike(_MOST_WHOLE) as whole:
            with Alike(_MOST_HEADS) as heads, Sizes(_MOST_SIZES) as sizes:
                waiting: deque[tuple[int, bytes]] = deque()
                for digest, entry in self._hashed(self._candidates(sizes, waiting), waiting, True):
                    (heads if entry[2] > HEAD else whole).add(digest, entry)
                for digest, entry in self._hashed(self._again(heads, waiting), waiting, False):
                    whole.add(digest, entry)
            for digest, entries in whole.groups():
                if _inodes(entries) > 1:
                    yield _group(digest, entries)

    @property
    def _follow(self) -> bool:
        return self.walk.options.symlinks == "follow"

    def _candidates(self, sizes: Sizes, waiting: deque[tuple[int, bytes]]) -> Iterator[Found]:
        """The files whose size is not theirs alone, as soon as that is known; `waiting` gets their places in the walk.

        So the first ones are being read while the walk goes on.
        """
        stat, second, least, number = os.stat, sizes.second, self.min_size, 0
        for item in self.walk:
            if isinstance(item, Problem):
                self.failed.append(FileHash(item.path, item.status, (), None, item.reason))
                continue
            prefix, follow = item.prefix, item.follow or self._follow
            run: list[bytes] = []
            for name in item.names:
                path = prefix + name
                try:
                    size = stat(path, follow_symlinks=follow).st_size
                except OSError as error:
                    self.failed.append(FileHash(path, "unreadable", (), None, (error.strerror or "").lower()))
                    continue
                if size < least:
                    continue
                number += 1
                held = second(size, number, path, follow)
                if held is False:
                    continue
                if held is not True:
                    waiting.append(held[:2])
                    if held[2] != follow:  # one of them was named by the user, and may be a link
                        yield Found(b"", run, follow)
                        yield Found(b"", [held[1]], held[2])
                        run = []
                    else:
                        run.append(held[1])
                waiting.append((number, path))
                run.append(path)
            self.files = number
            if run:
                yield Found(b"", run, follow)
            if self.tick is not None:
                self.tick()

    def _again(self, heads: Alike, waiting: deque[tuple[int, bytes]]) -> Iterator[Found]:
        """The files that begin alike, a group at a time: those are neighbours also on most disks."""
        run: list[bytes] = []
        for _, entries in heads.groups():
            if _inodes(entries) > 1:
                waiting.extend(entry[:2] for entry in entries)
                run += [entry[1] for entry in entries]
            if len(run) >= 256:
                yield Found(b"", run, self._follow)
                run = []
        if run:
            yield Found(b"", run, self._follow)

    def _hashed(
        self, items: Iterable[Found], waiting: deque[tuple[int, bytes]], head: bool
    ) -> Iterator[tuple[str, Entry]]:
        """The digests and versions of what is read, in the order of `waiting`; failures are set aside."""
        source = iter(items)
        first = next(source, None)
        if first is None:
            return
        make = tuple.__new__  # a named tuple's own constructor is a Python function
        next_one = waiting.popleft
        for batch in run_signed(chain((first,), source), self.options, head=head, tick=self.tick):
            for result in batch:
                known = next_one()
                if isinstance(result, FileHash):
                    self.failed.append(result)
                else:
                    yield result[0], make(Entry, known + result[1:])


def default_algorithm() -> str:
    """The quickest algorithm here under which nobody can make two files look the same."""
    try:
        return algorithm("blake3").name
    except UsageError:
        return "sha256"


def _inodes(entries: list[Entry]) -> int:
    return len({entry[5:] for entry in entries})


def _group(digest: str, entries: list[Entry]) -> Group:
    names: dict[tuple[int, int], list[bytes]] = {}
    signatures: dict[tuple[int, int], Signature] = {}
    for entry in entries:
        inode = (entry.dev, entry.ino)
        names.setdefault(inode, []).append(entry.path)
        signatures[inode] = Signature(*entry[2:])
    copies = tuple(Copy(tuple(found), signatures[inode]) for inode, found in names.items())
    return Group(entries[0].size, digest, copies)
