"""Calls in the event loop one after the other: no call is begun before the one before it has come back.

The loop that makes them is as tight as it can be while a function is kept to itself: they run in a task and a context
of their own, and what a call leaves changed there the next one does not find.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from contextvars import Context as Variables
from contextvars import copy_context
from itertools import islice
from time import monotonic
from typing import Any

from aiopipe.errors import AiopipeError
from aiopipe.stage import Context
from aiopipe.stages._attempts import GaveUpError
from aiopipe.stages._calls import CAUGHT, fault_of
from aiopipe.stages._flow import HOLD, Entry, Pace, Work, calls_in_flight, goes_on, in_slices
from aiopipe.storage.settle import settled

__all__ = ["calls_as_told"]


def calls_as_told(work: Work, parcels: AsyncIterator[Any], context: Context) -> AsyncGenerator[Any, None]:
    """The parcels with their calls made: several at once, or one after the other."""
    return (_calls_in_turn if work.limit == 1 else calls_in_flight)(work, parcels, context)


async def _calls_in_turn(work: Work, parcels: AsyncIterator[Any], context: Context) -> AsyncGenerator[Any, None]:
    """As `calls_in_flight`, for one call at once; a parcel is taken when the one before it has left."""
    variables, number, pace = copy_context(), 0, Pace(work)
    async with aclosing(in_slices(parcels, pace)) as parts:
        async for part in parts:
            try:
                extra, values = await work.unpack(part)
            except Exception as error:
                if not goes_on(part, error, context):
                    raise
                part, extra, values = part.emptied(), None, ()
            entry, since = Entry(part, extra, values), monotonic()
            while entry.left:
                number += 1
                await _apart(_Turn(work, entry, variables), f"{work.word} call {number}")
            pace.took(len(values), monotonic() - since)
            try:
                made = await work.pack(entry)
            except AiopipeError as error:
                if not goes_on(part, error, context):
                    raise
                made = part.emptied()
            yield made


async def _apart(turn: _Turn, name: str) -> None:
    """Take a turn in a task of its own: a function may cancel that, and it is gone when this returns."""
    task = asyncio.create_task(turn.take(), name=name, context=turn.variables.copy())
    try:
        await asyncio.shield(task)  # half of what `asyncio.wait` costs
    except asyncio.CancelledError:
        turn.closing = True
        task.cancel()
        await settled(asyncio.wait([task]))
        if not task.cancelled():
            task.exception()  # seen
        raise


class _Turn:
    """Calls for the rows of an entry that are left, until one of them leaves its task or context changed."""

    __slots__ = ("closing", "entry", "variables", "work")

    def __init__(self, work: Work, entry: Entry, variables: Variables) -> None:
        self.work = work
        self.entry = entry
        self.variables = variables
        self.closing = False

    async def take(self) -> None:
        """Make them."""
        task = asyncio.current_task()
        assert task is not None
        entry, call, clean, cancelling = self.entry, self.work.call, self.variables, task.cancelling
        at = len(entry.values) - entry.left
        made = entry.results[:at]
        append, until = made.append, monotonic() + HOLD
        try:
            for value in islice(entry.values, at, None):
                try:
                    append(await call(value))
                except GaveUpError:
                    raise
                except CAUGHT as error:
                    entry.faults[len(made)] = fault_of(error)
                    append(None)
                except asyncio.CancelledError as error:
                    if self.closing:
                        raise
                    entry.faults[len(made)] = fault_of(error)  # the function cancelled itself
                    append(None)
                if copy_context() != clean or cancelling():
                    return
                if monotonic() > until:
                    await asyncio.sleep(0)
                    until = monotonic() + HOLD
        finally:
            entry.left -= len(made) - at
            entry.results[: len(made)] = made
