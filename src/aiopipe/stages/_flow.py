"""Many calls in the event loop at once, over the rows of parcels: bounded, in order, none of them left behind.

Workers are tasks that take row after row, as many as calls may be in flight, and begun only as they are needed: a
function that never waits is called again and again by one of them, which costs a tenth of a task for each row.

    parcel   [r r r r] [r r r r] [r r r r]      begun in order
    workers    1 2       3                      each with one row in hand
    leaves   when all of its rows are done, and with `ordered` behind those before it

The window: parcels are cut to SLICE rows, and no more than limit + 1 of them, or a quarter of the run's memory,
are in flight. That is how far the others may get ahead of a slow call where order is kept. While calls are quick, parts
may grow (see Pace), and fewer of them are in flight.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from operator import length_hint
from typing import Any

from aiopipe.errors import AiopipeError
from aiopipe.stage import Context, Items
from aiopipe.stages._attempts import GaveUpError
from aiopipe.stages._calls import CAUGHT, SLICE, Fault, fault_of
from aiopipe.stages._ranges import slices
from aiopipe.storage.settle import settled

__all__ = ["HOLD", "Entry", "Pace", "Work", "calls_in_flight", "goes_on", "in_slices", "is_light"]

HOLD = 0.005  # seconds for which calls that never wait may keep the loop
_LIGHT = 65_536  # bytes of a part whose rows are taken apart and put together in the loop
_QUICK = 0.02  # seconds for the calls of a part, up to which the next one may be larger
_AHEAD = 2  # workers begun, and not running yet


@dataclass(frozen=True, slots=True)
class Work:
    """What is done with each parcel.

    word: of the stage. unpack: the values to call with, one a row, and what `pack` needs besides. call: one call;
    what it raises is the fault of its row. pack: the parcel that an entry, all of its calls done, becomes. most: rows
    of a part, at most.
    """

    word: str
    call: Callable[[Any], Awaitable[Any]]
    limit: int
    ordered: bool
    unpack: Callable[[Any], Awaitable[tuple[Any, Sequence[Any]]]]
    pack: Callable[[Entry], Awaitable[Any]]
    most: int = SLICE


class Pace:
    """How many rows the next part has: SLICE, and more while the calls of a whole part take a few milliseconds.

    Each part goes through threads that parse it, put it together, encode and write it, and each time the interpreter's
    lock changes hands. Parts of 256 quick calls spent nine tenths of their time on that.
    """

    def __init__(self, work: Work) -> None:
        # Where order is kept, others get ahead of a slow call by so many rows.
        ahead = work.limit * SLICE // 2 if work.limit > 1 else work.most
        self._most = max(SLICE, min(work.most, ahead))
        self._size = SLICE

    def size(self) -> int:
        """Rows of the next part."""
        return self._size

    def took(self, rows: int, seconds: float) -> None:
        """Say how long the calls for a part took."""
        if seconds > _QUICK:
            self._size = max(SLICE, self._size // 2)
        elif rows >= self._size:
            self._size = min(2 * self._size, self._most)


class Entry:
    """A parcel whose calls are under way; `done` when all of them have come back."""

    __slots__ = ("done", "extra", "faults", "left", "parcel", "results", "seconds", "since", "todo", "values")

    def __init__(self, parcel: Any, extra: Any, values: Sequence[Any]) -> None:
        self.parcel = parcel
        self.extra = extra
        self.values = values
        self.results: list[Any] = [None] * len(values)
        self.faults: dict[int, Fault] = {}
        self.todo = iter(range(len(values)))  # shared by the workers
        self.left = len(values)
        self.since = 0.0  # when its first call was begun
        self.seconds = 0.0  # from then to the end of the last one
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not values:
            self.done.set_result(None)

    def finish(self) -> None:
        """All calls have come back."""
        self.seconds = time.monotonic() - self.since
        if not self.done.done():
            self.done.set_result(None)


class _Calls:
    """The workers, and the entries that have rows nobody has taken yet."""

    def __init__(self, work: Work) -> None:
        self.word = work.word
        self.call = work.call
        self.limit = work.limit
        self.context = copy_context()
        self.tasks: set[asyncio.Task[None]] = set()
        self.pending: deque[Entry] = deque()
        self.fresh = 0  # workers that have not run yet
        self.number = 0
        self.closing = False
        self.turn = 0  # of the loop, counted while somebody wants to know
        self.turning = False
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def add(self, entry: Entry) -> None:
        """Have its calls made, as the limit allows."""
        if entry.values:
            self.pending.append(entry)
            self.more()

    @property
    def backlog(self) -> int:
        """Rows that nobody has taken yet."""
        return sum(length_hint(e.todo) for e in self.pending)

    def more(self) -> None:
        """Begin another worker, if there is work for it and it may be."""
        if self.closing or self.fresh >= _AHEAD or len(self.tasks) >= self.limit or not self.backlog:
            return
        self.fresh += 1
        self.number += 1
        # Each in a context of its own, made of the flow's: what a call sets, others do not see.
        task = asyncio.create_task(self.worker(), name=f"{self.word} call {self.number}", context=self.context.copy())
        self.tasks.add(task)
        task.add_done_callback(self.over)

    def over(self, task: asyncio.Task[None]) -> None:
        """A worker has ended."""
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed.done():
            self.failed.set_exception(error)
        self.more()

    async def worker(self) -> None:
        """Row after row, until there are none; or until a call changed what the next one must find untouched."""
        self.fresh -= 1
        pending = self.pending
        while pending and not self.closing:
            if not await self.rows_of(pending[0]):
                return

    async def rows_of(self, entry: Entry) -> bool:
        """Calls for the rows of an entry that are still to be taken; False where this worker should make no more."""
        task = asyncio.current_task()
        assert task is not None
        call, clean, cancelling, monotonic = self.call, self.context, task.cancelling, time.monotonic
        values, results = entry.values, entry.results
        since, turn = monotonic(), self.watched()
        entry.since = entry.since or since
        for i in entry.todo:
            if self.fresh < _AHEAD:  # this call may wait: others go on
                self.more()
                self.more()
            try:
                results[i] = await call(values[i])
            except GaveUpError:
                raise
            except CAUGHT as error:
                entry.faults[i] = fault_of(error)
            except asyncio.CancelledError as error:
                if self.closing:
                    raise
                entry.faults[i] = fault_of(error)  # the function cancelled itself
            entry.left -= 1
            if not entry.left:
                entry.finish()
            if cancelling() or copy_context() != clean:
                return False
            if monotonic() - since > HOLD:
                if turn == self.turn:
                    await asyncio.sleep(0)
                since, turn = monotonic(), self.watched()
        if self.pending and self.pending[0] is entry:
            self.pending.popleft()
        return True

    def watched(self) -> int:
        """The turn of the loop that this is: while it stays so, the worker that asked has not waited."""
        if not self.turning:
            self.turning = True
            asyncio.get_running_loop().call_soon(self.turned)
        return self.turn

    def turned(self) -> None:
        self.turn += 1
        self.turning = False

    async def close(self) -> None:
        """Cancel what is under way, and wait for its end."""
        self.closing = True
        left = list(self.tasks)
        for task in left:
            task.cancel()
        if left:
            await settled(asyncio.wait(left))
        if not self.failed.cancel() and not self.failed.cancelled():
            self.failed.exception()  # seen


async def calls_in_flight(work: Work, parcels: AsyncIterator[Any], context: Context) -> AsyncGenerator[Any, None]:
    """Calls on the rows of parcels, several at once, also across parcels; parcels leave in order.

    Without `ordered` a parcel leaves when its own rows are done. A parcel that is done never waits for the next
    one to come. A failure of the input waits until the calls that were begun before it are finished.
    """
    calls = _Calls(work)
    pace = Pace(work)
    incoming = _Incoming(in_slices(parcels, pace))
    flying: deque[Entry] = deque()
    try:
        while True:
            waiting: set[asyncio.Future[Any]] = set()
            if not incoming.ended and _room(calls, flying, context.memory // 4):
                waiting.add(incoming.next())
            if flying:
                waiting |= {flying[0].done} if work.ordered else {e.done for e in flying}
            if not waiting:
                break
            waiting.add(calls.failed)
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if calls.failed.done():
                calls.failed.result()
            part = incoming.take()
            if part is not None:
                try:
                    extra, values = await work.unpack(part)
                except Exception as error:
                    if goes_on(part, error, context):
                        flying.append(Entry(part.emptied(), None, ()))
                    else:
                        incoming.fail(error)
                else:
                    flying.append(Entry(part, extra, values))
                    calls.add(flying[-1])
            while (entry := _first_done(flying, work.ordered)) is not None:
                flying.remove(entry)
                pace.took(len(entry.values), entry.seconds)
                try:
                    made = await work.pack(entry)
                except AiopipeError as error:
                    if not goes_on(entry.parcel, error, context):
                        raise
                    made = entry.parcel.emptied()
                yield made
        if incoming.error is not None:
            raise incoming.error
    finally:
        try:
            await incoming.aclose()
        finally:
            await calls.close()


def is_light(part: Any, more: int = 0) -> bool:
    """Whether what is done with the rows of a part takes a millisecond or so, and is best done at once.

    A thread that computes in Python takes the interpreter's lock from the loop, at each request that the loop
    sends, and keeps it for 5 ms: `fetch` was a tenth slower for it. more: bytes that come in besides.
    """
    if len(part) > SLICE:
        return False
    if isinstance(part, Items):
        size = part.nbytes
    else:
        body = part.body
        size = int(
            (body.stops - body.starts).sum()
            if part.rows is None
            else (body.stops[part.rows] - body.starts[part.rows]).sum()
        )
    return size + more <= _LIGHT


def goes_on(parcel: Any, error: Exception, context: Context) -> bool:
    """Whether the run goes on without the files of this parcel, which has failed."""
    failures = context.found.failures
    if not isinstance(error, AiopipeError) or not failures.goes_on(error):
        return False
    failures.add([s.file for s in parcel.segments], error)
    failures.records += len(parcel)
    return True


def _room(calls: _Calls, flying: deque[Entry], budget: int) -> bool:
    """Whether one more parcel may be begun: those that wait behind a slow one hold memory."""
    if len(flying) < 2:
        return True
    few = calls.backlog < max(calls.limit, SLICE) and len(flying) <= calls.limit
    few = few and sum(len(e.values) for e in flying) <= calls.limit * SLICE
    return few and sum(e.parcel.nbytes for e in flying) < budget


def _first_done(flying: deque[Entry], ordered: bool) -> Entry | None:
    if ordered:
        return flying[0] if flying and flying[0].done.done() else None
    return next((e for e in flying if e.done.done()), None)


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


async def in_slices(parcels: AsyncIterator[Any], pace: Pace) -> AsyncGenerator[Any, None]:
    """Parts small enough that a `head` behind the calls does not wait for thousands of them."""
    async for parcel in parcels:
        if isinstance(parcel, Items):
            yield parcel
        else:
            for part in slices(parcel, pace.size):
                yield part
