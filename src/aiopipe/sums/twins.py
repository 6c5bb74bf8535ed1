"""Which of some files of one size have the same bytes: by looking at the bytes, not at a digest of them.

A worker is given all files of one size at once, so that what one of them holds is still in memory when the next is
read: each is opened once where it is small, twice where it is not, and nothing but its beginning is read of a file
that begins like no other. What is found is true whatever a hash function is worth. Anything out of the ordinary (a
file that cannot be read, that changed a moment ago, that lies on a network) is left to `Reader`, which knows it all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence

from aiopipe.sums.algorithms import algorithm
from aiopipe.sums.machine import local_devices
from aiopipe.sums.reader import BASE_FLAGS, BLOCK, NOFOLLOW, RECENT_NS, TINY, Outcome, clock_set_back

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Member = tuple[int, int, int, int, int]
    """A file's place in its family, then mtime_ns, ctime_ns, inode and device."""
    Class = tuple[str | None, list[Member]]

__all__ = ["MOST_BYTES", "MOST_FILES", "Sizes", "Twins", "family", "family_size"]

MOST_FILES = 1024
"""Files of one family at most, so that one job is not the whole run."""

MOST_BYTES = 16 << 20
"""The same for the bytes of which a worker may remember, to compare with them."""

_HELD = 16  # files of one family that are open at a time
_WHOLE = 1 << 20  # up to here a file is held in memory while others are compared with it


class _OddError(Exception):
    """One of the files is not to be judged here."""


def family(size: int, paths: Iterable[bytes]) -> bytes:
    """Files of one size as what a job names: no path has a NUL byte in it."""
    return b"\0".join([*paths, b"%d" % size])


def family_size(given: bytes) -> int:
    """About how many bytes of a family are read."""
    paths, _, size = given.rpartition(b"\0")
    return min(int(size), TINY) * (paths.count(b"\0") + 1)


class Sizes:
    """What a `Reader` is for digests, this is for sizes: a number for each path, None never; failures are the caller's.

    -1 stands for a path that has none; who asks for it again gets the reason.
    """

    maps = False

    def run(
        self,
        paths: Sequence[bytes],
        *,
        follow: bool = False,
        alone: bool = False,
        algorithms: tuple[str, ...] = (),
    ) -> Outcome:
        """The size of every path."""
        begin, begun_ns = time.perf_counter(), time.time_ns()
        look = os.stat if follow else os.lstat
        try:
            sizes: list[Any] = [look(path).st_size for path in paths]
        except OSError:
            sizes = [_size(path, follow) for path in paths]
        return Outcome(sizes, time.perf_counter() - begin, begun_ns)

    def close(self) -> None:
        """Nothing to let go of."""


def _size(path: bytes, follow: bool) -> int:
    try:
        return os.stat(path, follow_symlinks=follow).st_size
    except OSError:
        return -1


class Twins:
    """Finds files with the same bytes in families (see `family`); one per thread or process.

    The result for a family is a tuple of classes, often empty. A class with a digest has the members whose bytes are
    the same (an empty digest unless `names`, an algorithm, asks for one); one with None those that begin alike and
    are too large to be compared here. False stands for a family that has something odd in it: nothing is said of it.
    """

    maps = False

    def __init__(self, names: Sequence[str] = ()) -> None:
        import xxhash  # where it is used: sizes do without

        self._once = algorithm(names[0]).once if names else None
        self._quick = xxhash.xxh3_64_intdigest
        self._kept = memoryview(b"")
        self._block = bytearray(0)

    def run(
        self,
        families: Sequence[bytes],
        *,
        follow: bool = False,
        alone: bool = False,
        algorithms: tuple[str, ...] = (),
        seconds: float = 0.040,
    ) -> Outcome:
        """Judge families in order until `seconds` have passed, at least one of them."""
        clock, local = time.perf_counter, local_devices()
        begin, begun_ns = clock(), time.time_ns()
        deadline, fresh = begin + seconds, begun_ns - RECENT_NS
        results: list[Any] = []
        for each in families:
            if results and clock() > deadline:
                break
            *paths, size = each.split(b"\0")
            try:
                results.append(tuple(self._classes(paths, int(size), fresh, local)))
            except (_OddError, OSError):
                results.append(False)
        passed = clock() - begin
        if clock_set_back(begun_ns, passed):
            results = [False] * len(results)
        return Outcome(results, passed, begun_ns)

    def close(self) -> None:
        """Let go of what it holds."""
        self._kept, self._block = memoryview(b""), bytearray(0)

    def _classes(self, paths: list[bytes], size: int, fresh: int, local: frozenset[int]) -> list[Class]:
        """The classes of one family."""
        alike: dict[int, list[Any]] = {}
        held: list[int] = []
        os_open, read, close, quick = os.open, os.read, os.close, self._quick
        flags, length = BASE_FLAGS | NOFOLLOW, min(size, TINY + 1)

        def member(place: int, fd: int) -> Member:
            # One look is enough, as in `Reader`: a write since the reading would have moved the time of change to now.
            status = os.fstat(fd)
            changed = status.st_ctime_ns
            if (
                size != status.st_size
                or changed >= fresh
                or not changed % 1_000_000_000
                or status.st_dev not in local
                or status.st_mode & 0o170000 != 0o100000
            ):
                raise _OddError
            return place, status.st_mtime_ns, changed, status.st_ino, status.st_dev

        try:
            for place, path in enumerate(paths):
                fd = os_open(path, flags)
                held.append(fd)
                data = read(fd, TINY + 1)
                if len(data) != length:
                    raise _OddError
                key = quick(data)
                known = alike.get(key)
                if known is None:
                    # Its version is asked for once it has a twin, which costs most files a third less. Till then it
                    # stays open, so that the version is that of these very bytes.
                    if len(held) < _HELD:
                        alike[key] = [data, fd, place]
                        continue
                    alike[key] = [data, -1, member(place, fd)]
                elif known[0] == data:
                    if known[1] >= 0:
                        known[1:] = [-1, member(known[2], known[1])]
                    known.append(member(place, fd))
                else:
                    raise _OddError
                held.pop()
                close(fd)
        finally:
            for fd in held:
                close(fd)
        classes: list[Class] = []
        for known in alike.values():
            if len(known) > 3:
                if size <= TINY:
                    classes.append((self._digest(known[0]), known[2:]))
                else:
                    classes += self._compared(paths, size, known[2:])
        return classes

    def _digest(self, data: Any) -> str:
        return self._once(data) if self._once is not None else ""

    def _compared(self, paths: list[bytes], size: int, members: list[Member]) -> list[Class]:
        """Those that begin alike, each compared with the first of them; what differs from it in a class of its own."""
        inodes = {member[3:] for member in members}
        if len(inodes) < 2:
            return []
        if size > _WHOLE:
            return [(None, members)]
        if not self._block:
            self._block = bytearray(BLOCK)
            self._kept = memoryview(bytearray(_WHOLE))
        kept = self._kept[:size]
        known = {members[0][3:]: True}

        def keep(fd: int) -> bool:
            return _filled(fd, kept)

        def compare(fd: int) -> bool:
            return self._is_kept(fd, kept)

        self._looked(paths, size, members[0], keep)
        same: list[Member] = []
        others: list[Member] = []
        for member in members:
            inode = member[3:]
            if inode not in known:
                known[inode] = self._looked(paths, size, member, compare)
            (same if known[inode] else others).append(member)
        classes: list[Class] = []
        if len({member[3:] for member in same}) > 1:
            classes.append((self._digest(kept), same))
        if len({member[3:] for member in others}) > 1:
            classes.append((None, others))
        return classes

    def _looked(self, paths: list[bytes], size: int, member: Member, look: Callable[[int], bool]) -> bool:
        """What `look` says of a file that is still the version whose beginning was read."""
        fd = os.open(paths[member[0]], BASE_FLAGS | NOFOLLOW)
        try:
            answer = look(fd)
            after = os.fstat(fd)
        finally:
            os.close(fd)
        if (size, *member[1:]) != (after.st_size, after.st_mtime_ns, after.st_ctime_ns, after.st_ino, after.st_dev):
            raise _OddError
        return answer

    def _is_kept(self, fd: int, kept: memoryview) -> bool:
        """Whether a file holds what is kept, block by block."""
        block, place = self._block, 0
        view = memoryview(block)
        while place < len(kept):
            count = os.readv(fd, [view[: len(kept) - place]])
            if not count:
                raise _OddError
            # A bytearray on the left: it compares memory, where a memoryview compares items.
            piece = block if count == len(block) else block[:count]
            if piece != kept[place : place + count]:
                return False
            place += count
        return True


def _filled(fd: int, view: memoryview) -> bool:
    """Read until the view is full."""
    while view:
        count = os.readv(fd, [view])
        if not count:
            raise _OddError
        view = view[count:]
    return True
