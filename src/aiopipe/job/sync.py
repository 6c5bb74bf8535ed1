"""A run for plain code: asgiref's bridge, and an end to the run when its caller is interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync

from aiopipe.errors import UsageError

if TYPE_CHECKING:
    from aiopipe.job.report import Report
    from aiopipe.stage import Pipeline

__all__ = ["run_sync"]


def run_sync(pipeline: Pipeline, job: dict[str, Any]) -> Report:
    """Run the pipeline and wait for its report; UsageError inside a running event loop.

    asgiref runs the loop in another thread, which a Ctrl-C here does not reach: the run is cancelled and its
    end waited for, so that nothing goes on behind the caller's back.
    """
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        raise UsageError("run_sync would hold up the running event loop", hint="write await pipeline.run(...)")
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []
    ended = threading.Event()

    async def go() -> Report:
        task = asyncio.current_task()
        assert task is not None
        running.append((asyncio.get_running_loop(), task))
        try:
            return await pipeline.run(**job)
        finally:
            ended.set()

    try:
        report: Report = async_to_sync(go)()
    except KeyboardInterrupt:
        for loop, task in running:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it was quicker
                loop.call_soon_threadsafe(task.cancel)
                ended.wait()
        raise
    return report
