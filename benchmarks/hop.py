"""What the hop costs that parses, filters, derives and encodes: CPU seconds a 500 MB, step by step, on one thread.

    python -m benchmarks.hop [--runs 9] [--quick] [--data bench-data]

Below the steps: wall seconds of the whole hop, by one thread and by two, for the threads trade the GIL.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiopipe.memory import keep_freed_memory

keep_freed_memory()  # as in our own processes; before anything asks for memory

from aiopipe import Derive, Filter, Read, Select, Write  # noqa: E402
from aiopipe.codec.dialect import Dialect  # noqa: E402
from aiopipe.fuse import Node, fuse  # noqa: E402
from aiopipe.plan import make_plan  # noqa: E402
from aiopipe.stage import Scope  # noqa: E402
from aiopipe.storage.read import chunks_of  # noqa: E402
from benchmarks.data import Data, add_options  # noqa: E402
from benchmarks.functions import SELECTED  # noqa: E402

PER = 500_000_000  # bytes that the figures are for
KNOWN = Scope({"arr_delay": "DOUBLE", "dep_delay": "DOUBLE"}, {}, frozenset({"NA"}))


def hop(job: str, path: str) -> Node:
    """The computing node of the job `filter`, `derive` or `select`, as in benchmarks.csv_jobs."""
    pipeline: Any = Read(path, null="NA") | Filter("arr_delay > 30")
    if job != "filter":
        pipeline = pipeline | Derive(gain="dep_delay - arr_delay")
    if job == "select":
        pipeline = pipeline | Select(*SELECTED)
    plan = make_plan((pipeline | Write("out/")).stages).typed(KNOWN)
    return next(node for node in fuse(plan) if node.shape == "hop")


def steps(node: Node, chunks: list[Any], runs: int) -> dict[str, float]:
    """CPU seconds of each step over all chunks: the least of several runs."""
    best: dict[str, float] = {}
    for _ in range(runs):
        spent = dict.fromkeys((step.name for step in node.steps), 0.0)
        for parcel in chunks:
            for step in node.steps:
                begun = time.thread_time()
                parcel = step.run(parcel)
                spent[step.name] += time.thread_time() - begun
        best = {name: min(seconds, best.get(name, seconds)) for name, seconds in spent.items()}
    return best


def wall(node: Node, chunks: list[Any], threads: int, runs: int) -> float:
    """Wall seconds of the whole hop over all chunks, by so many threads: the least of several runs."""
    with ThreadPoolExecutor(threads) as pool:
        times = []
        for _ in range(runs):
            begun = time.perf_counter()
            list(pool.map(lambda chunk: len(node.run(chunk)[0]), chunks * 4))
            times.append((time.perf_counter() - begun) / 4)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9)
    add_options(parser)
    options = parser.parse_args()
    directory = Data(options.data, options.quick).wide()
    path = os.path.join(directory, sorted(os.listdir(directory))[0])
    with open(path, "rb") as file:
        data = file.read()
    chunks = list(chunks_of(data, Dialect(), path))
    for job in ("filter", "derive", "select"):
        node = hop(job, path)
        found = {name: seconds * PER / len(data) for name, seconds in steps(node, chunks, options.runs).items()}
        print(f"{job:7}" + "  ".join(f"{name} {seconds:.2f}" for name, seconds in found.items()), end="")
        print(f"  all {sum(found.values()):.2f} s of CPU")
        for threads in (1, 2):
            seconds = wall(node, chunks, threads, max(2, options.runs // 2)) * PER / len(data)
            print(f"       {threads} thread{'s' if threads > 1 else ''}: {seconds:.2f} s")


if __name__ == "__main__":
    main()
