"""Sockets as source and sink: `tcp://HOST:PORT` and `unix:///PATH`. We connect; whoever listens sends, or takes.

Bytes are CSV or whatever the pipeline's format is, with nothing around them: the end of the stream is the end of the
connection. One that is cut off looks like one that has ended, so a sink that fails resets a TCP connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from aiopipe.errors import AiopipeError, InputError, OutputError
from aiopipe.model import Position
from aiopipe.storage.settle import settled
from aiopipe.storage.turns import Turns
from aiopipe.storage.urls import socket_of

__all__ = ["SocketBody", "SocketTarget", "connected", "open_socket"]

_CONNECT = 30.0  # seconds
_BUFFER = 1 << 19  # asyncio holds up to twice this before it lets the sender wait
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: what is left is thrown away, and the other end is told so

Io = Callable[..., Awaitable[Any]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connected(url: str, io: Io) -> Streams:
    """Connect. io: runs a blocking function in a thread; names are looked up there. OSError where it fails."""
    address = socket_of(url)
    try:
        async with asyncio.timeout(_CONNECT):
            if address.path:
                return await asyncio.open_unix_connection(address.path, limit=_BUFFER)
            found = await settled(io(socket.getaddrinfo, address.host, address.port, 0, socket.SOCK_STREAM))
            return await _first(found)
    except TimeoutError:
        raise OSError(None, f"nobody answered within {_CONNECT:g} s") from None


async def _first(found: list[Any]) -> Streams:
    """The first of the host's addresses that lets us in."""
    trouble: OSError | None = None
    for *_, place in found:
        try:
            return await asyncio.open_connection(place[0], place[1], limit=_BUFFER)
        except OSError as error:
            trouble = trouble or error
    raise trouble or OSError(None, "the host has no address")


def _words(error: BaseException) -> str:
    """What happened, in the system's words: asyncio's tell the address once more."""
    number = getattr(error, "errno", None)
    if isinstance(error, socket.gaierror) or not number or number < 0:
        return getattr(error, "strerror", None) or str(error) or type(error).__name__
    return os.strerror(number)


async def open_socket(url: str, name: str, io: Io) -> SocketBody:
    """A connection to be read, which messages call `name`; InputError where there is none."""
    try:
        return SocketBody(name, *await connected(url, io))
    except OSError as error:
        raise _no_connection(InputError, "read", name, error) from None


def _no_connection(kind: type[AiopipeError], stage: str, name: str, error: OSError) -> AiopipeError:
    return kind(
        f"no connection: {_words(error)}",
        position=Position(name),
        stage=stage,
        hint="see whether somebody listens there",
    )


class SocketBody(Turns):
    """What the other end sends, until it closes the connection."""

    def __init__(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__()
        self._shown = name
        self._reader = reader
        self._writer = writer
        self._bytes = 0

    async def more(self, size: int) -> bytes:
        """What has come; InputError where the connection broke, with the byte."""
        try:
            data = await self._reader.read(size)
        except OSError as error:
            raise InputError(
                f"the connection failed: {_words(error)}",
                position=Position(self._shown, byte=self._bytes),
                stage="read",
                hint="run it again",
            ) from None
        self._bytes += len(data)
        return data

    async def finish(self) -> None:
        """Close the connection; what has not come is not waited for."""
        await _closed(self._writer)


class SocketTarget:
    """A connection that is written to, as a block: left in order it ends well, else the other end is told."""

    def __init__(self, url: str, io: Io) -> None:
        self._url = url
        self._io = io
        self._bytes = 0

    async def __aenter__(self) -> SocketTarget:
        try:
            _, self._writer = await connected(self._url, self._io)
        except OSError as error:
            raise _no_connection(OutputError, "write", self._url, error) from None
        self._writer.transport.set_write_buffer_limits(high=0)
        return self

    async def give(self, data: bytes) -> None:
        """Send it, and wait until the system has all of it; OutputError where the other end has gone."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise OutputError(
                f"the connection failed: {_words(error)} (byte {self._bytes:,} of the output)",
                position=Position(self._url),
                stage="write",
                hint="what was sent before has been sent; see why the other end closed",
            ) from None
        self._bytes += len(data)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            with contextlib.suppress(OSError):
                self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._writer.transport.abort()
        await _closed(self._writer)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await settled(writer.wait_closed())
