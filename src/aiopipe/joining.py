"""Work that can be neither in the loop nor in a pool: it imports, or it joins the threads of pools."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

__all__ = ["in_a_thread"]


async def in_a_thread(work: Callable[[], object], name: str) -> None:
    """Wait for work in a thread of its own: it cannot be stopped, and no thread is left behind.

    A caller that is cancelled leaves when it has ended.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def run() -> None:
        try:
            work()
        finally:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=run, name=name)
    thread.start()
    cancelled: asyncio.CancelledError | None = None
    while not done.done():
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError as error:
            cancelled = error
    thread.join()
    if cancelled is not None:
        raise cancelled
