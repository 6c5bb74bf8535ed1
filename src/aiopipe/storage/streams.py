"""Standard input, FIFOs and devices as blocks: reads that wait can always be ended."""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from aiopipe.errors import InputError
from aiopipe.model import Position
from aiopipe.storage.settle import settled

if TYPE_CHECKING:
    from aiopipe.stage import Context

__all__ = ["stream_blocks"]

_TURN = 0.1  # seconds: how soon a read that waits notices that the run is over


async def stream_blocks(path: str, context: Context, block: int) -> AsyncIterator[bytes]:
    """The bytes of a stream ("-" is standard input) in blocks of up to `block`, as they come.

    The read runs in the pool for files and waits in turns, so that a cancelled run never hangs on a writer
    that says nothing. InputError where the stream cannot be opened or read.
    """
    try:
        if path == "-":
            fd = sys.stdin.fileno()
        else:
            fd = await settled(context.io(_open_stream, path), os.close)
        try:
            async for data in _blocks(fd, context, block):
                yield data
        finally:
            if path != "-":
                os.close(fd)
    except OSError as error:
        raise InputError(
            error.strerror or str(error),
            position=Position(path),
            stage="read",
            hint="check what it is connected to",
        ) from None


async def _blocks(fd: int, context: Context, block: int) -> AsyncIterator[bytes]:
    while not context.stopping:
        data = await settled(context.io(_read_some, fd, block))
        if data is None:
            continue
        if not data:
            return
        yield data


def _open_stream(path: str) -> int:
    # Opening a FIFO for reading waits for its writer: without O_NONBLOCK nothing could end that.
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    os.set_blocking(fd, True)
    return fd


def _read_some(fd: int, block: int) -> bytes | None:
    """Up to `block` bytes, collected while they are there; b"" at the end, None when a turn brought nothing."""
    waits = _can_wait(fd)
    pieces: list[bytes] = []
    size = 0
    while size < block:
        if waits and not _ready(fd, 0 if pieces else _TURN):
            if pieces:
                break
            return None
        data = os.read(fd, block - size)
        if not data:
            break
        pieces.append(data)
        size += len(data)
    return b"".join(pieces)


def _ready(fd: int, timeout: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLHUP)
    found = poll.poll(timeout * 1000)
    return bool(found)


def _can_wait(fd: int) -> bool:
    """Whether poll(2) can watch the descriptor; regular files are always ready, Windows has no poll."""
    return hasattr(select, "poll") and not stat.S_ISREG(os.fstat(fd).st_mode)
