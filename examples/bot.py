"""A chat bot that answers questions about flights: one loop for years, one pipeline a question, at most two at once.

Any chat library fits: its handler calls `Bot.answer`. Here messages come from standard input, one a line, such as
`late AA` or `longest JFK`, so that it can be tried:

    printf 'late AA\nlongest JFK\nhelp\n' | python examples/bot.py
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

from aiopipe import Collect, Filter, Read, Stream

FLIGHTS = Read("sample_data/flights/*.csv", null="NA")


class Bot:
    """Answers messages; a question that takes too long or cannot be answered never ends it."""

    def __init__(self, at_once: int = 2, patience: float = 30.0) -> None:
        self._gate = asyncio.Semaphore(at_once)
        self._patience = patience

    async def answer(self, message: str) -> str:
        """What to say to a message."""
        word, _, rest = message.strip().partition(" ")
        command = {"late": self._late, "longest": self._longest}.get(word)
        if command is None or not rest.isalnum():
            return "ask: late CARRIER, or longest AIRPORT"
        try:
            async with self._gate, asyncio.timeout(self._patience):
                return await command(rest)
        except TimeoutError:
            return "that takes too long"
        except ExceptionGroup as group:  # all causes of a run that failed
            return f"that cannot be answered: {group.exceptions[0]}"

    async def _late(self, carrier: str) -> str:
        found = FLIGHTS | Filter(f"carrier = '{carrier}' AND arr_delay > 60") | Collect()
        report = await found.run(workers=1)
        return f"{carrier}: {report.written} flights more than an hour late"

    async def _longest(self, airport: str) -> str:
        flights: Stream = FLIGHTS | Filter(f"origin = '{airport}'")
        longest = 0
        async with flights.stream(workers=1) as rows:
            async for row in rows:
                longest = max(longest, int(row["distance"]))
        return f"{airport}: the longest flight has {longest} miles"


async def serve(lines: asyncio.StreamReader, answer: Callable[[str], Awaitable[str]]) -> None:
    """Answer every line, several at once, in the order in which they are ready."""

    async def one(line: bytes) -> None:
        print(f"{line.decode().strip()} -> {await answer(line.decode())}", flush=True)

    async with asyncio.TaskGroup() as group:
        async for line in lines:
            group.create_task(one(line))


async def main() -> None:
    """A bot over standard input."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await serve(reader, Bot().answer)


if __name__ == "__main__":
    asyncio.run(main())
