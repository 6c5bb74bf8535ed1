"""A program with a loop of its own: a ticker that should come every millisecond, beside a big job in the same loop.

    python -m benchmarks.tools.ticking ours|first|aiocsv|nothing SOURCE TARGET

"first" is aiopipe's first run in the program: what it imports lazily is imported then.

Prints, for the gaps between ticks in milliseconds beyond the one asked for: percentiles and the longest; and the
same for the processor time that the loop's own thread used within each gap. A gap with little processor time was
spent waiting for the machine or for the interpreter's lock, one with much of it was spent in code in the loop.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import threading
import time
from typing import Any

import aiofiles

PERIOD = 0.001


class Ticker:
    """Wakes up every millisecond and remembers when it did."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self.busy: list[float] = []
        self.threads = 0

    async def run(self) -> None:
        last, used = time.perf_counter(), time.thread_time()
        while True:
            await asyncio.sleep(PERIOD)
            now, spent = time.perf_counter(), time.thread_time()
            self.gaps.append(now - last - PERIOD)
            self.busy.append(spent - used)
            if len(self.gaps) % 64 == 0:
                self.threads = max(self.threads, threading.active_count())
            last, used = time.perf_counter(), time.thread_time()


def spread(values: list[float]) -> dict[str, float]:
    """Percentiles in milliseconds."""
    ordered = sorted(values)

    def at(share: float) -> float:
        return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)

    return {"p50": at(0.5), "p99": at(0.99), "p99.9": at(0.999), "max": at(1.0)}


async def work(who: str, source: str, target: str) -> None:
    if who in ("ours", "first"):
        from aiopipe import Filter, Read, Write

        await (Read(source, null="NA") | Filter("arr_delay > 30") | Write(target + "/")).run()
    elif who == "aiocsv":
        from benchmarks.tools.aiocsv_ import run

        await run(source, target, "filter")
    else:
        await asyncio.sleep(3)


async def warm_up(target: str) -> None:
    """A run over one line, so that everything is imported before the ticker starts."""
    path = os.path.join(target, "warm")
    os.makedirs(os.path.join(path, "in"))
    async with aiofiles.open(os.path.join(path, "in", "one.csv"), "w") as file:
        await file.write("arr_delay\n31\n")
    await work("ours", os.path.join(path, "in"), os.path.join(path, "out"))
    shutil.rmtree(path)


async def main() -> dict[str, Any]:
    who, source, target = sys.argv[1:4]
    if who == "ours":
        await warm_up(target)
    elif who == "aiocsv":
        import benchmarks.tools.aiocsv_  # noqa: F401
    ticker = Ticker()
    ticking = asyncio.create_task(ticker.run())
    begun = time.perf_counter()
    await work(who, source, target)
    seconds = time.perf_counter() - begun
    ticking.cancel()
    await asyncio.gather(ticking, return_exceptions=True)
    return {
        "seconds": seconds,
        "ticks": len(ticker.gaps),
        "gap": spread(ticker.gaps),
        "busy": spread(ticker.busy),
        "over20": sum(g > 0.020 for g in ticker.gaps),
        "busy20": sum(b > 0.020 for b in ticker.busy),
        "threads": ticker.threads,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))
