"""A server on this machine that answers every request after a while: python -m benchmarks.tools.service SECONDS.

It prints its port. No framework: it must never be what is measured.
"""

from __future__ import annotations

import asyncio
import sys

BODY = b'{"id": 1, "address": {"city": "Turin", "zip": "10121"}, "tags": ["a", "b"]}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


class Client(asyncio.Protocol):
    """One connection; requests are not looked at, only counted."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        *whole, self.rest = (self.rest + data).split(b"\r\n\r\n")
        loop = asyncio.get_running_loop()
        for _ in whole:
            loop.call_later(self.seconds, self.transport.write, ANSWER)  # type: ignore[attr-defined]


async def main(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Client(seconds), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)  # until whoever started it has gone
    server.close()


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        asyncio.run(main(float(sys.argv[1])))
    else:
        uvloop.run(main(float(sys.argv[1])))
