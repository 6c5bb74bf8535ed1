"""What runs import when they first need it: in a thread, so that the caller's loop goes on, or at once on request.

A thread does not help everywhere. Python loads the compiled libraries of numpy, pyarrow and duckdb with the
interpreter's lock held, some tens of milliseconds each. A service that minds calls `preload()` when it starts.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import TypeVar

from aiopipe.joining import in_a_thread

__all__ = ["off_the_loop", "preload"]

T = TypeVar("T")
_THREAD = "aiopipe-import"
_RUN = ("aiopipe.job.run", "aiopipe.storage.read", "aiopipe.storage.streams")
_MORE = (
    "aiopipe.job.ahead",
    "aiopipe.storage.stdout",
    "aiopipe.stages._expressions",
    "aiopipe.stages._tables",
    "aiopipe.stages.collect",
    "aiopipe.codec.items",
    "aiopipe.sql.session",
    "duckdb",
    "aiopipe.job.code",
    "aiopipe.job.debug",
    "tempfile",
    "urllib.parse",
)


def preload() -> None:
    """Import all that a run may need, now: half a second or so, once. For the start of a service."""
    for name in (*_RUN, *_MORE):
        importlib.import_module(name)


async def off_the_loop(first: Callable[[], T], undo: Callable[[T], object]) -> tuple[ModuleType, T]:
    """`aiopipe.job.run`, and what every run needs with it, imported in a thread; before that, there, `first()`.

    What `first` gave is given back as well; a cancelled caller has `undo` take it, in a thread too.
    """
    made: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            made.append(first())
            for name in _RUN:
                importlib.import_module(name)
        except BaseException as error:  # of an import it is raised again where it is imported below
            failed.append(error)

    try:
        await in_a_thread(work, _THREAD)
    except asyncio.CancelledError:
        if made:
            await in_a_thread(lambda: undo(made[0]), _THREAD)
        raise
    if not made:
        raise failed[0]
    return importlib.import_module(_RUN[0]), made[0]
