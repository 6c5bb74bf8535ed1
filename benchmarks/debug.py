"""What `debug=True` costs, beside asyncio's own debug mode: processor seconds, medians of paired runs.

    python -m benchmarks.debug [--runs 5]

Two jobs: an `async def` called 60,000 times, and a filter over a CSV file of 80 MB.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

from aiopipe import Collect, Filter, From, Map, Read, Write
from benchmarks import machine
from benchmarks.measure import middle

MODES = ("off", "debug", "asyncio's")


async def call(row: Any) -> Any:
    await asyncio.sleep(0)
    return row


def jobs(place: str) -> dict[str, Callable[[], Any]]:
    source = os.path.join(place, "in.csv")
    with open(source, "w") as file:
        file.write("a,b,c\n")
        file.writelines(f"{i},{i % 1000},some text here {i}\n" for i in range(2_300_000))
    return {
        "60,000 coroutine calls": lambda: From(range(60_000)) | Map(call) | Collect(),
        "filter, 80 MB": lambda: Read(source) | Filter("b > 500") | Write(os.path.join(place, "out.csv")),
    }


async def seconds(make: Callable[[], Any], mode: str) -> float:
    loop = asyncio.get_running_loop()
    loop.set_debug(mode == "asyncio's")
    begun = time.process_time()
    await make().run(debug=mode == "debug")
    loop.set_debug(False)
    return time.process_time() - begun


async def measured(runs: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        for name, make in jobs(place).items():
            await seconds(make, "off")  # imports
            found: dict[str, list[float]] = {mode: [] for mode in MODES}
            for _ in range(runs):
                for mode, values in found.items():
                    values.append(await seconds(make, mode))
            plain = middle(found["off"])
            shown = (f"{mode} {middle(values):.2f} s ({middle(values) / plain:.2f})" for mode, values in found.items())
            print(f"  {name:24}{', '.join(shown)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it tells of every slow callback of its own making
    print(machine.describe())
    print("processor seconds (times as much as without)\n")
    asyncio.run(measured(options.runs))


if __name__ == "__main__":
    main()
