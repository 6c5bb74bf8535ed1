"""Run nodes: one task each in one TaskGroup, a channel on every edge.

How a run can end, and anything else is a bug:

- Done: the source ends, each node empties its input, closes its output and ends; the sink commits.
- Satisfied: a node returns early (`head`). It cancels its input channel; the producer's next put raises
  Closed, which closes its own generator, files included, and cancels its input in turn.
- Failed: a node raises. The TaskGroup cancels the others; the exception group that leaves `run` holds every
  cause. Hops that are in threads finish, their results are dropped; the pools are joined before `run` returns.
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
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from aiopipe.engine.channel import Channel, Closed, Statistics
from aiopipe.engine.workers import Workers
from aiopipe.fuse import Node, Tally, relabelled
from aiopipe.stage import Outcome

__all__ = ["Envelope", "Trace", "run_nodes"]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parcel on its way, with what was done to it since somebody last took account."""

    parcel: Any
    tallies: tuple[Tally, ...] = ()


@dataclass(slots=True)
class Trace:
    """What a run leaves behind for the report: statistics of every channel, and each node's busy seconds."""

    channels: dict[str, Statistics] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)


Account = Callable[[Envelope], Any]


async def run_nodes(nodes: Sequence[Node], workers: Workers, account: Account) -> tuple[Outcome, Trace]:
    """Run the nodes to the end; the sink's outcome.

    account: called once for every envelope when its consumer takes it, in order; gives the parcel to work on,
    or raises to end the run. Exceptions arrive in one ExceptionGroup.
    """
    trace = Trace()
    channels = [
        Channel[Envelope](f"{a.name} -> {b.name}", _depth(a, workers), max(workers.memory // 8, 1))
        for a, b in zip(nodes[:-1], nodes[1:], strict=True)
    ]
    outcome: list[Outcome] = []
    async with asyncio.TaskGroup() as group:
        for i, node in enumerate(nodes):
            reader = channels[i - 1] if i else None
            writer = channels[i] if i < len(channels) else None
            task = _task(node, reader, writer, workers, account, trace, outcome)
            group.create_task(task, name=node.name)
    for channel in channels:
        trace.channels[channel.name] = channel.statistics
    return outcome[0], trace


def _depth(producer: Node, workers: Workers) -> int:
    """Small batches and shallow queues: deep ones only cost memory and cache."""
    return 2 if producer.shape == "source" else max(2, workers.workers)


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
    try:
        if node.shape == "source":
            assert writer is not None
            await _emit(node.steps[0].stage.open(workers), writer, node, ())  # type: ignore[attr-defined]
        elif node.shape == "hop":
            assert reader is not None and writer is not None
            await _hop(node, reader, writer, workers, account)
        elif node.shape == "flow":
            assert reader is not None and writer is not None
            step = node.steps[0]
            taken = _Taken(reader, account)
            flow = step.stage.flow(taken.parcels(), step.scope, workers)  # type: ignore[attr-defined]
            await _emit(flow, writer, node, taken)
        else:
            assert reader is not None
            taken = _Taken(reader, account)
            outcome.append(await node.steps[0].stage.consume(taken.parcels(), workers))  # type: ignore[attr-defined]
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

    def __init__(self, channel: Channel[Envelope], account: Account) -> None:
        self.channel = channel
        self.account = account
        self.records = 0

    async def parcels(self) -> AsyncIterator[Any]:
        while True:
            try:
                envelope = await self.channel.get()
            except Closed:
                return
            parcel = self.account(envelope)
            self.records += len(parcel)
            yield parcel


async def _emit(parcels: AsyncIterator[Any], writer: Channel[Envelope], node: Node, taken: _Taken | tuple[()]) -> None:
    """Put what a source or a flow yields, until it ends or nobody wants more."""
    step, counted = node.steps[0], 0
    async with aclosing(parcels) as entered:  # type: ignore[type-var]
        async for parcel in entered:
            tallies: tuple[Tally, ...] = ()
            if isinstance(taken, _Taken):
                parcel = relabelled(parcel, 0, step.label)
                rejected = len(getattr(parcel, "rejects", ()))
                tallies = (Tally(step.name, taken.records - counted, len(parcel), rejected, 0.0),)
                counted = taken.records
            try:
                await writer.put(Envelope(parcel, tallies), parcel.nbytes)
            except Closed:
                return


async def _hop(
    node: Node, reader: Channel[Envelope], writer: Channel[Envelope], workers: Workers, account: Account
) -> None:
    """Keep several parcels in work, hand them on in order (or as they finish)."""
    ordered = all(getattr(s.stage, "ordered", True) for s in node.steps)
    window = 1 if node.placement == "main thread" else workers.workers + 1
    budget = max(workers.memory // 4, 1)
    flying: deque[tuple[asyncio.Future[Any], int]] = deque()
    weight = 0
    ended = False
    incoming: asyncio.Future[Envelope] | None = None

    def start(parcel: Any) -> None:
        nonlocal weight
        flying.append((asyncio.ensure_future(workers.run(node, parcel)), parcel.nbytes))
        weight += parcel.nbytes

    try:
        while True:
            room = not ended and (not flying or (len(flying) < window and weight < budget))
            if room and incoming is None:
                incoming = asyncio.ensure_future(reader.get())
            waiting: set[asyncio.Future[Any]] = set()
            if incoming is not None and room:
                waiting.add(incoming)
            if flying:
                waiting |= {flying[0][0]} if ordered else {f for f, _ in flying}
            if not waiting:
                return
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if incoming is not None and incoming.done():
                future, incoming = incoming, None
                try:
                    start(account(future.result()))
                except Closed:
                    ended = True
            while True:
                at = next((i for i, (f, _) in enumerate(flying) if f.done()), None)
                if at is None or (ordered and at != 0):
                    break
                finished, size = flying[at]
                del flying[at]
                weight -= size
                parcel, tallies = finished.result()
                await writer.put(Envelope(parcel, tallies), parcel.nbytes)
    except Closed:
        return  # nobody wants more
    finally:
        left = [f for f, _ in flying] + ([incoming] if incoming is not None else [])
        for future in left:
            future.cancel()
        if left:
            await asyncio.gather(*left, return_exceptions=True)
