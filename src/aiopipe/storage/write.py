"""Write beside, then rename: a target is absent, the old complete file, or the new complete one.

The order is that of restic's local backend: write a temporary in the target's own directory, sync it, rename
it over the target, sync the directory. Many small files share one sync: `syncfs(2)` where there is one.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import itertools
import os
import secrets
import stat
from collections.abc import Iterable, Sequence
from typing import Any

from aiopipe.errors import OutputError
from aiopipe.model import display_path

__all__ = ["Temporary", "write_whole"]

_counter = itertools.count()
_attempt = secrets.token_hex(4)


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

    Every method blocks: call it off the loop. OutputError says what the system would not do.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        directory = os.path.dirname(target) or "."
        self.path = os.path.join(directory, f".aiopipe-{os.getpid()}-{_attempt}-{next(_counter)}.tmp")
        self.nbytes = 0
        self._fd = -1
        try:
            try:
                self._fd = _create(self.path)
            except FileNotFoundError:
                os.makedirs(directory, exist_ok=True)
                self._fd = _create(self.path)
            self._keep_mode()
        except OSError as error:
            self.discard()
            raise trouble(target, error) from None

    def _keep_mode(self) -> None:
        """A target that is replaced keeps its permissions; one that is a directory is refused now."""
        try:
            old = os.stat(self.target)
        except OSError:
            return
        if stat.S_ISDIR(old.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if hasattr(os, "fchmod"):
            with contextlib.suppress(OSError):
                os.fchmod(self._fd, stat.S_IMODE(old.st_mode))

    def write(self, data: Any) -> None:
        """Append bytes, all of them."""
        view = memoryview(data).cast("B") if len(data) else memoryview(b"")
        self.nbytes += len(view)
        try:
            while len(view):
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            self.discard()
            raise trouble(self.target, error) from None

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

    def commit(self) -> None:
        """Close, sync, publish and sync the directory."""
        self.close(sync=True)
        self.publish()
        sync_directories([os.path.dirname(self.target)])

    def discard(self) -> None:
        """Remove what was written so far; the target is as it was."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1
        with contextlib.suppress(OSError):
            os.unlink(self.path)


def _create(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    return os.open(path, flags, 0o666)


def write_whole(files: Sequence[tuple[str, Iterable[Any]]]) -> int:
    """Write many files, each given whole, and make them visible together; the number of bytes written."""
    made: list[Temporary] = []
    try:
        for target, pieces in files:
            temporary = Temporary(target)
            made.append(temporary)
            for piece in pieces:
                if len(piece):
                    temporary.write(piece)
            temporary.close(sync=_syncfs() is None)
        if made:
            _sync_file_system(os.path.dirname(made[0].target) or ".")
        for temporary in made:
            temporary.publish()
    except BaseException:
        for temporary in made:
            temporary.discard()
        raise
    sync_directories({os.path.dirname(t.target) for t in made})
    return sum(t.nbytes for t in made)


@functools.cache
def _syncfs() -> Any:
    """Linux's syncfs(2), or None where there is none."""
    try:
        return ctypes.CDLL(None, use_errno=True).syncfs
    except (AttributeError, OSError, TypeError):
        return None


def _sync_file_system(directory: str) -> None:
    call = _syncfs()
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
