"""Standard input, FIFOs and devices as blocks: reads that wait can always be ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import stat
import sys
import threading
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiopipe.stage import Context

__all__ = ["stream_blocks"]

_TURN = 0.1  # seconds: how soon a waiting read notices that the run is over


async def stream_blocks(path: str, context: Context, block: int) -> AsyncIterator[bytes]:
    """The bytes of a stream ("-" is standard input) in blocks of up to `block`, as they come.

    The read runs in the pool for files and waits in turns, so that a cancelled run never hangs on a writer
    that says nothing.
    """
    over = threading.Event()
    if path == "-":
        fd = sys.stdin.fileno()
    else:
        fd = await context.io(_open_stream, path, over)
    try:
        while not context.stopping:
            data = await _read(context, fd, block, over)
            if data is None:
                continue
            if not data:
                return
            yield data
    finally:
        over.set()
        if path != "-" and fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)


async def _read(context: Context, fd: int, block: int, over: threading.Event) -> bytes | None:
    try:
        return await context.io(_read_some, fd, block, over, context)
    except asyncio.CancelledError:
        over.set()
        raise


def _open_stream(path: str, over: threading.Event) -> int:
    # Opening a FIFO for reading waits for its writer: without O_NONBLOCK nothing could end that.
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    os.set_blocking(fd, True)
    return fd


def _read_some(fd: int, block: int, over: threading.Event, context: Context) -> bytes | None:
    """Up to `block` bytes, collected while they are there; b"" at the end, None when told to stop."""
    waits = _can_wait(fd)
    pieces: list[bytes] = []
    size = 0
    while size < block:
        if waits and not _ready(fd, 0 if pieces else _TURN):
            if pieces:
                break
            if over.is_set() or context.stopping:
                return None
            continue
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
