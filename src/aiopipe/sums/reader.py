"""Reading files safely, a batch at a time: the innermost loop, the same in every thread and process.

One call opens, checks, reads, hashes and closes many files, because a hop to another thread costs more than
hashing a small file. Nothing blocks on a FIFO (`O_NONBLOCK`), nothing follows a symlink that replaced a file
(`O_NOFOLLOW`), and a digest is handed over only where the file was one and the same version from the first
byte to the last: bytes read = size, and the times of modification and change are equal before and after.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Sequence

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from aiopipe.signals import signals
from aiopipe.sums.algorithms import Algorithm, algorithm
from aiopipe.sums.machine import local_devices
from aiopipe.sums.model import IRREGULAR, OK, UNREADABLE, UNSTABLE, VANISHED, FileHash, Signature
from aiopipe.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["LARGE", "TINY", "Outcome", "Reader"]

TINY = 16 * 1024
"""Up to here a file found by a walk is read before anything else is asked about it."""

SMALL = 128 * 1024
"""Up to here a file is one read into memory and one call of the hash function. Past it, memory would be new for every
file, and the kernel's work for new pages costs a quarter of the time under a quick algorithm."""

LARGE = 8 * 1024 * 1024
"""Past here a file is handed back, to be a job of its own."""

BLOCK = 128 * 1024  # stays in the second-level cache between the kernel's copy and the hash; 5 % over 256 KiB
_ASKED = 1024 * 1024  # between two looks at whether the run was stopped: each is a system call in a worker
_FIRST = 64 * 1024  # of a file that says it is smaller: files in /proc say 0
_WIDE_BLOCK = 8 * 1024 * 1024  # BLAKE3 shares a block among cores, which pays from a few MiB on
_MAPPED = 384 * 1024  # from here on a map costs less than a copy; below, the kernel's work for it is more
_WINDOW = 8 * 1024 * 1024  # of a file that is mapped: so much of it counts as our memory
_TICK_NS = 20_000_000  # the coarsest common clock tick: two writes within it may bear the same time
RECENT_NS = 200_000_000  # longer than a write is likely to be held up half-way
_CLOCK_DRIFT = 0.05  # seconds by which two clocks may differ over one job
_MANY_CORES = (os.cpu_count() or 1) >= 4  # on fewer, a thread for each lane is as quick without hand-offs
_MOST_LINKS = 65_536

BASE_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
BASE_FLAGS |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)


Links = dict[tuple[Signature, tuple[str, ...]], tuple[str, ...]]


if TYPE_CHECKING:
    Results = list[FileHash | tuple[Any, ...] | None]


class Outcome(NamedTuple):
    """What came of a run of paths: one result per path handled, None where the file is to be read alone.

    Paths past `len(results)` were not touched: the time was up, or the run was stopped. Of a lean reader most results
    are plain tuples (see `Reader`), and `size` is how many bytes those files have.
    """

    results: Results
    seconds: float
    begun_ns: int
    size: int = 0


class _ChangedError(Exception):
    """The file did not stay one version while it was read."""


class StoppedError(Exception):
    """The run was stopped in the middle of a file."""


def _never() -> bool:
    return False


def clock_set_back(begun_ns: int, passed: float) -> bool:
    """Whether somebody set the clock back in the seconds passed: what was written then may bear an old time."""
    return time.time_ns() - begun_ns < (passed - _CLOCK_DRIFT) * 1e9


class Reader:
    """Hashes runs of paths with the same algorithms; one per thread or process.

    `stopped` is asked between the blocks of large files; small ones are soon done. `seen_links` may be
    shared between the readers of one process, so that a file with many names is read once. `on_bytes` is
    told of progress inside large files. With `head`, of a file larger than `TINY` only that much is hashed: enough
    to tell most files of one size apart, by whoever then looks at the whole of those that are alike.

    With `lean`, an ordinary file that has its digests is not a `FileHash` but the tuple of its digests, with `signed`
    followed by its signature: its path is known to who asked, and a tenth of the time of a small file is saved.

    `maps`, once set, allows it to map files: up to a third less time under a quick algorithm, as nothing is copied. But
    the kernel kills who reads a map of a file that was cut short, so that is for worker processes, which are replaced.
    """

    def __init__(
        self,
        algorithms: Sequence[str],
        *,
        head: bool = False,
        lean: bool = False,
        signed: bool = False,
        stopped: Callable[[], bool] = _never,
        seen_links: Links | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        self._names = self._asked = tuple(algorithms)
        self._use(self._asked)
        self._stopped = stopped
        self._links = seen_links if seen_links is not None else {}
        self._on_bytes = on_bytes
        self._head = head
        self._lean, self._signed, self._size = lean, signed, 0
        self.maps = False
        self._buffer = bytearray(0)

    def run(
        self,
        paths: Sequence[bytes],
        *,
        follow: bool = False,
        alone: bool = False,
        algorithms: tuple[str, ...] = (),
        seconds: float = 0.040,
    ) -> Outcome:
        """Hash the paths in order until `seconds` have passed.

        With `alone` even a large file is read here and now; `algorithms` are used instead of the reader's
        own. Errors never escape: they are results.
        """
        if (algorithms or self._asked) != self._names:
            self._use(algorithms or self._asked)
        local = frozenset() if alone else local_devices()
        begin, begun_ns = time.perf_counter(), time.time_ns()
        results = self._results(paths, follow, alone, local, begun_ns - RECENT_NS, begin + seconds)
        passed = time.perf_counter() - begin
        if local and clock_set_back(begun_ns, passed):
            results = self._results(paths, follow, alone, frozenset(), begun_ns - RECENT_NS, begin + passed + seconds)
        return Outcome(results, time.perf_counter() - begin, begun_ns, self._size)

    def _results(
        self,
        paths: Sequence[bytes],
        follow: bool,
        alone: bool,
        local: frozenset[int],
        fresh: int,
        deadline: float,
    ) -> Results:
        """Results until the deadline, at least one. `fresh` is the change time from which on a file is recent."""
        results: Results = []
        flags = BASE_FLAGS if follow else BASE_FLAGS | NOFOLLOW
        # Locals: this loop runs tens of thousands of times a second.
        clock, append = time.perf_counter, results.append
        make: Any = tuple.__new__  # a named tuple's own constructor is a Python function: 0.5 us more
        os_open, fstat, read, close = os.open, os.fstat, os.read, os.close
        pread: Any = getattr(os, "pread", None)  # not on Windows, where nothing is tiny
        once = self._once[0] if len(self._once) == 1 else None
        tiny, head = bool(local), self._head
        lean, signed, total = self._lean, self._signed, 0
        for path in paths:
            if results and clock() > deadline:
                break
            try:
                fd = os_open(path, flags)
            except OSError as error:
                append(_refused(path, error, follow))
                continue
            try:
                if tiny:
                    # Not `read`: what a user named may be a pipe, and that would take from it what is for others.
                    data = pread(fd, TINY + 1, 0)
                    size = len(data)
                    if 0 < size <= TINY:
                        digests = (once(data),) if once is not None else tuple([each(data) for each in self._once])
                        # One look is enough here: a write since the reading began would have moved the time of
                        # change to now. Whole seconds are what a file system with coarse times has.
                        after = fstat(fd)
                        changed = after.st_ctime_ns
                        if (
                            size == after.st_size
                            and changed < fresh
                            and changed % 1_000_000_000
                            and after.st_dev in local
                            and after.st_nlink == 1
                            and after.st_mode & 0o170000 == 0o100000
                        ):
                            if lean and not signed:
                                append(digests)
                                total += size
                                continue
                            version = (size, after.st_mtime_ns, changed, after.st_ino, after.st_dev)
                            if lean:
                                append(digests + version)
                            else:
                                append(make(FileHash, (path, OK, digests, make(Signature, version), "", "read")))
                            continue
                before = fstat(fd)
                size = before.st_size
                if head and size > TINY and before.st_mode & 0o170000 == 0o100000:
                    data = read(fd, TINY)
                    append(FileHash(path, OK, tuple([each(data) for each in self._once]), _signature(before)))
                    continue
                tiny = bool(local) and size <= TINY  # neighbours are alike
                if (
                    0 < size <= LARGE
                    and before.st_mode & 0o170000 == 0o100000
                    and before.st_nlink == 1
                    and before.st_ctime_ns < fresh
                ):
                    if size <= SMALL:
                        data = read(fd, size + 1)
                        count = len(data)
                        digests = (once(data),) if once is not None else tuple([each(data) for each in self._once])
                    else:
                        digests, count = self._blocks(fd, before)
                    after = fstat(fd)
                    if (
                        count == size == after.st_size
                        and after.st_mtime_ns == before.st_mtime_ns
                        and after.st_ctime_ns == before.st_ctime_ns
                    ):
                        if lean and not signed:
                            append(digests)
                            total += size
                            continue
                        version = (size, before.st_mtime_ns, before.st_ctime_ns, before.st_ino, before.st_dev)
                        if lean:
                            append(digests + version)
                        else:
                            append(make(FileHash, (path, OK, digests, make(Signature, version), "", "read")))
                    else:
                        append(self._careful(fd, path))
                elif size > LARGE and not alone and stat.S_ISREG(before.st_mode):
                    append(None)
                else:
                    append(self._careful(fd, path))
            except StoppedError:
                break
            except OSError as error:
                append(_unread(fd, path, error, follow))
            finally:
                close(fd)
        self._size = total
        return results

    def close(self) -> None:
        """Let go of what it holds."""

    def _use(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._algorithms: tuple[Algorithm, ...] = tuple(algorithm(name) for name in names)
        self._once = tuple(each.once for each in self._algorithms)

    def _careful(self, fd: int, path: bytes) -> FileHash:
        """Everything but the ordinary small file; reads again, once, where the file changed under it."""
        for _attempt in (1, 2):
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return FileHash(path, IRREGULAR, (), None, _kind(status.st_mode))
            try:
                status = _settled(fd, status)
                signature = _signature(status)
                known = self._links.get((signature, self._names)) if status.st_nlink > 1 else None
                if known is not None:
                    return FileHash(path, OK, known, signature, how="link")
                os.lseek(fd, 0, os.SEEK_SET)
                digests, count = self._read(fd, status)
                # /proc has files of size 0 with something in them; like everyone, take what is there.
                if _signature(os.fstat(fd)) != signature or (count != status.st_size and status.st_size):
                    continue
            except _ChangedError:
                continue
            if status.st_nlink > 1:
                if len(self._links) >= _MOST_LINKS:
                    self._links.clear()
                self._links[signature, self._names] = digests
            return FileHash(path, OK, digests, signature._replace(size=count))
        return FileHash(path, UNSTABLE, (), None, "it changed while it was read, twice")

    def _read(self, fd: int, status: os.stat_result) -> tuple[tuple[str, ...], int]:
        """The digests of a file from here to its end, and how many bytes that was."""
        size = status.st_size
        if size <= SMALL:
            data = os.read(fd, max(size, _FIRST) + 1)
            while more := os.read(fd, _FIRST):
                data += more
                if len(data) > (size or LARGE):
                    raise _ChangedError  # it grows: reading on could go on for ever
            if self._on_bytes is not None:
                self._on_bytes(len(data))
            return tuple([each(data) for each in self._once]), len(data)
        digests, count = self._blocks(fd, status)
        if count > size:
            raise _ChangedError
        return digests, count

    def _blocks(self, fd: int, status: os.stat_result) -> tuple[tuple[str, ...], int]:
        """The same for a file of more than one block; it stops where there is more than there should be."""
        size = status.st_size
        block = BLOCK
        hashers = [each.new() for each in self._algorithms]
        if size > LARGE and _MANY_CORES and len(hashers) == 1 and self._algorithms[0].wide is not None:
            block, hashers = _WIDE_BLOCK, [self._algorithms[0].wide()]
        count, stopped, tell = 0, self._stopped, self._on_bytes
        updates = [each.update for each in hashers]
        if self.maps and size >= _MAPPED and status.st_dev in local_devices() and self._mapped(fd, size, updates):
            return tuple([each.hexdigest() for each in hashers]), size
        if len(self._buffer) != block:
            self._buffer = bytearray(block)
        view = memoryview(self._buffer)
        into, ask = _reader_into(fd), _ASKED
        while got := into(view):
            piece = view if got == block else view[:got]
            for update in updates:
                update(piece)
            count += got
            if count >= ask:
                ask = count + _ASKED
                if stopped():
                    raise StoppedError
            if count > size:
                break  # it grows: reading on could go on for ever
            if tell is not None:
                tell(got)
        return tuple([each.hexdigest() for each in hashers]), count

    def _mapped(self, fd: int, size: int, updates: list[Callable[[Any], Any]]) -> bool:
        """Hash a file where the kernel has it, window by window; False, and nothing done, where it cannot be mapped."""
        import mmap

        for place in range(0, size, _WINDOW):
            try:
                view = mmap.mmap(fd, min(_WINDOW, size - place), mmap.MAP_SHARED, mmap.PROT_READ, offset=place)
            except ValueError as error:  # it has become shorter than that
                raise _ChangedError from error
            except OSError:
                if place == 0:
                    return False
                raise
            with view:
                view.madvise(mmap.MADV_SEQUENTIAL)
                for update in updates:
                    update(view)
            if self._stopped():
                raise StoppedError
            if self._on_bytes is not None:
                self._on_bytes(min(_WINDOW, size - place))
        return True


def _reader_into(fd: int) -> Callable[[memoryview], int]:
    readv: Any = getattr(os, "readv", None)
    if readv is None:  # Windows

        def copied(view: memoryview) -> int:
            data = os.read(fd, len(view))
            view[: len(data)] = data
            return len(data)

        return copied

    def direct(view: memoryview) -> int:
        got: int = readv(fd, (view,))
        return got

    return direct


def _signature(status: os.stat_result) -> Signature:
    return Signature(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


def _settled(fd: int, status: os.stat_result) -> os.stat_result:
    """Wait until a change from now on would bear a later time than the last one does.

    File systems stamp changes with a clock that ticks every 1 to 10 ms. A file changed in this very tick
    could change again, at the same size, and show the same times. A time in the future is a clock that
    differs (a network file system): waiting would not help. Raises _ChangedError where it goes on changing.
    """
    for _ in range(3):
        age = time.time_ns() - status.st_ctime_ns
        if not 0 <= age < _TICK_NS:
            if 0 <= age < RECENT_NS and _open_for_writing(fd):
                break  # a write is stamped when it begins, and this one may not have ended yet
            return status
        time.sleep((_TICK_NS - age) / 1e9)
        status = os.fstat(fd)
    raise _ChangedError


def _open_for_writing(fd: int) -> bool:
    """Whether anybody may be writing to the file at this moment, as far as the kernel tells (Linux).

    A read lease is granted only where nobody has the file open for writing (fcntl(2), "Leases"). It is given
    back at once. The signal for a writer that arrives in between is one that is ignored by default.
    """
    if fcntl is None or not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signals.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN  # else: not our file, or a file system without leases
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _kind(mode: int) -> str:
    for test, name in (
        (stat.S_ISDIR, "it is a directory"),
        (stat.S_ISFIFO, "it is a FIFO"),
        (stat.S_ISSOCK, "it is a socket"),
        (stat.S_ISLNK, "it is a symbolic link"),
    ):
        if test(mode):
            return name
    return "it is a device"


def _unread(fd: int, path: bytes, error: OSError, follow: bool) -> FileHash:
    """The result for what could be opened and not read."""
    if error.errno == errno.ESPIPE and not stat.S_ISREG(mode := os.fstat(fd).st_mode):
        return FileHash(path, IRREGULAR, (), None, _kind(mode))
    return _refused(path, error, follow)


def _refused(path: bytes, error: OSError, follow: bool) -> FileHash:
    """The result for a path that could not be opened or read."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return FileHash(path, VANISHED, (), None, "no such file or directory")
    if error.errno == errno.ENXIO:
        return FileHash(path, IRREGULAR, (), None, "it is a socket or a device without a driver")
    if error.errno in (errno.EAGAIN, errno.ESPIPE):
        return FileHash(path, IRREGULAR, (), None, "it is a FIFO or a device")
    if error.errno == errno.EISDIR:
        return FileHash(path, IRREGULAR, (), None, "it is a directory")
    if error.errno == errno.ELOOP:
        return FileHash(path, IRREGULAR, (), None, "too many symbolic links" if follow else "it became a symbolic link")
    return FileHash(path, UNREADABLE, (), None, (error.strerror or str(error)).lower())
