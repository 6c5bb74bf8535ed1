"""How far a large file is done, and whether that still holds.

A range is done when its records have been through all stages and what came of them is on the disk: not under the
output's name yet, but as the first bytes of a temporary. All of it can be checked later, because the hashes of both
beginnings are known, that of the input and that of the temporary.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing

from aiopipe.storage.version import READ_ONLY, Checksum, Version
from aiopipe.tuples import NamedTuple

__all__ = ["Reached", "Resumed", "holds"]

_BLOCK = 1 << 20


class Reached(NamedTuple):
    """A boundary between two records of an input, before which all is done.

    part: the number of the chunk that begins there; byte: its place. seen, xxh128: how many bytes of the input had
    been read by then (no fewer than `byte`), and their hash. lines, taken, rejected, given: before the boundary:
    lines of the file, records, those set aside, those in the output. names: the output's columns; None while no
    record has come to it. temporary: the file that holds the output so far: `length` bytes with this BLAKE3.
    """

    part: int
    byte: int
    seen: int
    xxh128: bytes
    lines: int
    taken: int
    rejected: int = 0
    given: int = 0
    names: tuple[str, ...] | None = None
    temporary: str = ""
    length: int = 0
    blake3: bytes = b""


class Resumed(NamedTuple):
    """A file that is gone on with: where, and the hashes to go on with, of the input and of the output.

    version: of the input when it was looked at.
    """

    reached: Reached
    version: Version
    read: Checksum
    written: Checksum


def holds(ranges: Sequence[Reached], path: str, stopping: Callable[[], bool] = lambda: False) -> Resumed | None:
    """The last of a file's ranges, given in order, up to which input and temporary still are what they were.

    path: of the input. None where not even the first one holds, or where `stopping()` became true. Blocks, and reads
    both files up to there: at the speed of a hash, which is many times that of doing the work again. OSError where
    the input cannot be read.
    """
    try:
        made = list(_matching(ranges, stopping))
    except OSError:  # the temporary is gone
        return None
    if not made:
        return None
    last = None
    version = Version.of(os.stat(path))
    places = sorted({n for r in ranges[: len(made)] for n in (r.byte, r.seen)})
    read: dict[int, Checksum] = {}
    with closing(checksums_at(path, places, stopping)) as hashed:
        for one, written in zip(ranges, made, strict=False):
            while one.seen not in read and (checksum := next(hashed, None)) is not None:
                read[checksum.count] = checksum
            if one.seen not in read or read[one.seen].digest() != one.xxh128:
                break
            last = Resumed(one, version, read[one.byte], written)
    return None if stopping() else last


def _matching(ranges: Sequence[Reached], stopping: Callable[[], bool]) -> Iterator[Checksum]:
    """The hash of the temporary at the end of each range, as long as it is what it was."""
    lengths = [r.length for r in ranges]
    with closing(checksums_at(ranges[0].temporary, lengths, stopping, quick=False)) as hashed:
        for one, checksum in zip(ranges, hashed, strict=False):
            if checksum.digest() != one.blake3:
                return
            yield checksum


def checksums_at(
    path: str, places: Sequence[int], stopping: Callable[[], bool], *, quick: bool = True
) -> Generator[Checksum, None, None]:
    """The hash of a file's first bytes at each of these places, which ascend; no more where the file ends before.

    Nor where `stopping()` becomes true. quick: as for Checksum. OSError where it cannot be read.
    """
    found = Checksum(quick=quick)
    with io.FileIO(os.open(path, READ_ONLY), "rb") as file:
        for place in places:
            while found.count < place:
                data = file.read(min(_BLOCK, place - found.count))
                if not data or stopping():
                    return
                found.update(data)
            yield found.copy()
