"""Acting on duplicates: hard link, reflink or delete, never on the word of a digest.

Before a file is touched, it and the file that is kept are opened, seen to be the versions that were hashed,
and compared byte for byte. The new name appears by a rename, so a crash leaves the old file or the new.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

from aiopipe.errors import UsageError
from aiopipe.sums.dupes import Copy, Group
from aiopipe.sums.model import Signature
from aiopipe.sums.output import sync_directory

__all__ = ["ACTIONS", "KEEP", "Step", "act", "kept", "plan"]

ACTIONS = ("report", "hardlink", "reflink", "delete")
KEEP = ("oldest", "newest", "shortest")
_BLOCK = 1 << 20
_FICLONE = 0x40049409  # linux/fs.h


class Step(NamedTuple):
    """One change: `name` is to become a link or clone of `keep`, or to go."""

    action: str
    name: bytes
    keep: bytes
    copy: Copy
    keeper: Copy


def kept(group: Group, rule: str) -> Copy:
    """The copy that stays: by time of modification, or by the shortest name; the first of equals."""
    if rule == "oldest":
        return min(group.copies, key=lambda each: each.signature.mtime_ns)
    if rule == "newest":
        return max(group.copies, key=lambda each: each.signature.mtime_ns)
    if rule == "shortest":
        return min(group.copies, key=lambda each: min(len(name) for name in each.names))
    raise UsageError(f"keep={rule!r}", hint=f"known: {', '.join(KEEP)}")


def plan(group: Group, action: str, rule: str) -> Iterator[Step]:
    """What would be done to a group. Every name of every other copy is named, or no space would be won."""
    keeper = kept(group, rule)
    for copy in group.copies:
        if copy is not keeper:
            for name in copy.names:
                yield Step(action, name, keeper.names[0], copy, keeper)


def act(step: Step) -> None:
    """Do one step; raises OSError with the reason where that cannot be done safely, and changes nothing."""
    with ExitStack() as stack:
        keep = _open(stack, step.keep, step.keeper.signature)
        other = _open(stack, step.name, step.copy.signature)
        _compare(keep, other, step)
        if step.action == "delete":
            os.unlink(step.name)
            return
        folder, base = os.path.split(step.name)
        temporary = os.path.join(folder, b".%s.%d.aiopipe-tmp" % (base[:180], os.getpid()))
        try:
            if step.action == "hardlink":
                os.link(step.keep, temporary, follow_symlinks=False)
                made, kept_now = os.lstat(temporary), os.fstat(keep)
                if (made.st_dev, made.st_ino) != (kept_now.st_dev, kept_now.st_ino):
                    raise OSError(errno.ESTALE, "the kept file was replaced meanwhile")
            else:
                _clone(keep, temporary, step.name)
            _unchanged(step.name, step.copy.signature)
            os.replace(temporary, step.name)
        except BaseException:
            if os.path.lexists(temporary):
                os.unlink(temporary)
            raise
        sync_directory(folder or b".")


def _open(stack: ExitStack, path: bytes, signature: Signature) -> int:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    fd = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    stack.callback(os.close, fd)
    _same(os.fstat(fd), signature)
    return fd


def _unchanged(path: bytes, signature: Signature) -> None:
    _same(os.lstat(path), signature)


def _same(status: os.stat_result, signature: Signature) -> None:
    # Not the time of change: linking one name of an inode moves it for the others.
    now = (status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)
    if now != (signature.size, signature.mtime_ns, signature.ino, signature.dev):
        raise OSError(errno.ESTALE, "it changed since it was hashed")


def _compare(keep: int, other: int, step: Step) -> None:
    while True:
        ours, theirs = os.read(keep, _BLOCK), os.read(other, _BLOCK)
        if ours != theirs:
            raise OSError(errno.ESTALE, "the bytes differ, though the digests were equal")
        if not ours:
            break
    _same(os.fstat(keep), step.keeper.signature)
    _same(os.fstat(other), step.copy.signature)
    _unchanged(step.name, step.copy.signature)


def _clone(source: int, temporary: bytes, name: bytes) -> None:
    """A file of its own that shares its blocks with the source, with the times and mode of `name`."""
    try:
        import fcntl
    except ImportError as error:  # Windows
        raise OSError(errno.ENOTSUP, "reflinks are not supported here") from error
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        try:
            fcntl.ioctl(fd, _FICLONE, source)
        except OSError as error:
            raise OSError(error.errno, f"this file system has no reflinks ({error.strerror})") from error
        old = os.lstat(name)
        if hasattr(os, "fchown"):
            os.fchown(fd, old.st_uid, old.st_gid)
        shutil.copystat(os.fsdecode(name), os.fsdecode(temporary), follow_symlinks=False)
        os.fsync(fd)
    finally:
        os.close(fd)
