"""A client that asks a service for /ping 200 times a second until its standard input ends.

    python -m benchmarks.tools.asking PORT

Prints the spread of latencies in milliseconds, each counted from when the request was due: a service that does not
answer for a while is not asked less often meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from benchmarks.tools.ticking import spread

RATE = 200
REQUEST = b"GET /ping HTTP/1.1\r\nHost: service\r\n\r\n"


class Client:
    """As many connections as requests are under way."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.late: list[float] = []
        self.failed = 0

    async def ask(self, due: float) -> None:
        try:
            reader, writer = self.free.pop() if self.free else await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            self.failed += not head.startswith(b"HTTP/1.1 200")
        except (OSError, EOFError):
            self.failed += 1
            return
        self.late.append(time.perf_counter() - due)
        self.free.append((reader, writer))


async def main(port: int) -> None:
    client, over = Client(port), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, over.set)
    begun, count = time.perf_counter(), 0
    async with asyncio.TaskGroup() as group:
        while not over.is_set():
            due = begun + count / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(client.ask(due))
            count += 1
    seconds = time.perf_counter() - begun
    for _, writer in client.free:
        writer.close()
    print(json.dumps({"requests": count, "failed": client.failed, "rate": count / seconds, **spread(client.late)}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
