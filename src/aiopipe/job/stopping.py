"""An end in time: a run that was asked to stop may finish what is in flight, but not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiopipe.errors import StoppedError

__all__ = ["within"]

T = TypeVar("T")


async def within(work: Coroutine[Any, Any, T], stop: asyncio.Event, patience: float) -> T:
    """The result of `work`; once `stop` is set it has `patience` seconds left, then it is cancelled.

    StoppedError where it had to be cancelled. A caller that is cancelled cancels it, and leaves when it has ended.
    """
    running = asyncio.create_task(work, name="aiopipe job")
    watching = asyncio.create_task(_cancel_late(running, stop, patience), name="aiopipe stop")
    cancelled: asyncio.CancelledError | None = None
    try:
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError as error:
                cancelled = error
                running.cancel()
    finally:
        late = watching.done()
        watching.cancel()
        await asyncio.wait([watching])
    if cancelled is not None:
        if not running.cancelled():
            running.exception()  # seen: the cancellation is what the caller hears of
        raise cancelled
    if running.cancelled() and late:
        raise StoppedError(
            f"what was in flight did not end within {patience:g} s of the request to stop, and was cancelled",
            hint="run it again for the rest; --shutdown-timeout gives it longer",
        )
    return running.result()


async def _cancel_late(running: asyncio.Task[Any], stop: asyncio.Event, patience: float) -> None:
    await stop.wait()
    await asyncio.sleep(patience)
    running.cancel()
