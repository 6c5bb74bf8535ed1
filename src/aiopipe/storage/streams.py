"""Standard input, FIFOs, devices, and whatever else is no file, as blocks: reads that wait can always be ended.

What a source hands over itself (an address, an object of the program) it names in `context.found.given`, with a
function that opens it.
"""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiopipe.errors import InputError
from aiopipe.model import Position
from aiopipe.storage.settle import settled
from aiopipe.storage.turns import Turns

if TYPE_CHECKING:
    from aiopipe.stage import Context

__all__ = ["OpenStream", "peek", "stream_blocks"]

BLOCK = 64 << 10  # for a peek: what a pipe holds

_TURN = 0.1  # seconds: how soon a read that waits notices that the run is over


async def stream_blocks(path: str, context: Context, block: int) -> AsyncGenerator[bytes, None]:
    """The bytes of a stream ("-" is standard input) in blocks of up to `block`, as they come.

    The read runs in the pool for files and waits in turns, so that a cancelled run never hangs on a writer
    that says nothing. InputError where the stream cannot be opened or read.
    """
    try:
        stream = context.found.streams.pop(path, None) or await _opened(path, context)
        try:
            for data in stream.begun:
                yield data
            if not stream.ended:
                async with aclosing(_blocks(stream, context, block)) as blocks:
                    async for data in blocks:
                        yield data
        finally:
            await settled(stream.aclose())
    except OSError as error:
        raise _trouble(path, error) from None


async def peek(path: str, context: Context, lines: int, size: int) -> bytes:
    """The beginning of a stream: `lines` lines, `size` bytes or all of it, whatever comes first.

    The stream stays open and the run will begin with these very bytes. InputError as for stream_blocks.
    """
    try:
        stream = context.found.streams[path] = await _opened(path, context)
        count = have = 0
        async with aclosing(_blocks(stream, context, BLOCK)) as blocks:
            async for data in blocks:
                stream.begun.append(data)
                count, have = count + data.count(b"\n"), have + len(data)
                if count >= lines or have >= size:
                    break
            else:
                stream.ended = True
    except OSError as error:
        raise _trouble(path, error) from None
    return b"".join(stream.begun)


@dataclass(slots=True, eq=False, repr=False)
class OpenStream:
    """A stream that was opened, with what was read of it before the run began."""

    path: str
    fd: int
    begun: list[bytes] = field(default_factory=list)
    ended: bool = False

    async def read(self, context: Context, block: int) -> bytes | None:
        """Up to `block` bytes; b"" at the end, None when a turn brought nothing."""
        return await settled(context.io(_read_some, self.fd, block))

    async def aclose(self) -> None:
        """Close it; no thread reads it any more."""
        self.close()

    def close(self) -> None:
        """Close it, unless it is standard input, which is not ours."""
        if self.path != "-" and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


async def _opened(path: str, context: Context) -> OpenStream | Turns:
    if path in context.found.given:
        made: Turns = await context.found.given[path][1](path)
        return made
    if path == "-":
        if sys.stdin is None:
            raise InputError("standard input is closed", stage="read", hint="name a file, or do not close it")
        return OpenStream(path, sys.stdin.fileno())
    return OpenStream(path, await settled(context.io(_open_stream, path), os.close))


def _trouble(path: str, error: OSError) -> InputError:
    return InputError(
        error.strerror or str(error), position=Position(path), stage="read", hint="check what it is connected to"
    )


async def _blocks(stream: OpenStream | Turns, context: Context, block: int) -> AsyncGenerator[bytes, None]:
    while not context.stopping:
        data = await stream.read(context, block)
        if data is None:
            continue
        if not data:
            return
        yield data
    context.found.cut = True


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
