"""Input files opened so that nothing hangs, watched for changes, and what the system says of them in our words."""

from __future__ import annotations

import errno
import os
import stat

from aiopipe.codec.dialect import Dialect
from aiopipe.errors import ChangedError, InputError, RecordError
from aiopipe.model import FileRef, Position
from aiopipe.storage.version import READ_ONLY, Version
from aiopipe.tuples import NamedTuple

__all__ = ["Input", "at", "open_regular", "replaced", "still", "trouble", "unchanged", "uncut"]


class Input(NamedTuple):
    """A file with how it is to be read."""

    file: FileRef
    dialect: Dialect


def trouble(file: FileRef, error: OSError) -> InputError:
    """An operating system's complaint about an input file, as ours."""
    hints = {
        errno.ENOENT: "it was there when the run began: do not move input while it is read",
        errno.EACCES: "check its permissions",
        errno.EISDIR: "name the files in it, or give the directory itself to read",
    }
    return InputError(
        error.strerror or str(error),
        position=Position(file.path),
        stage="read",
        hint=hints.get(error.errno or 0, "check the file and its disk"),
    )


def open_regular(file: FileRef) -> tuple[int, os.stat_result]:
    """A descriptor and what it is open on; OSError, also where that is no regular file."""
    fd = os.open(file.path, READ_ONLY)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "no regular file any more")
    return fd, status


def unchanged(file: FileRef, before: os.stat_result, after: os.stat_result, count: int) -> None:
    """ChangedError where a file of which `count` bytes were read was not the same all the while."""
    if before.st_size != after.st_size or before.st_size != count:
        raise _resized(file, before.st_size, after.st_size if after.st_size != before.st_size else count)
    if before.st_mtime_ns != after.st_mtime_ns:
        raise _written(file)
    if after.st_nlink < before.st_nlink:
        raise replaced(file)


def still(file: FileRef, before: Version, after: os.stat_result) -> None:
    """The same where only a part of it is read, of what may be another file by now."""
    if before.inode != after.st_ino:
        raise replaced(file)
    if before.size != after.st_size:
        raise _resized(file, before.size, after.st_size)
    if before.mtime_ns != after.st_mtime_ns:
        raise _written(file)


def _resized(file: FileRef, before: int, after: int) -> ChangedError:
    return _changed(file, f"changed while it was read ({before} bytes, then {after})")


def _written(file: FileRef) -> ChangedError:
    return _changed(file, "was written to while it was read")


def replaced(file: FileRef) -> ChangedError:
    """There is another file in its place, or none."""
    return _changed(file, "was replaced or removed while it was read")


def _changed(file: FileRef, what: str) -> ChangedError:
    return ChangedError(what, position=Position(file.path), stage="read", hint="run again when nobody writes to it")


def at(error: RecordError, file: FileRef) -> RecordError:
    """The error with the file it is about; its first line where nobody said more."""
    position = error.position or Position(file.path, 1)
    return RecordError(error.message, position=position, stage="read", hint=error.hint)


def uncut(error: RecordError, file: FileRef, part: int, head_lines: int, byte: int) -> RecordError:
    """The error of who found no end of the record that begins at `byte`, in this part of the file; -1: nobody knows."""
    error.position = Position(file.path, 1, 1, byte if byte >= 0 else None)
    problem = at(error, file)
    problem.chunk = (file.index, part, head_lines)
    return problem
