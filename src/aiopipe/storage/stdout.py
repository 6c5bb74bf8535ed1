"""Standard output: every byte or an error, also where the descriptor does not block, and never a hang.

A pipe whose reader stands still holds whoever writes to it, and a thread that is held cannot be stopped. So a
pipe gets only what it has room for, and waiting is done in turns.
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
import select
import stat
import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aiopipe.errors import OutputError
from aiopipe.storage.settle import settled

if TYPE_CHECKING:
    from aiopipe.stage import Context

__all__ = ["StandardOutput"]

_TURN = 0.1  # seconds: how soon a write that waits notices that the run is over
_ATOMIC = 4096  # bytes that a pipe takes at once when poll(2) calls it writable (PIPE_BUF)
_PIECE = 1 << 20


class StandardOutput:
    """Standard output as it is now; OutputError where there is none. nbytes: written so far."""

    def __init__(self) -> None:
        if sys.stdout is None:
            raise OutputError("standard output is closed", stage="write", hint="write to a file, or do not close it")
        self.nbytes = 0
        self._over = threading.Event()
        self._stream = sys.stdout
        self._stream.flush()  # what was printed before comes first
        try:
            self._fd = self._stream.fileno()
        except (OSError, ValueError, AttributeError):  # replaced, as tests and notebooks do
            self._fd = -1
            return
        mode = os.fstat(self._fd).st_mode
        self._waits = hasattr(select, "poll") and not stat.S_ISREG(mode)
        self._capacity = _pipe_capacity(self._fd) if stat.S_ISFIFO(mode) else 0

    async def write(self, pieces: Iterable[Any], context: Context) -> None:
        """Write all pieces, off the loop; BrokenPipeError when the reader has gone, OutputError for other trouble.

        A caller that is cancelled waits only for the turn in hand.
        """
        work = asyncio.ensure_future(context.io(self._write_all, list(pieces)))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            self._over.set()
            await settled(work)
            raise

    def _write_all(self, pieces: list[Any]) -> None:
        try:
            for piece in pieces:
                view = memoryview(piece).cast("B") if len(piece) else memoryview(b"")
                while len(view) and not self._over.is_set():
                    written = self._write_some(view)
                    self.nbytes += written
                    view = view[written:]
            if self._fd < 0:
                self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.errno == errno.EINVAL and os.name == "nt":  # what Windows says of a closed pipe
                raise BrokenPipeError(error.errno, error.strerror) from None
            raise OutputError(
                f"cannot write to standard output: {error.strerror or error}",
                stage="write",
                hint="look at what standard output is; what was written before remains",
            ) from None

    def _write_some(self, view: memoryview) -> int:
        if self._fd < 0:
            return self._write_replaced(view)
        if self._waits and not _writable(self._fd):
            return 0
        try:
            return os.write(self._fd, view[: self._room()])
        except BlockingIOError:  # somebody made it non-blocking, and it is full
            if not self._waits:
                self._over.wait(_TURN)
            return 0

    def _write_replaced(self, view: memoryview) -> int:
        buffer = getattr(self._stream, "buffer", None)
        if buffer is None:  # takes text only
            self._stream.write(bytes(view).decode(errors="surrogateescape"))
        else:
            assert isinstance(buffer, io.IOBase)
            buffer.write(view)
        return len(view)

    def _room(self) -> int:
        """Bytes that can be written now without being held."""
        if not self._waits:
            return _PIECE
        if not self._capacity:
            return _ATOMIC
        unread = _unread(self._fd)
        # A page that is partly read, or partly filled, holds its place in the pipe: leave one for it.
        room = (self._capacity - unread) // _ATOMIC * _ATOMIC - (_ATOMIC if unread else 0)
        return max(_ATOMIC, room)


def _writable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(_TURN * 1000))


def _pipe_capacity(fd: int) -> int:
    """How much a pipe holds, where the system tells (Linux); else 0."""
    try:
        import fcntl

        return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    except (ImportError, AttributeError, OSError):
        return 0


def _unread(fd: int) -> int:
    """Bytes in a pipe that nobody has read yet."""
    import fcntl
    import struct
    import termios

    found: int = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0]
    return found
