"""Write beside, then rename: a target is absent, the old complete file, or the new complete one.

The order is that of restic's local backend: write a temporary in the target's own directory, sync it, rename
it over the target, sync the directory. Many small files share one sync: `syncfs(2)` where there is one.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import re
import stat
import threading
from collections.abc import Callable, Iterable
from typing import Any

from aiopipe import held
from aiopipe.errors import OutputError
from aiopipe.model import display_path
from aiopipe.storage.version import Checksum, Version
from aiopipe.tuples import NamedTuple

__all__ = [
    "Made",
    "Temporary",
    "attempt",
    "create",
    "folds_case",
    "keep_mode",
    "make_directories",
    "names",
    "new_names",
    "pour",
    "reserved",
    "sync_directories",
    "sync_file_system",
    "syncfs",
    "temporary_of",
    "trouble",
]

# Of this process: with its id part of the name of every temporary, so that a later run knows whose they were.
_TOKEN = os.urandom(4).hex()  # what `secrets` does, without the 4 ms to import it
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NAME = re.compile(r"\.aiopipe-(\d+-[0-9a-f]{8})-\d+(?:\.held)?\.tmp")


class _Counter:
    """Numbers for the names of temporaries; any thread may take some."""

    def __init__(self) -> None:
        self._next = 0
        self._lock = threading.Lock()

    def take(self, count: int = 1) -> int:
        with self._lock:
            first, self._next = self._next, self._next + count
            return first


_counter = _Counter()


def attempt() -> str:
    """The name of this process among all that ever wrote; a forked child has one of its own."""
    pid = os.getpid()
    return f"{pid}-{_TOKEN}"


def temporary_of(name: str) -> str | None:
    """Whose temporary a file of this name is, as `attempt` gave it; None for a file of another kind."""
    match = _NAME.fullmatch(name)
    return match[1] if match else None


class Made(NamedTuple):
    """An output that is visible: where, its bytes counted and hashed (BLAKE3), and its signature."""

    target: str
    nbytes: int
    blake3: bytes
    version: Version


def trouble(path: str, error: OSError) -> OutputError:
    """An operating system's complaint about an output, as ours."""
    hints = {
        errno.ENOSPC: "free some space and run again; nothing half was left behind",
        errno.EDQUOT: "free some of your quota and run again; nothing half was left behind",
        errno.EACCES: "check the permissions of the directory",
        errno.EROFS: "the file system is mounted read-only",
        errno.EISDIR: "a directory stands where the file should go: name a file, or end the path with /",
        errno.ENOTDIR: "a file stands where a directory should be",
        errno.ENAMETOOLONG: "the name is too long for this file system",
    }
    return OutputError(
        f"cannot write {display_path(path)}: {error.strerror or error}",
        stage="write",
        hint=hints.get(error.errno or 0, "check the disk and run again; nothing half was left behind"),
    )


class Temporary:
    """A file being written beside its target. `commit` makes it the target, `discard` removes it.

    Every method blocks: call it off the loop. OutputError says what the system would not do. hashed: whether its
    bytes are hashed as they are written, for `made`. alone: no ledger knows of it, so it is held by a lock, and what
    killed runs left of this kind in the directory is removed; see aiopipe.held.
    """

    def __init__(self, target: str, *, hashed: bool = False, alone: bool = False) -> None:
        self.target = target
        self.directory = directory = os.path.dirname(target) or "."
        self.path = ""
        self.nbytes = 0
        self._lock = -1
        self._checksum = Checksum() if hashed else None
        self._fd = -1
        self._grown: list[str] = []  # directories that got a new one in them
        if alone:
            held.sweep(directory)
        try:
            try:
                self._begin(directory, alone)
            except FileNotFoundError:
                self._grown = make_directories(directory)
                self._begin(directory, alone)
            keep_mode(self._fd, self.target)
        except OSError as error:
            self.discard()
            raise trouble(target, error) from None

    @classmethod
    def resume(cls, target: str, path: str, nbytes: int, checksum: Checksum) -> Temporary:
        """Go on with one that an earlier run left at `path`, behind its first bytes, which `checksum` has seen."""
        self = cls.__new__(cls)
        self.target, self.path, self.nbytes = target, path, nbytes
        self.directory = os.path.dirname(target) or "."
        self._checksum, self._grown = checksum, []
        self._fd = self._lock = -1
        try:
            self._fd = os.open(path, os.O_WRONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
            os.ftruncate(self._fd, nbytes)
            os.lseek(self._fd, nbytes, os.SEEK_SET)
            keep_mode(self._fd, self.target)
        except OSError as error:
            self.discard()
            raise trouble(target, error) from None
        return self

    def _begin(self, directory: str, alone: bool) -> None:
        """Make the file, and hold it where that is asked for and possible."""
        while alone and held.may_hold():
            self.path = _new_path(directory, held.HELD)
            self._fd = create(self.path)
            lock = held.hold(self._fd, self.path)
            if lock is not None and lock >= 0:
                self._lock = lock
                return
            fd, self._fd = self._fd, -1
            os.close(fd)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            alone = lock is None  # a sweep was quicker: once more; or there are no locks here
        self.path = _new_path(directory)
        self._fd = create(self.path)

    def write(self, data: Any) -> None:
        """Append bytes, all of them."""
        view = data if isinstance(data, bytes) or not len(data) else memoryview(data).cast("B")
        self.nbytes += len(view)
        if self._checksum is not None and len(view):
            self._checksum.update(view)
        try:
            pour(self._fd, view)
        except OSError as error:
            self.discard()
            raise trouble(self.target, error) from None

    @property
    def so_far(self) -> tuple[int, bytes]:
        """How many bytes were written, and their hash; for one that is hashed, and while nobody writes."""
        assert self._checksum is not None
        return self.nbytes, self._checksum.digest()

    def sync(self, *, name: bool) -> None:
        """Bring what was written so far to the disk; others may go on writing. name: its name in the directory, too."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise trouble(self.target, error) from None
        if name:
            sync_directories(dict.fromkeys([*self._grown, self.directory]))

    def leave(self) -> None:
        """Close it and let it lie, for a later run to go on with."""
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):
            os.close(fd)

    def close(self, *, sync: bool) -> None:
        """No more bytes; with sync=True they are on the disk when this returns."""
        try:
            if sync:
                os.fsync(self._fd)
            # The number is free even where close() fails: nobody may close it a second time.
            fd, self._fd = self._fd, -1
            os.close(fd)
        except OSError as error:
            self.discard()
            raise trouble(self.target, error) from None

    def publish(self) -> None:
        """Rename over the target: the moment at which the output becomes visible."""
        try:
            os.replace(self.path, self.target)
        except OSError as error:
            self.discard()
            raise trouble(self.target, error) from None

    def commit(self, ready: Callable[[], None] | None = None) -> None:
        """Close, sync, publish and sync the directory. ready: called when all is on the disk but the name."""
        self.close(sync=True)
        if ready is not None:
            try:
                ready()
            except BaseException:
                self.discard()
                raise
        self.publish()
        held.let_go(self._lock)
        self._lock = -1
        sync_directories(dict.fromkeys([*self._grown, self.directory]))

    @property
    def blake3(self) -> bytes:
        """The hash of what was written so far, of one that is hashed."""
        assert self._checksum is not None
        return self._checksum.digest()

    def made(self) -> Made:
        """What became of it; for one that was hashed, once it is published."""
        assert self._checksum is not None
        try:
            return Made(self.target, self.nbytes, self._checksum.digest(), Version.of(os.stat(self.target)))
        except OSError as error:
            raise trouble(self.target, error) from None

    def discard(self) -> None:
        """Remove what was written so far; the target is as it was."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        held.let_go(self._lock)
        self._lock = -1


def _new_path(directory: str, kind: str = "") -> str:
    return os.path.join(directory, f".aiopipe-{attempt()}-{_counter.take()}{kind}.tmp")


def names(whose: str, first: int, count: int) -> list[str]:
    """What `count` temporaries of an attempt are called whose numbers `reserved` gave."""
    return [f".aiopipe-{whose}-{number}.tmp" for number in range(first, first + count)]


def reserved(count: int) -> int:
    """The first of `count` numbers that no other temporary of this process gets."""
    return _counter.take(count)


def new_names(count: int) -> list[str]:
    """What so many temporaries of this process are called that nobody has begun."""
    return names(attempt(), reserved(count), count)


def create(path: str) -> int:
    """A new file's descriptor. OSError, also where there is one of that name."""
    return os.open(path, _NEW, 0o666)


def pour(fd: int, data: bytes | memoryview) -> None:
    """Write bytes, all of them. OSError."""
    size = len(data)
    while size and (written := os.write(fd, data)) < size:
        data = memoryview(data)[written:]
        size -= written


def keep_mode(fd: int, target: str) -> None:
    """A target that is replaced keeps its permissions; one that is a directory is refused now, by an OSError."""
    try:
        old = os.stat(target)
    except OSError:
        return
    if stat.S_ISDIR(old.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if hasattr(os, "fchmod"):
        with contextlib.suppress(OSError):
            os.fchmod(fd, stat.S_IMODE(old.st_mode))


def make_directories(path: str) -> list[str]:
    """Make a directory and those above it that are missing; the ones that a new name now stands in.

    They must be synced for the new directories to last.
    """
    missing: list[str] = []
    at = os.path.normpath(path)
    while not os.path.isdir(at) and at not in missing:
        missing.append(at)
        at = os.path.dirname(at) or "."
    for one in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another thread was quicker; a file is found out by who uses it
            os.mkdir(one)
    return [os.path.dirname(one) or "." for one in missing]


def folds_case(directory: str) -> bool:
    """Whether names in the directory that differ only by case are one name, as on most disks of Windows and macOS."""
    probe = Temporary(os.path.join(directory, "probe"))
    try:
        return os.path.exists(os.path.join(directory, os.path.basename(probe.path).upper()))
    finally:
        probe.discard()


@functools.cache
def syncfs() -> Any:
    """Linux's syncfs(2), or None where there is none."""
    try:
        return ctypes.CDLL(None, use_errno=True).syncfs
    except (AttributeError, OSError, TypeError):
        return None


def sync_file_system(directory: str) -> None:
    """Bring all that was written to the directory's file system to the disk; nothing where there is no syncfs(2)."""
    call = syncfs()
    if call is None:
        return
    try:
        fd = os.open(directory, os.O_RDONLY)
        try:
            while call(fd) != 0:
                code = ctypes.get_errno()
                if code != errno.EINTR:  # a signal came in between: as for Python's own calls, once more
                    raise OSError(code, os.strerror(code))
        finally:
            _close_read_only(fd)
    except OSError as error:
        raise trouble(directory, error) from None


def _close_read_only(fd: int) -> None:
    """Close a descriptor that nothing was written through: what its close() complains of concerns no data."""
    with contextlib.suppress(OSError):
        os.close(fd)


def sync_directories(directories: Iterable[str]) -> None:
    """Make renames inside these directories last; file systems that cannot are let be, as restic does."""
    if os.name == "nt":
        return
    for directory in directories:
        try:
            fd = os.open(directory or ".", os.O_RDONLY)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):  # may be written, not read: nothing to sync it by
                continue
            raise trouble(directory or ".", error) from None
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY, errno.EOPNOTSUPP):
                raise trouble(directory, error) from None
        finally:
            _close_read_only(fd)
