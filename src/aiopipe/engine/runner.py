"""Run nodes: one task each in one TaskGroup, a channel on every edge.

How a run can end, and anything else is a bug:

- Done: the source ends, each node empties its input, closes its output and ends; the sink commits.
- Satisfied: a node returns early (`head`). It cancels its input channel; the producer's next put raises
  Closed, which closes its own generator, files included, and cancels its input in turn.
- Failed: a node raises. Its error travels behind the parcels that came before it, so that of several faults in
  the input it is always the first that ends the run, whoever was quicker; at the sink it leaves the TaskGroup,
  which cancels the others, and the exception group that leaves `run` holds every cause. A satisfied node never
  hears of an error beyond what it wanted. Hops that are in threads finish, their results are dropped; the pools
  are joined before `run` returns.
- Asked to stop: sources end at the next block; everything else as in Done.
- Cancelled from outside: as in Failed, with CancelledError.

Order: a hop has several parcels in work at once and hands them on in the order they came in, unless a stage
said ordered=False.

    in   4 3 2 1          1 done -> out
         | | | +- worker  2 running
         | | +--- worker  3 done, waits for 2
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from aiopipe.engine.channel import Channel, Closed, Statistics
from aiopipe.engine.workers import Workers
from aiopipe.errors import AiopipeError
from aiopipe.fuse import Node, Tally, relabelled
from aiopipe.loopwatch import IN_HAND
from aiopipe.stage import Outcome

__all__ = ["Envelope", "Trace", "depth", "run_nodes"]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parcel on its way, with what was done to it since somebody last took account: a flow, or the sink."""

    parcel: Any
    tallies: tuple[Tally, ...] = ()


@dataclass(slots=True)
class Trace:
    """What a run leaves behind for the report: statistics of every channel, and each node's busy seconds.

    satisfied: a node had enough before its input ended.
    """

    channels: dict[str, Statistics] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)
    satisfied: bool = False


Account = Callable[[Envelope, bool], Awaitable[Any]]


async def run_nodes(nodes: Sequence[Node], workers: Workers, account: Account) -> tuple[Outcome, Trace]:
    """Run the nodes to the end; the sink's outcome.

    account: called for every envelope that a flow or the sink takes, in order, with True for the sink; gives the
    parcel to work on, or raises to end the run. Exceptions arrive in one ExceptionGroup.
    """
    trace = Trace()
    channels = [
        Channel[Envelope](f"{a.name} -> {b.name}", depth(a, workers), max(workers.memory // 8, 1))
        for a, b in zip(nodes[:-1], nodes[1:], strict=True)
    ]
    outcome: list[Outcome] = []

    async def together() -> None:
        async with asyncio.TaskGroup() as group:
            for i, node in enumerate(nodes):
                reader = channels[i - 1] if i else None
                writer = channels[i] if i < len(channels) else None
                task = _task(node, reader, writer, workers, account, trace, outcome)
                group.create_task(task, name=node.name)

    await _apart_from_the_caller(together())
    for channel in channels:
        trace.channels[channel.name] = channel.statistics
        trace.satisfied = trace.satisfied or channel.unwanted
    return outcome[0], trace


def depth(producer: Node, workers: Workers) -> int:
    """Small batches and shallow queues: deep ones only cost memory and cache."""
    return 2 if producer.shape == "source" else max(2, workers.workers)


async def _apart_from_the_caller(work: Coroutine[Any, Any, None]) -> None:
    """Await `work` in a task of its own; a cancelled caller cancels it, and leaves when it has ended.

    A TaskGroup that fails while it waits cancels its parent and, before Python 3.13, never takes that back: a
    later TaskGroup or timeout in the caller's task would take it for a cancellation from outside.
    """
    task = asyncio.create_task(work, name="aiopipe run")
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
            task.cancel()
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # seen: the cancellation is what the caller hears of
        raise cancelled
    task.result()


async def _task(
    node: Node,
    reader: Channel[Envelope] | None,
    writer: Channel[Envelope] | None,
    workers: Workers,
    account: Account,
    trace: Trace,
    outcome: list[Outcome],
) -> None:
    begun = time.perf_counter()
    IN_HAND.set((workers.leash, node.label))
    try:
        if node.shape == "source":
            assert writer is not None
            await _emit(node.steps[0].stage.open(workers), writer, node, None)  # type: ignore[attr-defined]
            workers.found.ended = workers.found.ended or writer.cancelled
        elif node.shape == "hop":
            assert reader is not None and writer is not None
            await _hop(node, reader, writer, workers)
        elif node.shape == "flow":
            assert reader is not None and writer is not None
            step = node.steps[0]
            taken = _Taken(reader, account, sink=False)
            async with aclosing(taken.parcels()) as parcels:
                flow = step.stage.flow(parcels, step.scope, workers)  # type: ignore[attr-defined]
                await _emit(flow, writer, node, taken)
        else:
            assert reader is not None
            taken = _Taken(reader, account, sink=True)
            async with aclosing(taken.parcels()) as parcels:
                done = await node.steps[0].stage.consume(parcels, workers)  # type: ignore[attr-defined]
            taken.check()
            outcome.append(done)
    finally:
        if reader is not None:
            reader.cancel()
        if writer is not None:
            writer.close()
        waited = (reader.statistics.waited_to_get if reader else 0.0) + (
            writer.statistics.waited_to_put if writer else 0.0
        )
        trace.busy[f"{node.shape} {node.name}"] = max(0.0, time.perf_counter() - begun - waited)


class _Taken:
    """The consumer's end of a channel as an async generator, with a count of the records taken."""

    def __init__(self, channel: Channel[Envelope], account: Account, *, sink: bool) -> None:
        self.channel = channel
        self.account = account
        self.sink = sink
        self.records = 0
        self._error: Exception | None = None

    async def parcels(self) -> AsyncGenerator[Any, None]:
        while True:
            try:
                parcel = await self.account(await self.channel.get(), self.sink)
            except Closed:
                return
            except Exception as error:
                self._error = error
                raise
            self.records += len(parcel)
            yield parcel

    def check(self) -> None:
        """Raise what ended the input, should the stage have swallowed it."""
        if self._error is not None:
            raise self._error


async def _emit(parcels: AsyncIterator[Any], writer: Channel[Envelope], node: Node, taken: _Taken | None) -> None:
    """Put what a source or a flow yields, until it ends, fails or nobody wants more."""
    step, counted = node.steps[0], 0
    async with aclosing(parcels) as entered:  # type: ignore[type-var]
        while True:
            tallies: tuple[Tally, ...] = ()
            try:
                parcel = await anext(entered)
                if taken is not None:
                    parcel = relabelled(parcel, 0, step.label)
                    rejected = len(getattr(parcel, "rejects", ()))
                    tallies = (Tally(step.name, taken.records - counted, len(parcel), rejected, 0.0),)
                    counted = taken.records
                await writer.put(Envelope(parcel, tallies), parcel.nbytes)
            except Closed:
                return
            except StopAsyncIteration:
                break
            except Exception as error:
                if isinstance(error, AiopipeError):
                    error.stage = error.stage or step.label
                writer.close(error)
                return
    try:
        if taken is not None:
            taken.check()
    except Exception as error:
        writer.close(error)


async def _hop(node: Node, reader: Channel[Envelope], writer: Channel[Envelope], workers: Workers) -> None:
    """Keep several parcels in work, hand them on in order (or as they finish)."""
    hop = _Hop(node, reader, workers)
    try:
        while await hop.step():
            for envelope in hop.finished():
                await writer.put(envelope, envelope.parcel.nbytes)
        if hop.error is not None:
            writer.close(hop.error)
    except Closed:
        return  # nobody wants more
    except Exception as error:
        writer.close(error)
    finally:
        await hop.aclose()


@dataclass(eq=False, slots=True)
class _Call:
    """A parcel in work."""

    future: asyncio.Future[Any]
    nbytes: int
    tallies: tuple[Tally, ...]


class _Hop:
    """The parcels that one hop has in work, oldest first."""

    def __init__(self, node: Node, reader: Channel[Envelope], workers: Workers) -> None:
        self._node = node
        self._reader = reader
        self._workers = workers
        self._ordered = all(getattr(s.stage, "ordered", True) for s in node.steps)
        self._window = 1 if node.placement == "main thread" else workers.workers + 1
        self._budget = max(workers.memory // 4, 1)
        self._flying: deque[_Call] = deque()
        self._weight = 0
        self._incoming: asyncio.Future[Envelope] | None = None
        self._ended = False
        self.error: Exception | None = None  # what ended the input; it follows what came before it

    async def step(self) -> bool:
        """Wait until there is something to start or to hand on; False when all is done."""
        flying = self._flying
        room = not self._ended and (not flying or (len(flying) < self._window and self._weight < self._budget))
        waiting: set[asyncio.Future[Any]] = set()
        if room:
            if self._incoming is None:
                self._incoming = asyncio.ensure_future(self._reader.get())
            waiting.add(self._incoming)
        if flying:
            waiting |= {flying[0].future} if self._ordered else {c.future for c in flying}
        if not waiting:
            return False
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self._incoming is not None and self._incoming.done():
            self._take(self._incoming)
            self._incoming = None
        return True

    def _take(self, incoming: asyncio.Future[Envelope]) -> None:
        try:
            envelope = incoming.result()
        except Closed:
            self._ended = True
        except Exception as error:
            self._ended, self.error = True, error
        else:
            parcel = envelope.parcel
            future = asyncio.ensure_future(self._workers.run(self._node, parcel))
            self._flying.append(_Call(future, parcel.nbytes, envelope.tallies))
            self._weight += parcel.nbytes

    def finished(self) -> Iterator[Envelope]:
        """What may be handed on now; raises what a worker raised."""
        while True:
            among = list(self._flying)[:1] if self._ordered else self._flying
            call = next((c for c in among if c.future.done()), None)
            if call is None:
                return
            self._flying.remove(call)
            self._weight -= call.nbytes
            parcel, tallies = call.future.result()
            yield Envelope(parcel, call.tallies + tallies)

    async def aclose(self) -> None:
        """Cancel what is left and wait for its end."""
        left = [c.future for c in self._flying] + ([self._incoming] if self._incoming is not None else [])
        for future in left:
            future.cancel()
        if left:
            await asyncio.gather(*left, return_exceptions=True)
