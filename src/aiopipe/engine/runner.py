"""Run nodes: one task each in one TaskGroup, a channel on every edge.

How a run can end, and anything else is a bug:

- Done: the source ends, each node empties its input, closes its output and ends; the sink commits. Of several
  sinks none learns that its input has ended before all have taken theirs: what a sink keeps back until the end
  (one file for all records) becomes visible only if no branch has failed.
- Satisfied: a node returns early (`head`). It cancels its input channel; the producer's next put raises
  Closed, which closes its own generator, files included, and cancels its input in turn. A split goes on as long
  as one of its branches wants more.
- Failed: a node raises. Its error travels behind the parcels that came before it, so that of several faults in
  the input it is always the first that ends the run, whoever was quicker; at the sink it leaves the TaskGroup,
  which cancels the others, and the exception group that leaves `run` holds every cause. A satisfied node never
  hears of an error beyond what it wanted. Hops that are in threads finish, their results are dropped; the pools
  are joined before `run` returns.
- Failed, and to go on (`Found.failures`): what fails on the records of a file says so there and sends an empty end
  of the file on in their place; the sink drops what it has of it, and the run ends as in Done.
- Asked to stop: sources end at the next block; everything else as in Done.
- Cancelled from outside: as in Failed, with CancelledError.

A split hands every parcel to its branches one after the other, so the slowest of them holds up the trunk once its
channel is full. A merge takes its inputs one after the other (an input begins when the one before it has ended), or
as they come.

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
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from aiopipe.engine.channel import Channel, Closed, Statistics
from aiopipe.engine.forks import Curtain, Envelope, Gate, merge, split, upstream
from aiopipe.engine.stretches import through
from aiopipe.engine.workers import Workers
from aiopipe.errors import AiopipeError, ChangedError, OutputError, RecordError
from aiopipe.fuse import Node, Tally, relabelled, without_notes
from aiopipe.model import FileRef
from aiopipe.stage import Items, Outcome
from aiopipe.storage.groups import Group
from aiopipe.storage.small import small_files
from aiopipe.storage.stretches import Stretch
from aiopipe.watch import IN_HAND

__all__ = ["Account", "Envelope", "Trace", "byte_bound", "depth", "run_nodes"]

_EACH = 40  # bits for the files of one source, where there are several: see renumbered


@dataclass(slots=True, eq=False, repr=False)
class Trace:
    """What a run leaves behind for the report: statistics of every channel, and each node's busy seconds.

    satisfied: a node had enough before its input ended. nbytes: what the sources gave. outcomes: of the sinks, and
    shares: how many records a split gave to each branch, both by the name of the step.
    """

    channels: dict[str, Statistics] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)
    satisfied: bool = False
    nbytes: int = 0
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    shares: dict[str, list[int]] = field(default_factory=dict)


class Account(Protocol):
    """Called for every envelope that a flow, a split or a sink takes, in order."""

    async def __call__(self, envelope: Envelope, sink: str) -> Any:
        """The parcel to work on, or raises to end the run. sink: the sink's name, "" for others."""
        ...

    def ended(self, sink: str) -> None:
        """The sink will take no more."""
        ...


async def run_nodes(nodes: Sequence[Node], workers: Workers, account: Account) -> Trace:
    """Run the nodes to the end. Exceptions arrive in one ExceptionGroup, each of them once."""
    edges = _Edges(nodes, workers, account)

    async def together() -> None:
        async with asyncio.TaskGroup() as group:
            for i, node in enumerate(nodes):
                group.create_task(_task(i, node, edges), name=node.name)

    try:
        await _apart_from_the_caller(together())
    except ExceptionGroup as error:
        raise _once(error) from None
    for channel in edges.channels.values():
        edges.trace.channels[channel.name] = channel.statistics
        edges.trace.satisfied = edges.trace.satisfied or channel.unwanted
    edges.trace.nbytes = sum(c.statistics.nbytes for (a, _), c in edges.channels.items() if not nodes[a].after)
    return edges.trace


def _once(group: ExceptionGroup[Exception]) -> ExceptionGroup[Exception]:
    """The group without repetitions: what failed before a split reaches several sinks."""
    only = {id(error): error for error in group.exceptions}
    return group if len(only) == len(group.exceptions) else group.derive(list(only.values()))


class _Edges:
    """What the nodes of a run share: channels, the gates before the inputs of a merge, the sinks' curtain."""

    def __init__(self, nodes: Sequence[Node], workers: Workers, account: Account) -> None:
        self.workers = workers
        self.account = account
        self.trace = Trace()
        self.width = width_of(nodes)
        self.channels = {
            (a, b): Channel[Envelope](
                f"{nodes[a].name} -> {node.name}", depth(nodes[a], workers), byte_bound(nodes, workers)
            )
            for b, node in enumerate(nodes)
            for a in node.after
        }
        sinks = sum(node.shape == "sink" for node in nodes)
        self.curtain = Curtain(sinks) if sinks > 1 else None
        sources = [i for i, node in enumerate(nodes) if node.shape == "source"]
        self.bases = {i: (k << _EACH) for k, i in enumerate(sources)}
        self.gates: dict[tuple[int, int], Gate] = {}  # by the edge into a merge
        self._before: dict[int, list[Gate]] = {i: [] for i in sources}
        for b, node in enumerate(nodes):
            if node.shape == "merge" and node.steps[0].stage.in_order:  # type: ignore[attr-defined]
                for a in node.after[1:]:
                    gate = self.gates[a, b] = asyncio.get_running_loop().create_future()
                    for i in upstream(nodes, a) & set(sources):
                        self._before[i].append(gate)

    def readers(self, i: int) -> list[Channel[Envelope]]:
        """The channels into a node, in order."""
        return [c for (_, b), c in self.channels.items() if b == i]

    def writers(self, i: int) -> list[Channel[Envelope]]:
        """The channels out of a node, in order."""
        return [c for (a, _), c in self.channels.items() if a == i]

    async def wanted(self, i: int) -> bool:
        """Wait until the source's turn has come; False when it never will."""
        for gate in self._before[i]:
            if not await asyncio.shield(gate):
                return False
        return True


def width_of(nodes: Sequence[Node]) -> int:
    """How many lines of nodes stand beside each other where there are most."""
    shapes = [node.shape for node in nodes]
    return max(1, shapes.count("sink"), shapes.count("source"))


def byte_bound(nodes: Sequence[Node], workers: Workers) -> int:
    """Bytes that a channel may hold: branches share what a line of nodes has for itself."""
    return max(workers.memory // 8 // width_of(nodes), 1)


def depth(producer: Node, workers: Workers) -> int:
    """Small batches and shallow queues: deep ones only cost memory and cache. A source has its next block at hand."""
    return 1 if producer.shape == "source" else max(2, workers.workers)


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


async def _task(i: int, node: Node, edges: _Edges) -> None:
    begun = time.perf_counter()
    IN_HAND.set((edges.workers.leash, node.label))
    readers, writers = edges.readers(i), edges.writers(i)
    try:
        await _work(i, node, readers, writers, edges)
    finally:
        for reader in readers:
            reader.cancel()
        for writer in writers:
            writer.close()
        waited = sum(r.statistics.waited_to_get for r in readers) + sum(w.statistics.waited_to_put for w in writers)
        edges.trace.busy[f"{node.shape} {node.name}"] = max(0.0, time.perf_counter() - begun - waited)


async def _work(
    i: int, node: Node, readers: list[Channel[Envelope]], writers: list[Channel[Envelope]], edges: _Edges
) -> None:
    step, workers = node.steps[0], edges.workers
    stage: Any = step.stage
    if node.shape == "source":
        if await edges.wanted(i):
            await _emit(stage.open(workers), writers[0], node, None, edges.bases[i])
            if workers.stopping and not stage.tells_cut and not writers[0].cancelled:
                workers.found.cut = True  # perhaps: who knows what a user's source did
    elif node.shape == "merge":
        gates = [edges.gates.get((a, i)) for a in node.after]
        await merge(node, readers, writers[0], gates)
    elif node.shape == "hop":
        await _hop(node, readers[0], writers[0], workers, max(workers.memory // 4 // edges.width, 1))
    elif node.shape == "flow":
        taken = _Taken(readers[0], edges.account)
        async with aclosing(taken.parcels()) as parcels:
            await _emit(stage.flow(parcels, step.scope, workers), writers[0], node, taken)
    elif node.shape == "split":
        edges.trace.shares[step.name] = await split(node, readers[0], writers, edges.account)
    else:
        taken = _Taken(readers[0], edges.account, step.name, edges.curtain)
        async with aclosing(taken.parcels()) as parcels:
            done = await stage.consume(parcels, workers)
        taken.check()
        taken.done()
        edges.trace.outcomes[step.name] = done


class _Taken:
    """The consumer's end of a channel as an async generator, with a count of the records taken.

    sink: its name; "" for a flow. curtain: holds the end of the input back until every sink has reached its own.
    """

    def __init__(
        self, channel: Channel[Envelope], account: Account, sink: str = "", curtain: Curtain | None = None
    ) -> None:
        self.channel = channel
        self.account = account
        self.sink = sink
        self.records = 0
        self._curtain = curtain
        self._error: Exception | None = None

    async def parcels(self) -> AsyncGenerator[Any, None]:
        while True:
            try:
                parcel = await self.account(await self.channel.get(), self.sink)
            except Closed:
                break
            except Exception as error:
                self._error = error
                raise
            self.records += len(parcel)
            yield parcel
        self.done()
        if self._curtain is not None:
            await self._curtain.wait_raised()

    def done(self) -> None:
        """Nothing more will be taken."""
        if self.sink:
            self.account.ended(self.sink)
        if self._curtain is not None:
            self._curtain.reached(self.sink)

    def check(self) -> None:
        """Raise what ended the input, should the stage have swallowed it."""
        if self._error is not None:
            raise self._error


async def _emit(
    parcels: AsyncIterator[Any], writer: Channel[Envelope], node: Node, taken: _Taken | None, base: int = 0
) -> None:
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
                    parcel, noted = without_notes(parcel)
                    tallies = (Tally(step.name, taken.records - counted, len(parcel), rejected, 0.0, noted),)
                    counted = taken.records
                elif step.kind != "records":
                    tallies = (Tally(step.name, len(parcel), len(parcel), 0, 0.0),)
                if base:
                    parcel = renumbered(parcel, base)
                await writer.put(Envelope(parcel, tallies), parcel.nbytes)
            except Closed:
                return
            except StopAsyncIteration:
                break
            except Exception as error:
                if isinstance(error, AiopipeError):
                    error.stage = error.stage or step.label
                if base and isinstance(error, RecordError) and error.chunk is not None:
                    error.chunk = (error.chunk[0] + base, *error.chunk[1:])
                writer.close(error)
                return
    try:
        if taken is not None:
            taken.check()
    except Exception as error:
        writer.close(error)


def renumbered(parcel: Any, base: int) -> Any:
    """A parcel of a later source: its files' numbers follow those of the sources before it."""
    if isinstance(parcel, Items):
        return replace(parcel, values=[_moved(v, base) if isinstance(v, FileRef) else v for v in parcel.values])
    segments = getattr(parcel, "segments", ())
    if not segments:
        return parcel
    return replace(parcel, segments=tuple(s._replace(file=_moved(s.file, base)) for s in segments))


def _moved(file: FileRef, base: int) -> FileRef:
    return replace(file, index=file.index + base)


async def _hop(node: Node, reader: Channel[Envelope], writer: Channel[Envelope], workers: Workers, budget: int) -> None:
    """Keep several parcels in work, hand them on in order (or as they finish). budget: their bytes, about."""
    hop = _Hop(node, reader, workers, budget)
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


@dataclass(slots=True, eq=False, repr=False)
class _Call:
    """A parcel in work."""

    future: asyncio.Future[Any]
    nbytes: int
    tallies: tuple[Tally, ...]


class _Hop:
    """The parcels that one hop has in work, oldest first."""

    def __init__(self, node: Node, reader: Channel[Envelope], workers: Workers, budget: int) -> None:
        self._node = node
        self._reader = reader
        self._workers = workers
        self._ordered = all(getattr(s.stage, "ordered", True) for s in node.steps)
        remote = workers.remotes.count if node.portable else 0  # each has one in hand, and one to go on with
        self._window = 1 if node.placement == "main thread" else workers.workers + 1 + remote
        self._budget = budget
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
            future = asyncio.ensure_future(self._run(parcel))
            self._flying.append(_Call(future, parcel.nbytes, envelope.tallies))
            self._weight += parcel.nbytes

    async def _run(self, parcel: Any) -> list[Any]:
        """What the node makes of a parcel; where it fails and the run goes on, of each of its files by itself."""
        if isinstance(parcel, Group):
            return await self._group(parcel)
        if isinstance(parcel, Stretch):
            return await through(parcel, self._workers, self._node, self._run)
        try:
            return [await self._workers.run(self._node, parcel)]
        except AiopipeError as error:
            failures = self._workers.found.failures
            if not failures.goes_on(error) or not hasattr(parcel, "apart"):
                raise
            parts = parcel.apart()
            if len(parts) > 1:
                return [made for part in parts for made in await self._run(part)]
            failures.add([s.file for s in parcel.segments], error)
        instead, tallies = await self._workers.hop(self._node.run, parcel.emptied())
        lost = Tally(self._node.steps[0].name, len(parcel), 0, 0, 0.0, failed=len(parcel))
        return [(instead, (lost, *tallies))]

    async def _group(self, group: Group) -> list[Any]:
        """What the node makes of small files; where something is the matter, of one chunk of them after the other.

        An error stands behind what came of the files before it.
        """
        workers = self._workers
        failures, units = workers.found.failures, workers.found.units
        whole = await workers.run_group(self._node, group)
        if isinstance(whole, list):
            return whole
        if isinstance(whole, OutputError) and not failures.goes_on(whole):
            raise whole
        known = whole if isinstance(whole, ChangedError) else None
        made: list[Any] = []
        error: Exception | None
        try:
            chunks, error = await workers.io(small_files, group.inputs, failures, units, known)
            for chunk in chunks:
                made += await self._run(chunk)
        except Exception as other:
            error = other
        return made if error is None else [*made, error]

    def finished(self) -> Iterator[Envelope]:
        """What may be handed on now; raises what a worker raised."""
        while True:
            among = list(self._flying)[:1] if self._ordered else self._flying
            call = next((c for c in among if c.future.done()), None)
            if call is None:
                return
            self._flying.remove(call)
            self._weight -= call.nbytes
            before = call.tallies
            for one in call.future.result():
                if isinstance(one, Exception):
                    raise one
                parcel, tallies = one
                yield Envelope(parcel, before + tallies)
                before = ()

    async def aclose(self) -> None:
        """Cancel what is left and wait for its end."""
        left = [c.future for c in self._flying] + ([self._incoming] if self._incoming is not None else [])
        for future in left:
            future.cancel()
        if left:
            await asyncio.gather(*left, return_exceptions=True)
        stretches = self._workers.found.stretches
        if stretches is not None:
            stretches.close()
