"""Calling users' functions: every exception becomes the fault of one row, and no call is left behind."""

from __future__ import annotations

import asyncio
import os
import time
import traceback
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from aiopipe.errors import AiopipeError, FunctionError, UsageError
from aiopipe.stage import Context, Items
from aiopipe.stages._ranges import slices
from aiopipe.storage.settle import settled
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
    # A coroutine's StopIteration arrives inside a RuntimeError that Python made: the cause knows the place.
    places = [e for e in (error, error.__cause__) if e is not None]
    frames = [f for e in places for f in traceback.extract_tb(e.__traceback__)]
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
    return FunctionError(f"{fault.reason}, for {_shown(value)}", stage="map", hint="mend the function")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


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

    async def start(self, entry: _Entry, values: Sequence[Any]) -> None:
        """Begin a call for each value, as the limit allows."""
        for i, value in enumerate(values):
            await self.gate.acquire()
            task = asyncio.create_task(self.one(value, entry.results, entry.faults, i), name=f"map call {i}")
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
            task.add_done_callback(entry.finished)
        entry.finished()

    def room(self, flying: deque[_Entry], budget: int) -> bool:
        """Whether one more parcel may be begun: those that wait behind a slow one hold memory."""
        few = len(self.tasks) < self.limit and len(flying) <= self.limit
        return few and sum(e.parcel.nbytes for e in flying) < budget

    async def close(self) -> None:
        self.closing = True
        left = list(self.tasks)
        for task in left:
            task.cancel()
        if left:
            await settled(asyncio.wait(left))


class _Entry:
    """A parcel whose calls are under way; `done` when all of them have come back."""

    def __init__(self, parcel: Any, rows: Any, count: int) -> None:
        self.parcel = parcel
        self.rows = rows
        self.results: list[Any] = [None] * count
        self.faults: dict[int, Fault] = {}
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = count + 1  # one more for the start itself

    def finished(self, *_: Any) -> None:
        """One call less to wait for."""
        self._left -= 1
        if self._left == 0 and not self.done.done():
            self.done.set_result(None)


async def call_each_async(stage: Any, parcels: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
    """Calls on the rows of parcels, several at once, also across parcels; parcels leave in order.

    With ordered=False a parcel leaves when its own rows are done. A parcel that is done never waits for the
    next one to come. A failure of the input waits until the calls that were begun before it are finished.
    """
    calls = _Calls(stage, context)
    incoming = _Incoming(_slices(parcels))
    flying: deque[_Entry] = deque()
    try:
        while True:
            waiting: set[asyncio.Future[Any]] = set()
            if not incoming.ended and (len(flying) < 2 or calls.room(flying, context.memory // 4)):
                waiting.add(incoming.next())
            if flying:
                waiting |= {flying[0].done} if stage.ordered else {e.done for e in flying}
            if not waiting:
                break
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            part = incoming.take()
            if part is not None:
                try:
                    rows, values = await _unpacked(part, context)
                except Exception as error:
                    if not _goes_on(part, error, context):
                        incoming.fail(error)
                        continue
                    part, rows, values = part.emptied(), None, []
                flying.append(_Entry(part, rows, len(values)))
                await calls.start(flying[-1], values)
            while (entry := _first_done(flying, stage.ordered)) is not None:
                flying.remove(entry)
                yield await _result(entry, stage, context)
        if incoming.error is not None:
            raise incoming.error
    finally:
        try:
            await incoming.aclose()
        finally:
            await calls.close()


def _goes_on(parcel: Any, error: Exception, context: Context) -> bool:
    """Whether the run goes on without the files of this parcel, which has failed."""
    failures = context.found.failures
    if isinstance(error, UsageError) or not isinstance(error, AiopipeError) or not failures.keep_going:
        return False
    failures.add([s.file for s in parcel.segments], error)
    failures.records += len(parcel)
    return True


def _first_done(flying: deque[_Entry], ordered: bool) -> _Entry | None:
    among = list(flying)[:1] if ordered else flying
    return next((e for e in among if e.done.done()), None)


async def _result(entry: _Entry, stage: Any, context: Context) -> Any:
    from aiopipe.stages._rebuild import rebuilt

    faults = entry.faults
    if entry.rows is None and not isinstance(entry.parcel, Items):
        return entry.parcel
    if entry.rows is not None:
        try:
            return await context.hop(rebuilt, entry.parcel, entry.rows, entry.results, faults, stage.columns)
        except AiopipeError as error:
            if not _goes_on(entry.parcel, error, context):
                raise
            return entry.parcel.emptied()
    if faults:
        first = min(faults)
        raise FunctionError(
            f"{faults[first].reason}, for {_shown(entry.parcel.values[first])}", stage="map", hint="mend the function"
        )
    return Items(entry.results, entry.parcel.rejects)


class _Incoming:
    """The next parcel as a future, so that it can be waited for beside others; a failure is kept for later."""

    def __init__(self, parcels: AsyncGenerator[Any, None]) -> None:
        self._parcels = parcels
        self._fetch: asyncio.Task[Any] | None = None
        self.ended = False
        self.error: Exception | None = None

    def next(self) -> asyncio.Task[Any]:
        """What to wait for."""
        if self._fetch is None:
            self._fetch = asyncio.create_task(_anext(self._parcels), name="map input")
        return self._fetch

    def take(self) -> Any:
        """The parcel that has come; None when none has yet, or none will."""
        if self._fetch is None or not self._fetch.done():
            return None
        fetch, self._fetch = self._fetch, None
        try:
            return fetch.result()
        except StopAsyncIteration:
            self.ended = True
        except Exception as error:
            self.fail(error)
        return None

    def fail(self, error: Exception) -> None:
        """Nothing more will come, because of `error`."""
        self.ended, self.error = True, error

    async def aclose(self) -> None:
        """Stop waiting for the next parcel."""
        if self._fetch is not None:
            self._fetch.cancel()
            await settled(asyncio.gather(self._fetch, return_exceptions=True))
        await self._parcels.aclose()


async def _anext(parcels: AsyncIterator[Any]) -> Any:
    return await anext(parcels)


async def _unpacked(part: Any, context: Context) -> tuple[Any, list[Any]]:
    if isinstance(part, Items):
        return None, part.values
    if not part.columns:
        return None, []  # an empty file has no columns, and no rows
    unpacked: tuple[Any, list[Any]] = await context.hop(_rows_and_dicts, part)
    return unpacked


def _rows_and_dicts(batch: Any) -> tuple[Any, list[Any]]:
    from aiopipe.stages._rows import rows_of

    rows = rows_of(batch)
    return rows, list(rows.dicts())


async def _slices(parcels: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    """Parts small enough that a `head` behind the calls does not wait for thousands of them."""
    async for parcel in parcels:
        if isinstance(parcel, Items):
            yield parcel
        else:
            for part in slices(parcel, SLICE):
                yield part
