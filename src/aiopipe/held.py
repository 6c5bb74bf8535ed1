"""Temporaries that nobody's ledger knows, and how a later run can tell that their writer is dead: by a lock.

Whoever writes one holds a lock on the file itself (flock) until it has its final name. The kernel lets go of it
when the process ends, however it ends; so one that can be locked is nobody's any more, and `sweep` removes it. Such
files say in their names that they are held, so that no other kind is ever taken for one. Where the system has no such
locks (Windows, some network file systems) they are not made, and nothing is swept.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
from typing import Any

__all__ = ["HELD", "hold", "let_go", "may_hold", "sweep"]

HELD = ".held"  # in the name, before the last suffix
fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None
_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


def may_hold() -> bool:
    """Whether this system knows the locks at all."""
    return fcntl is not None


def hold(fd: int, path: str | bytes) -> int | None:
    """Lock the file that was just made at `path`: a second descriptor, which holds it until it is closed.

    -1 where the file system has no locks; None where a sweep was quicker, and has taken the file for a dead one's.
    """
    lock = os.dup(fd)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours, there = os.fstat(lock), os.stat(path)
        if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino):
            return lock
    except FileNotFoundError:
        pass
    except OSError as error:
        let_go(lock)
        return None if error.errno in _TAKEN else -1
    let_go(lock)
    return None


def let_go(lock: int) -> None:
    """Close what `hold` gave. Nothing was written through it, so what its close() says concerns no data."""
    if lock >= 0:
        with contextlib.suppress(OSError):
            os.close(lock)


def sweep(directory: str | bytes) -> None:
    """Remove held temporaries whose writers are dead. Blocks; what cannot be looked at is left."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError), os.scandir(os.fsencode(directory) or b".") as entries:
        for entry in entries:
            name = entry.name
            if name[:1] != b".":
                continue
            ours = name.endswith(b".held.aiopipe-tmp") or (
                name.startswith(b".aiopipe-") and name.endswith(b".held.tmp")
            )
            if ours and entry.is_file(follow_symlinks=False):
                _sweep_one(entry.path)


def _sweep_one(path: bytes) -> None:
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)  # names are never used twice: it can only be this file
        finally:
            os.close(fd)
