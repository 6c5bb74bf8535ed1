"""What runs import when they first need it: in a thread, so that the caller's loop goes on, or at once on request.

A thread does not help everywhere. Python loads the compiled libraries of numpy, pyarrow and duckdb with the
interpreter's lock held, some tens of milliseconds each. A service that minds calls `preload()` when it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
import threading
from types import ModuleType

__all__ = ["off_the_loop", "preload"]

_RUN = ("aiopipe.job.run", "aiopipe.storage.read", "aiopipe.storage.streams")
_MORE = ("aiopipe.storage.stdout", "aiopipe.sql.session", "pyarrow.compute", "duckdb", "aiopipe.job.debug")


def preload() -> None:
    """Import all that a run may need, now: half a second or so, once. For the start of a service."""
    for name in (*_RUN, *_MORE):
        importlib.import_module(name)


async def off_the_loop() -> ModuleType:
    """`aiopipe.job.run`, and what every run needs with it, imported in a thread if that is still to be done."""
    if any(name not in sys.modules for name in _RUN) or _beginning():
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def work() -> None:
            try:
                for name in _RUN:
                    importlib.import_module(name)
            except BaseException:  # raised again where it is imported below
                pass
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(done.set_result, None)

        thread = threading.Thread(target=work, name="aiopipe-import")
        thread.start()
        cancelled: asyncio.CancelledError | None = None
        while not done.done():
            try:
                await asyncio.wait([done])
            except asyncio.CancelledError as error:
                cancelled = error  # an import cannot be stopped, and no thread is left behind
        thread.join()
        if cancelled is not None:
            raise cancelled
    return importlib.import_module(_RUN[0])


def _beginning() -> bool:
    """Whether another thread is at it: an import here would wait for it, in the loop."""
    return any(getattr(getattr(sys.modules[n], "__spec__", None), "_initializing", False) for n in _RUN)
