"""Files with the same bytes: by size, then by their first block, then by their whole digest.

Each step reads only what the step before could not tell apart. Names of one inode are one file with several
names, not duplicates. A tree that is the same every night gives the same groups in the same order. Changing
anything is `aiopipe.sums.dedupe`'s, which compares byte for byte first and trusts no digest.
"""

from __future__ import annotations

import dataclasses
import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from aiopipe.errors import UsageError
from aiopipe.sums.algorithms import algorithm
from aiopipe.sums.engine import HashOptions, run_batches
from aiopipe.sums.model import OK, FileHash, Found, Problem, Signature
from aiopipe.sums.walk import Walk

__all__ = ["HEAD", "Copy", "Duplicates", "Group", "default_algorithm"]

HEAD = 4096
"""Bytes of the first block: most files of one size differ within them."""


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

    Files under `min_size` bytes are left alone. Holds each file's path and size in memory: about 110 bytes
    for each file, and some 400 for each that shares its size with another.
    """

    walk: Walk
    options: HashOptions
    min_size: int = 1
    tick: Callable[[], None] | None = None
    failed: list[FileHash] = field(default_factory=list)
    files: int = 0

    def __iter__(self) -> Iterator[Group]:
        """Groups, in the order of their first names in the walk."""
        paths, sizes = self._sized()
        self.files = len(paths)
        seen: dict[int, int] = {}
        for size in sizes:
            seen[size] = seen.get(size, 0) + 1
        places = (place for place, size in enumerate(sizes) if seen[size] > 1)
        by_head: dict[tuple[int, str], list[tuple[int, FileHash]]] = {}
        quick = dataclasses.replace(self.options, algorithms=(quick_algorithm(),))
        for number, result in enumerate(self._hashed((paths[place] for place in places), quick, HEAD)):
            by_head.setdefault((result.size, result.digests[0]), []).append((number, result))
        alike = [found for found in by_head.values() if len(found) > 1]
        del by_head
        alike = [found for found in alike if _inodes([each for _, each in found]) > 1]
        candidates = sorted(((number, each.path) for found in alike for number, each in found))
        groups: dict[tuple[int, str], list[FileHash]] = {}
        for result in self._hashed((path for _, path in candidates), self.options, 0):
            groups.setdefault((result.size, result.digests[0]), []).append(result)
        for members in groups.values():  # in the order of their first members, as a dict keeps it
            if _inodes(members) > 1:
                yield _group(members)

    def _sized(self) -> tuple[list[bytes], array[int]]:
        paths: list[bytes] = []
        sizes = array("q")
        stat, least = os.stat, self.min_size
        for item in self.walk:
            if isinstance(item, Problem):
                self.failed.append(FileHash(item.path, item.status, (), None, item.reason))
                continue
            prefix = item.prefix
            for name in item.names:
                path = prefix + name
                try:
                    size = stat(path, follow_symlinks=item.follow).st_size
                except OSError as error:
                    self.failed.append(FileHash(path, "unreadable", (), None, (error.strerror or "").lower()))
                    continue
                if size >= least:
                    paths.append(path)
                    sizes.append(size)
            if self.tick is not None:
                self.tick()
        return paths, sizes

    def _hashed(self, paths: Iterable[bytes], options: HashOptions, head: int) -> Iterator[FileHash]:
        """The results of reading these; failures are set aside."""
        source = iter(paths)
        first = next(source, None)
        if first is None:
            return
        follow = self.walk.options.symlinks == "follow"
        batches = run_batches(_runs(chain((first,), source), follow), options, head=head, tick=self.tick)
        for batch in batches:
            for result in batch:
                if result.status == OK:
                    yield result
                else:
                    self.failed.append(result)


def default_algorithm() -> str:
    """The quickest algorithm here under which nobody can make two files look the same."""
    try:
        return algorithm("blake3").name
    except UsageError:
        return "sha256"


def quick_algorithm() -> str:
    """The quickest there is, for a first look that decides nothing alone."""
    try:
        return algorithm("xxh128").name
    except UsageError:
        return "crc32"


def _runs(paths: Iterable[bytes], follow: bool) -> Iterator[Found]:
    run: list[bytes] = []
    for path in paths:
        run.append(path)
        if len(run) == 1024:
            yield Found(b"", run, follow)
            run = []
    if run:
        yield Found(b"", run, follow)


def _inode(result: FileHash) -> tuple[int, int]:
    assert result.signature is not None
    return result.signature.dev, result.signature.ino


def _inodes(results: list[FileHash]) -> int:
    return len({_inode(each) for each in results}) if len(results) > 1 else len(results)


def _group(members: list[FileHash]) -> Group:
    names: dict[tuple[int, int], list[bytes]] = {}
    signatures: dict[tuple[int, int], Signature] = {}
    for each in members:
        names.setdefault(_inode(each), []).append(each.path)
        assert each.signature is not None
        signatures[_inode(each)] = each.signature
    copies = tuple(Copy(tuple(found), signatures[inode]) for inode, found in names.items())
    return Group(members[0].size, members[0].digests[0], copies)
