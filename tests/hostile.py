"""A loopback HTTP server that misbehaves as it is told, in a thread of its own; it knows all that it was asked."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Script = Callable[["Asked"], "Reply"]


@dataclass(frozen=True)
class Asked:
    """One request. number: how many there were before it; nth: how many before it asked the same."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    number: int
    nth: int

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.partition("?")[0].rpartition("/")[2]


@dataclass(frozen=True)
class Reply:
    """What comes back. how: "plain", "reset", "hang", "truncated", "loris", "chunked" or "close"."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    how: str = "plain"
    wait: float = 0.0


def ok(value: Any, **headers: str) -> Reply:
    return Reply(200, json.dumps(value).encode(), {k.replace("_", "-"): v for k, v in headers.items()})


def error(status: int, text: str = "", **headers: str) -> Reply:
    return Reply(status, text.encode(), {k.replace("_", "-"): v for k, v in headers.items()})


RESET = Reply(how="reset")
HANG = Reply(how="hang")


class Server:
    """Use it in a `with` block; `url` is its address without a slash at the end."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self.open = 0
        self.peak = 0
        self._times: dict[tuple[str, str, bytes], int] = {}

    def __enter__(self) -> Server:
        ready = threading.Event()
        self._thread = threading.Thread(target=self._main, args=(ready,), name="hostile")
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def paths(self) -> list[str]:
        return [a.path for a in self.asked]

    def _main(self, ready: threading.Event) -> None:
        asyncio.run(self._serve(ready))

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=1 << 20, backlog=1024)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.open += 1
        self.peak = max(self.peak, self.open)
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        first, *lines = head.decode("latin-1").splitlines()
        method, path, _ = first.split(" ")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        key = (method, path, body)
        asked = Asked(method, path, headers, body, len(self.asked), self._times.get(key, 0))
        self._times[key] = asked.nth + 1
        self.asked.append(asked)
        return await self._reply(self.script(asked), reader, writer)

    async def _reply(self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if reply.wait:
            await asyncio.sleep(reply.wait)
        if reply.how == "reset":
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        if reply.how == "hang":
            await reader.read(1)  # until the other side has gone
            return False
        length = len(reply.body) + (1000 if reply.how == "truncated" else 0)
        sizes = {"chunked": "Transfer-Encoding: chunked", "close": "Connection: close"}
        lines = [f"HTTP/1.1 {reply.status} Said", sizes.get(reply.how, f"Content-Length: {length}")]
        lines += [f"{k}: {v}" for k, v in reply.headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        if reply.how == "loris":
            for byte in head + reply.body:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.02)
            return True
        writer.write(head)
        if reply.how == "chunked":
            for i in range(0, len(reply.body), 65536):
                part = reply.body[i : i + 65536]
                writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        else:
            writer.write(reply.body)
        await writer.drain()
        return reply.how not in ("truncated", "close")
