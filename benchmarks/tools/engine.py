"""Three trivial functions over many integers: what the machinery itself costs."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.functions import f, g, h
from benchmarks.tools import serve

STAGES = (f, g, h)


def expected(count: int) -> list[int]:
    return [h(g(f(x))) for x in range(count)]


def ours(count: int) -> list[int]:
    from aiopipe import Collect, From

    return (From(range(count)) | f | g | h | Collect()).run_sync().items


def by_hand(count: int) -> list[int]:
    """A task for each stage, queues of 100 between them, single items: what one writes first."""

    async def stage(function: Callable[[int], int], source: asyncio.Queue[Any], target: asyncio.Queue[Any]) -> None:
        while (value := await source.get()) is not None:
            await target.put(function(value))
        await target.put(None)

    async def feed(target: asyncio.Queue[Any]) -> None:
        for value in range(count):
            await target.put(value)
        await target.put(None)

    async def run() -> list[int]:
        queues: list[asyncio.Queue[Any]] = [asyncio.Queue(100) for _ in range(len(STAGES) + 1)]
        collected: list[int] = []
        async with asyncio.TaskGroup() as group:
            group.create_task(feed(queues[0]))
            for function, source, target in zip(STAGES, queues, queues[1:], strict=False):
                group.create_task(stage(function, source, target))
            while (value := await queues[-1].get()) is not None:
                collected.append(value)
        return collected

    return asyncio.run(run())


def streamable_(count: int) -> list[int]:
    from streamable import stream

    async def run() -> list[int]:
        return [x async for x in stream(range(count)).map(f).map(g).map(h)]

    return asyncio.run(run())


def aiostream_(count: int) -> list[int]:
    """Only measured, where somebody installed it: its licence is the GPL."""
    from aiostream import pipe, stream

    async def run() -> list[int]:
        values: list[int] = await (stream.iterate(range(count)) | pipe.map(f) | pipe.map(g) | pipe.map(h) | pipe.list())
        return values

    return asyncio.run(run())


def job(function: Callable[[int], list[int]]) -> Callable[[str, str], dict[str, Any]]:
    def run(source: str, target: str) -> dict[str, Any]:
        begun = time.perf_counter()
        values = function(int(source))
        seconds = time.perf_counter() - begun
        return {"seconds": seconds, "correct": values == expected(int(source))}

    return run


JOBS = {"ours": job(ours), "by-hand": job(by_hand), "streamable": job(streamable_), "aiostream": job(aiostream_)}

if __name__ == "__main__":
    # Imported before the clock starts, as the others' are.
    if sys.argv[1] == "ours":
        import aiopipe.job.run
        import aiopipe.stages.collect
        import aiopipe.stages.items
        import aiopipe.stages.map  # noqa: F401
    elif sys.argv[1] in ("streamable", "aiostream"):
        __import__(sys.argv[1])
    serve(JOBS)
