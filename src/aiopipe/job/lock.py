"""One run at a time for a destination: a lock that the kernel lets go when its holder dies."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from typing import Any

from aiopipe.errors import LockedError
from aiopipe.model import display_path
from aiopipe.storage.write import trouble

__all__ = ["Lock", "holder_of"]

_TURNS, _TURN = 10, 0.01  # how often, and in seconds how long apart, a lock without a name is tried again
_AWAY = 1 << 30  # Windows locks bytes, and nobody can read them meanwhile: one far behind what is written


class Lock:
    """The lock of a destination, held from `Lock(...)` to `close()`. Every method blocks: call it off the loop.

    path: the lock file, made where it is missing. LockedError says who holds it; OutputError where the system
    will not lock. No lock outlives its process, however that ends.
    """

    def __init__(self, path: str, destination: str) -> None:
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        except OSError as error:
            raise trouble(path, error) from None
        try:
            _patiently(self._fd)
            self._say({"pid": os.getpid(), "host": socket.gethostname(), "since": int(time.time())})
        except OSError as error:
            held = error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
            os.close(self._fd)
            if held:
                raise _locked(path, destination) from None
            raise trouble(path, error) from None

    def _say(self, holder: dict[str, Any]) -> None:
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps(holder).encode(), 0) if hasattr(os, "pwrite") else os.write(
            self._fd, json.dumps(holder).encode()
        )

    def close(self) -> None:
        """Let go; the second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)
            with contextlib.suppress(OSError):  # whatever it complains of, the lock is gone with the descriptor
                os.close(fd)


def holder_of(path: str) -> dict[str, Any] | None:
    """Who holds the lock at `path`: pid, host and since (seconds of the epoch); None where nobody does."""
    try:
        fd = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None
    try:
        _lock(fd)
    except OSError:
        return _read(fd) or {"pid": None, "host": None, "since": None}
    finally:
        os.close(fd)
    return None


def _read(fd: int) -> dict[str, Any]:
    os.lseek(fd, 0, os.SEEK_SET)
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(os.read(fd, 4096))
        if isinstance(found, dict):
            return found
    return {}


def _locked(path: str, destination: str) -> LockedError:
    who = holder_of(path) or {}
    pid, host, since = who.get("pid"), who.get("host"), who.get("since")
    name = f"process {pid} on {host}" if pid else "another run"
    begun = f", since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(since))}" if since else ""
    return LockedError(
        f"{display_path(destination)} is being written by {name}{begun}",
        stage="write",
        hint="wait until it has ended, or end it; a run that was killed leaves no lock behind",
    )


def _patiently(fd: int) -> None:
    """Lock, also where somebody only asks who holds the lock, and so has it for a moment."""
    for _ in range(_TURNS):
        try:
            _lock(fd)
            return
        except OSError:
            if _read(fd):
                raise
            time.sleep(_TURN)
    _lock(fd)


def _lock(fd: int) -> None:
    try:
        import fcntl
    except ImportError:
        import msvcrt

        os.lseek(fd, _AWAY, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        os.lseek(fd, 0, os.SEEK_SET)
    else:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
