"""Calling users' functions: every exception becomes the fault of one row, and no call is left behind."""

from __future__ import annotations

import asyncio
import os
import time
import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from aiopipe.errors import FunctionError
from aiopipe.stage import Context, Items
from aiopipe.stages._ranges import slices
from aiopipe.watch import Abandoned, current_leash, current_watch

__all__ = ["Fault", "call_each", "call_each_async", "fault_of", "item_function"]

_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONCURRENCY = 16
# sys.exit() in a function is the fault of one row too: it must not end a program that has others to go.
CAUGHT = (Exception, SystemExit)
SLICE = 256  # rows called together: their results travel on when all of them are there


@dataclass(frozen=True, slots=True)
class Fault:
    """What went wrong with one row: a reason in one line, advice, and the function's own traceback."""

    reason: str
    hint: str
    trace: str = ""
    kind: str = "function"


def fault_of(error: BaseException) -> Fault:
    """An exception of a user's function as a fault: its type, text and the line of the user's code."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith(_HOME)] or frames
    where = f" ({own[-1].filename.rpartition('/')[2]}:{own[-1].lineno}, in {own[-1].name})" if own else ""
    text = str(error)
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, TimeoutError):
        return Fault(what + where, "raise --timeout, or set such records aside with --rejects FILE", kind="worker")
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return Fault(what + where, "mend the function, or set such records aside with --rejects FILE", trace)


def call_each(function: Callable[[Any], Any], values: Iterable[Any]) -> tuple[list[Any], dict[int, Fault]]:
    """function(value) for each value, in order; None and a fault where it raised."""
    watch = current_watch()
    if watch is not None and watch.busy:
        return _call_watched(function, values, watch)
    results: list[Any] = []
    faults: dict[int, Fault] = {}
    append = results.append
    for lot in _lots(values):
        left = True
        while left:
            try:  # one try for all rows: they pay nothing for it
                for value in lot:
                    append(function(value))
                left = False
            except CAUGHT as error:
                faults[len(results)] = fault_of(error)
                append(None)
    return results, faults


def _lots(values: Iterable[Any]) -> Iterator[Iterator[Any]]:
    """The values in lots of a few milliseconds, between which a run that was given up is left.

    A thread cannot be stopped from outside; it looks for itself, and so seldom that fast functions pay nothing.
    """
    leash, pending, size = current_leash(), iter(values), 1
    for first in pending:
        begun = time.monotonic()
        yield chain((first,), islice(pending, size - 1))
        if leash is not None and leash.is_set():
            raise Abandoned
        size = min(2 * size, 1024) if time.monotonic() - begun < 0.005 else max(1, size // 2)


def _call_watched(
    function: Callable[[Any], Any], values: Iterable[Any], watch: Any
) -> tuple[list[Any], dict[int, Fault]]:
    results: list[Any] = []
    faults: dict[int, Fault] = {}
    base = watch.begin()
    for i, value in enumerate(values):
        if base + i in watch.skip:
            faults[i] = Fault(
                f"the worker process {watch.skip[base + i]}",
                "look at what the function does with this row",
                kind="worker",
            )
            results.append(None)
            continue
        watch.enter(base + i)
        result = None
        try:  # the alarm may ring at any moment in here, even with the result in hand
            result = function(value)
            watch.leave()
        except CAUGHT as error:
            watch.leave()
            faults[i] = fault_of(error)
        results.append(result)
    return results, faults


def _call_one(function: Callable[[Any], Any], value: Any) -> Any:
    """function(value), or its fault: what is raised in a thread may be nothing that a future can carry."""
    try:
        return function(value)
    except CAUGHT as error:
        return fault_of(error)


def item_function(function: Callable[[Any], Any], items: Items) -> Items:
    """function over Python objects; the first exception ends the run with the object in its message."""
    values = items.values
    results: list[Any] = []
    append = results.append
    try:
        for lot in _lots(values):
            for value in lot:
                append(function(value))
    except CAUGHT as error:
        raise _item_error(values[len(results)], error) from error
    return Items(results, items.rejects)


def _item_error(value: Any, error: BaseException) -> FunctionError:
    fault = fault_of(error)
    shown = repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return FunctionError(f"{fault.reason}, for {shown}", stage="map", hint="mend the function")


class _Calls:
    """Bounded calls to one function, all of them tasks of one group that ends with the flow."""

    def __init__(self, stage: Any, context: Context) -> None:
        self.stage = stage
        self.limit = stage.concurrency or CONCURRENCY
        self.gate = asyncio.Semaphore(self.limit)
        self.tasks: set[asyncio.Task[None]] = set()
        self.closing = False
        self.submit = None if stage.is_async else context.own_pool(self.limit)  # type: ignore[attr-defined]

    async def one(self, value: Any, results: list[Any], faults: dict[int, Fault], i: int) -> None:
        clock = asyncio.timeout(self.stage.timeout)
        try:
            if self.submit is not None:
                result = await self.submit(_call_one, self.stage.call, value)
                if isinstance(result, Fault):
                    faults[i] = result
                else:
                    results[i] = result
                return
            async with clock:
                results[i] = await self.stage.call(value)
        except CAUGHT as error:
            if isinstance(error, TimeoutError) and clock.expired():
                error = TimeoutError(f"no answer within {self.stage.timeout:g} s")
            faults[i] = fault_of(error)
        except asyncio.CancelledError as error:
            if self.closing:
                raise
            faults[i] = fault_of(error)  # the function cancelled itself
        finally:
            self.gate.release()

    async def start(self, values: Sequence[Any]) -> tuple[list[Any], dict[int, Fault], list[asyncio.Task[None]]]:
        results: list[Any] = [None] * len(values)
        faults: dict[int, Fault] = {}
        mine = []
        for i, value in enumerate(values):
            await self.gate.acquire()
            task = asyncio.create_task(self.one(value, results, faults, i), name=f"map call {i}")
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
            mine.append(task)
        return results, faults, mine

    async def close(self) -> None:
        self.closing = True
        left = list(self.tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.gather(*left, return_exceptions=True)


async def call_each_async(stage: Any, parcels: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
    """Calls on the rows of parcels, several at once, also across parcels; parcels leave in order.

    With ordered=False a parcel leaves when its own rows are done.
    """
    from aiopipe.stages._rebuild import rebuilt

    calls = _Calls(stage, context)
    flying: deque[tuple[Any, Any, list[Any], dict[int, Fault], list[asyncio.Task[None]]]] = deque()

    async def finish(entry: Any) -> Any:
        parcel, rows, results, faults, tasks = entry
        if tasks:
            await asyncio.wait(tasks)
        if rows is None:
            if faults:
                first = min(faults)
                raise FunctionError(
                    f"{faults[first].reason}, for {parcel.values[first]!r}"[:300], stage="map", hint="mend the function"
                )
            return Items(results, parcel.rejects)
        return await context.hop(rebuilt, parcel, rows, results, faults, stage.columns)

    incoming = _Incoming(parcels)
    try:
        async for parcel in incoming:
            for part in _slices(parcel):
                if isinstance(part, Items):
                    rows, values = None, part.values
                else:
                    rows, values = await context.hop(_rows_and_dicts, part)
                flying.append((part, rows, *await calls.start(values)))
                while flying and (stage.ordered or len(flying) > 2):
                    at = 0
                    if not stage.ordered:
                        at = next((i for i, e in enumerate(flying) if all(t.done() for t in e[4])), 0)
                    if len(flying) <= 2 and not all(t.done() for t in flying[at][4]):
                        break
                    entry = flying[at]
                    del flying[at]
                    yield await finish(entry)
        while flying:
            yield await finish(flying.popleft())
        if incoming.error is not None:
            raise incoming.error
    finally:
        await calls.close()


class _Incoming:
    """Parcels whose failure waits: calls that were begun before it are finished first, as their rows come first."""

    def __init__(self, parcels: AsyncIterator[Any]) -> None:
        self._parcels = parcels
        self.error: Exception | None = None

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            return await anext(self._parcels)
        except StopAsyncIteration:
            raise
        except Exception as error:
            self.error = error
            raise StopAsyncIteration from None


def _rows_and_dicts(batch: Any) -> tuple[Any, list[Any]]:
    from aiopipe.stages._rows import rows_of

    rows = rows_of(batch)
    return rows, list(rows.dicts())


def _slices(parcel: Any) -> Iterator[Any]:
    """Parts small enough that a `head` behind the calls does not wait for thousands of them."""
    if isinstance(parcel, Items):
        yield parcel
    else:
        yield from slices(parcel, SLICE)
