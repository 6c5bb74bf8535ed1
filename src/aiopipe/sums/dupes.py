"""Files with the same bytes: by size, then by their beginning, then by their whole digest.

Each step reads only what the step before could not tell apart, and a file that is no longer than its beginning is
read once. Names of one inode are one file with several names, not duplicates. A tree that is the same every night
gives the same groups in the same order. Changing anything is `aiopipe.sums.dedupe`'s, which compares byte for byte
first and trusts no digest.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from aiopipe.errors import UsageError
from aiopipe.sums.algorithms import algorithm
from aiopipe.sums.engine import HashOptions, run_batches
from aiopipe.sums.model import OK, FileHash, Found, Problem, Signature
from aiopipe.sums.reader import TINY
from aiopipe.sums.walk import Walk

_Found = tuple[int, FileHash]  # a file's place in the walk, and what came of reading it

__all__ = ["HEAD", "Copy", "Duplicates", "Group", "default_algorithm"]

HEAD = TINY
"""Bytes of a file's beginning: most files of one size differ within them."""


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

    Files under `min_size` bytes are left alone. Holds in memory one path for each size, and some 400 bytes for each
    file that shares its size with another.
    """

    walk: Walk
    options: HashOptions
    min_size: int = 1
    tick: Callable[[], None] | None = None
    failed: list[FileHash] = field(default_factory=list)
    files: int = 0

    def __iter__(self) -> Iterator[Group]:
        """Groups, in the order of their first names in the walk."""
        whole: dict[tuple[int, str], list[_Found]] = {}
        alike: dict[tuple[int, str], list[_Found]] = {}
        order = array("q")
        for number, result in self._hashed(self._candidates(order), True):
            size = result[3][0]  # type: ignore[index]  # by place and not by name: there may be millions
            found = alike if size > HEAD else whole
            found.setdefault((size, result[2][0]), []).append((order[number], result))
        again = sorted(one for found in alike.values() if _inodes(found) > 1 for one in found)
        del alike
        for number, result in self._hashed(_runs([each.path for _, each in again], self._follow), False):
            whole.setdefault((result.size, result.digests[0]), []).append((again[number][0], result))
        groups = [sorted(found) for found in whole.values() if len(found) > 1]
        for members in sorted(groups):
            if _inodes(members) > 1:
                yield _group([each for _, each in members])

    @property
    def _follow(self) -> bool:
        return self.walk.options.symlinks == "follow"

    def _candidates(self, order: array[int]) -> Iterator[Found]:
        """The files whose size is not theirs alone, as soon as that is known; `order` gets their places in the walk.

        So the first ones are being read while the walk goes on.
        """
        first: dict[int, tuple[int, bytes, bool] | None] = {}
        stat, least, number = os.stat, self.min_size, 0
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
                if size not in first:
                    first[size] = (number, path, follow)
                    continue
                held = first[size]
                if held is not None:
                    first[size] = None
                    if held[2] != follow:  # one of them was named by the user, and may be a link
                        yield Found(b"", run, follow)
                        yield Found(b"", [held[1]], held[2])
                        order.append(held[0])
                        run = []
                    else:
                        order.append(held[0])
                        run.append(held[1])
                order.append(number)
                run.append(path)
            self.files = number
            if run:
                yield Found(b"", run, follow)
            if self.tick is not None:
                self.tick()

    def _hashed(self, items: Iterable[Found], head: bool) -> Iterator[_Found]:
        """The results of reading these, with their places among them; failures are set aside."""
        source = iter(items)
        first = next(source, None)
        if first is None:
            return
        number = 0
        for batch in run_batches(chain((first,), source), self.options, head=head, tick=self.tick):
            for result in batch:
                if result[1] == OK:
                    yield number, result
                else:
                    self.failed.append(result)
                number += 1


def default_algorithm() -> str:
    """The quickest algorithm here under which nobody can make two files look the same."""
    try:
        return algorithm("blake3").name
    except UsageError:
        return "sha256"


def _runs(paths: list[bytes], follow: bool) -> Iterator[Found]:
    for start in range(0, len(paths), 1024):
        yield Found(b"", paths[start : start + 1024], follow)


def _inode(result: FileHash) -> tuple[int, int]:
    assert result.signature is not None
    return result.signature.dev, result.signature.ino


def _inodes(found: list[_Found]) -> int:
    return len({_inode(each) for _, each in found}) if len(found) > 1 else len(found)


def _group(members: list[FileHash]) -> Group:
    names: dict[tuple[int, int], list[bytes]] = {}
    signatures: dict[tuple[int, int], Signature] = {}
    for each in members:
        names.setdefault(_inode(each), []).append(each.path)
        assert each.signature is not None
        signatures[_inode(each)] = each.signature
    copies = tuple(Copy(tuple(found), signatures[inode]) for inode, found in names.items())
    return Group(members[0].size, members[0].digests[0], copies)
