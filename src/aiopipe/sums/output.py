"""Writing a file so that its final name is absent, the old file, or the whole new one; never a part."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from types import TracebackType

from aiopipe import held
from aiopipe.errors import OutputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["AtomicFile", "sync_directory"]


class AtomicFile:
    """A context for writing `target`: a temporary beside it, fsync, rename, fsync of the directory.

    Leaving with an exception removes the temporary and leaves the target alone. A killed process leaves the
    temporary behind under a name that begins with a dot and ends in `.aiopipe-tmp`; the next one that is written in
    that directory removes it. Raises OutputError where the directory cannot be written.
    """

    def __init__(self, target: bytes) -> None:
        # Through a symlink to the file it names, or the link itself would be replaced.
        self.target = os.path.realpath(target)
        self._shown = os.fsdecode(target)
        folder, name = os.path.split(self.target)
        self._folder = folder or b"."
        self._name = name[:170]
        self.temporary = b""
        self._lock = -1
        self._file: BinaryIO | None = None

    def __enter__(self) -> BinaryIO:
        """The file to write to."""
        try:
            if os.path.isdir(self.target):
                raise IsADirectoryError(21, "it is a directory")
            held.sweep(self._folder)
            self._file = os.fdopen(self._begin(), "wb", buffering=1 << 16)
            with contextlib.suppress(FileNotFoundError, NotImplementedError):
                os.chmod(self.temporary, os.stat(self.target).st_mode & 0o7777)
        except OSError as error:
            self._discard()
            raise OutputError(
                f"{self._shown}: cannot be written: {error.strerror}", hint="choose another place with -o"
            ) from error
        return self._file

    def _begin(self) -> int:
        """A descriptor of the temporary, which is held where the file system can do that."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        holds = held.may_hold()
        while True:
            kind = os.fsencode(held.HELD) if holds else b""
            name = b".%s.%d-%s%s.aiopipe-tmp" % (self._name, os.getpid(), secrets.token_hex(4).encode(), kind)
            self.temporary = os.path.join(self._folder, name)
            fd = os.open(self.temporary, flags, 0o666)
            lock = held.hold(fd, self.temporary) if holds else -1
            if lock is not None and (lock >= 0 or not holds):
                self._lock = lock
                return fd
            os.close(fd)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.temporary)
            holds = lock is None  # a sweep was quicker: once more; or there are no locks here

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Publish the file, or remove every trace of it."""
        assert self._file is not None
        if kind is not None:
            self._discard()
            return
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self.temporary, self.target)
            self._let_go()
            sync_directory(self._folder)
        except OSError as problem:
            self._discard()
            raise OutputError(
                f"{self._shown}: cannot be written: {problem.strerror}", hint="is the disk full?"
            ) from problem

    def _discard(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        with contextlib.suppress(OSError):
            os.unlink(self.temporary)
        self._let_go()

    def _let_go(self) -> None:
        held.let_go(self._lock)
        self._lock = -1


def sync_directory(path: bytes) -> None:
    """Make a rename in this directory last through a loss of power; nothing to do on Windows."""
    if sys.platform == "win32":
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError:
        pass  # some network file systems cannot, and have nothing else to offer
    finally:
        os.close(fd)
