"""Waiting for work in threads: a caller that is cancelled leaves only when the thread has ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

__all__ = ["settled"]

T = TypeVar("T")


async def settled(work: Awaitable[T], undo: Callable[[T], Any] | None = None) -> T:
    """The result of work that goes on in a thread; a cancelled caller waits for its end before it goes.

    A descriptor must not be closed, and a temporary not be removed, under a thread that uses it: its number
    may by then be another file's. undo: gets the result that nobody is left to take (an open file).
    """
    future = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return future.result()
    if not future.cancelled() and future.exception() is None and undo is not None:
        with contextlib.suppress(OSError):
            undo(future.result())
    raise cancelled
