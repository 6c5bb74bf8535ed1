"""Three stages of `async def` that have their answers at once: what the machinery of each library costs.

python -m benchmarks.tools.waiting LIBRARY COUNT CALLS-AT-ONCE
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.tools import serve


async def f(x: int) -> int:
    return x + 1


async def g(x: int) -> int:
    return x * 2


async def h(x: int) -> int:
    return x - 3


def expected(count: int) -> list[int]:
    return [(x + 1) * 2 - 3 for x in range(count)]


def ours(count: int, calls: int) -> list[int]:
    from aiopipe import Collect, From, Map

    stages = From(range(count)) | Map(f, concurrency=calls) | Map(g, concurrency=calls) | Map(h, concurrency=calls)
    return (stages | Collect()).run_sync().items


def streamable_(count: int, calls: int) -> list[int]:
    from streamable import stream

    async def run() -> list[int]:
        options = {"concurrency": calls} if calls > 1 else {}
        return [x async for x in stream(range(count)).map(f, **options).map(g, **options).map(h, **options)]

    return asyncio.run(run())


def aiostream_(count: int, calls: int) -> list[int]:
    """Only measured, where somebody installed it: its licence is the GPL."""
    from aiostream import pipe, stream

    async def run() -> list[int]:
        source = stream.iterate(range(count))
        for function in (f, g, h):
            source = source | pipe.map(function, task_limit=calls)
        values: list[int] = await (source | pipe.list())
        return values

    return asyncio.run(run())


def spdl_(count: int, calls: int) -> list[int]:
    from spdl.pipeline import PipelineBuilder

    builder = PipelineBuilder().add_source(range(count))
    for function in (f, g, h):
        builder = builder.pipe(function, concurrency=calls, output_order="input")
    pipeline = builder.add_sink(100).build(num_threads=1)
    with pipeline.auto_stop():
        return list(pipeline)


def pypeln_(count: int, calls: int) -> list[int]:
    import pypeln

    stage: Any = range(count)
    for function in (f, g, h):
        stage = pypeln.task.map(function, stage, workers=calls, maxsize=100)
    return list(pypeln.task.ordered(stage))


def job(function: Callable[[int, int], list[int]]) -> Callable[[str, str], dict[str, Any]]:
    def run(count: str, calls: str) -> dict[str, Any]:
        values = function(int(count), int(calls))
        return {"correct": values == expected(int(count))}

    return run


JOBS = {
    "ours": job(ours), "streamable": job(streamable_), "aiostream": job(aiostream_), "spdl": job(spdl_),
    "pypeln": job(pypeln_),
}  # fmt: skip

if __name__ == "__main__":
    if sys.argv[1] == "ours":
        import aiopipe.job.run
        import aiopipe.stages._waiting
        import aiopipe.stages.collect
        import aiopipe.stages.items
        import aiopipe.stages.map  # noqa: F401
    else:
        __import__({"spdl": "spdl.pipeline"}.get(sys.argv[1], sys.argv[1]))
    serve(JOBS)
