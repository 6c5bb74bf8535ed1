"""Small files as a group that travels unread: one hop, here or in a worker process, reads them and puts what comes of
them beside their targets.

The event loop's process then has only to find the files and to show the outputs. That is for files with which nothing
is the matter: where one of a group is (it cannot be read, its header is none, its output cannot be written), what was
put is removed again, and the group goes the way of all other files, which knows what to do about it.

The names of a group's temporaries are settled before it travels. So whatever becomes of who has it, what it left can be
found and removed.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiopipe.codec.chunk import Chunk
from aiopipe.codec.dialect import Dialect
from aiopipe.failures import Failures
from aiopipe.model import FileRef, files_from, files_in_columns
from aiopipe.storage.opening import Input
from aiopipe.storage.small import small_files
from aiopipe.storage.version import quick_hash
from aiopipe.storage.write import attempt, names, reserved
from aiopipe.tuples import NamedTuple

__all__ = ["Group", "Groups", "Readings"]


class Readings(NamedTuple):
    """How files were as they were read, a column each: their signatures, the hashes of their bytes, and when.

    sizes, mtimes, inodes, ctimes: as in a Version. hashes: XXH3, 128 bits. read_at: nanoseconds of the epoch when the
    first of them was read.
    """

    sizes: list[int]
    mtimes: list[int]
    inodes: list[int]
    ctimes: list[int]
    hashes: list[bytes]
    read_at: int

    def only(self, places: Sequence[int]) -> Readings:
        """Those of the files at these places."""
        return Readings(
            [self.sizes[i] for i in places],
            [self.mtimes[i] for i in places],
            [self.inodes[i] for i in places],
            [self.ctimes[i] for i in places],
            [self.hashes[i] for i in places],
            self.read_at,
        )


@dataclass(frozen=True, slots=True, eq=False, repr=False)  # of 256 files: nobody compares or prints it
class Group:
    """Small files that nobody has read yet.

    attempt, first: whose the temporaries are, and the number of the first one; the others follow. hashed: whether
    somebody wants to know the hashes of inputs and outputs. retries: how often a file that changes is read again.
    """

    files: tuple[FileRef, ...]
    dialects: tuple[Dialect, ...]
    attempt: str
    first: int
    hashed: bool
    retries: int

    def __len__(self) -> int:
        return 0  # records: nobody has counted yet

    def __reduce__(self) -> tuple[object, ...]:
        files = files_in_columns(self.files)
        return _revived, (files, self.dialects, self.attempt, self.first, self.hashed, self.retries)

    @property
    def nbytes(self) -> int:
        """Bytes of the files, as they were found."""
        return sum(file.size for file in self.files)

    @property
    def inputs(self) -> list[Input]:
        """The files with how they are to be read."""
        return list(map(Input, self.files, self.dialects))

    @property
    def names(self) -> list[str]:
        """What the temporaries are called, one for each file, in order."""
        return names(self.attempt, self.first, len(self.files))

    def read(self) -> tuple[list[Chunk], Readings | None]:
        """All files, and how they were if that is wanted. AiopipeError where one is not as it should be. Blocks."""
        seen = _Seen() if self.hashed else None
        chunks, error = small_files(self.inputs, Failures(retries=self.retries), seen)
        if error is not None:
            raise error
        return chunks, None if seen is None else seen.readings

    def remove(self, output_of: Callable[[str], str]) -> None:
        """Remove what there may be of its temporaries. output_of: a file's target, by its relative path. Blocks."""
        for file, name in zip(self.files, self.names, strict=True):
            with contextlib.suppress(Exception):  # a file that has no target has no temporary
                os.unlink(os.path.join(os.path.dirname(output_of(file.relative)), name))


def _revived(files: tuple[tuple[Any, ...], ...], *rest: Any) -> Group:
    """What `Group.__reduce__` took apart."""
    return Group(files_from(files), *rest)


class _Seen:
    """What takes note of files as they are read, one after the other, where no ledger is at hand; as `stage.Units`."""

    def __init__(self) -> None:
        self.readings = Readings([], [], [], [], [], time.time_ns())

    def was_read(self, file: FileRef, status: os.stat_result, data: bytes) -> None:
        sizes, mtimes, inodes, ctimes, hashes, _ = self.readings
        sizes.append(status.st_size)
        mtimes.append(status.st_mtime_ns)
        inodes.append(status.st_ino)
        ctimes.append(status.st_ctime_ns)
        hashes.append(quick_hash(data))


class Groups:
    """The groups of a run that are on their way; any thread may call. hashed, retries: as for Group."""

    def __init__(self, *, hashed: bool, retries: int) -> None:
        self._hashed = hashed
        self._retries = retries
        self._away: dict[int, tuple[Group, int]] = {}  # by the number of its first temporary: and how many are left
        self._lock = threading.Lock()

    def begin(self, inputs: Sequence[Input]) -> Group:
        """The files as a group, which is on its way from now on."""
        files, dialects = tuple(i.file for i in inputs), tuple(i.dialect for i in inputs)
        group = Group(files, dialects, attempt(), reserved(len(files)), self._hashed, self._retries)
        with self._lock:
            self._away[group.first] = group, len(files)
        return group

    def arrived(self, first: int, count: int) -> None:
        """Somebody takes care of the temporaries of so many files of a group from now on."""
        with self._lock:
            group, left = self._away.pop(first)
            if left > count:
                self._away[first] = group, left - count

    def give_up(self, group: Group, output_of: Callable[[str], str]) -> None:
        """Nobody works on a group any more: remove what came of it. Blocks."""
        group.remove(output_of)
        with self._lock:
            self._away.pop(group.first, None)

    def sweep(self, output_of: Callable[[str], str]) -> None:
        """The run is over, and nobody works on any: remove what did not arrive. Blocks."""
        for group, _ in list(self._away.values()):
            self.give_up(group, output_of)

    def __len__(self) -> int:
        return len(self._away)
