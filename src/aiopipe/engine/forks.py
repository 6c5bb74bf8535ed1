"""Where a pipeline divides and where it joins: split, merge, and what keeps branches in step."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiopipe.engine.channel import Channel, Closed
from aiopipe.fuse import Node, Tally
from aiopipe.stage import Items, Shares
from aiopipe.tuples import NamedTuple

if TYPE_CHECKING:
    from aiopipe.engine.runner import Account

__all__ = ["Curtain", "Envelope", "Gate", "merge", "split", "upstream"]

# Told True when an input of a merge may begin, False when it never need.
Gate = asyncio.Future[bool]


class Envelope(NamedTuple):
    """A parcel on its way, with what was done to it since somebody last took account: a flow, a split, or a sink."""

    parcel: Any
    tallies: tuple[Tally, ...] = ()


class Curtain:
    """Rises when all sinks have reached the end of their input, and no sooner."""

    def __init__(self, sinks: int) -> None:
        self._left = sinks
        self._there: set[str] = set()
        self._raised = asyncio.Event()

    def reached(self, sink: str) -> None:
        """This sink has taken all it will take."""
        self._there.add(sink)
        if len(self._there) == self._left:
            self._raised.set()

    async def wait_raised(self) -> None:
        """Wait for the others."""
        await self._raised.wait()


async def split(
    node: Node, reader: Channel[Envelope], writers: Sequence[Channel[Envelope]], account: Account
) -> list[int]:
    """Hand every parcel (or its shares) to all branches that want it; how many records each was given."""
    wanted = dict(enumerate(writers))
    given = [0] * len(writers)
    try:
        while wanted:
            envelope = await reader.get()
            parcel = envelope.parcel
            if not isinstance(parcel, Shares):
                tally = Tally(node.steps[0].name, len(parcel), len(parcel), 0, 0.0)
                envelope = envelope._replace(tallies=(*envelope.tallies, tally))
            parcel = await account(envelope, "")
            for i, part in enumerate(_parts(parcel, len(writers))):
                given[i] += len(part)
                if i not in wanted:
                    continue
                try:
                    await writers[i].put(Envelope(part), part.nbytes)
                except Closed:
                    del wanted[i]
    except Closed:
        pass
    except Exception as error:  # behind the parcels that came before it, to every branch that is still there
        for writer in wanted.values():
            writer.close(error)
    return given


def _parts(parcel: Any, count: int) -> Sequence[Any]:
    """What each branch gets. Batches are never changed and so are shared; rows that are dicts are copied."""
    if isinstance(parcel, Shares):
        return parcel.parts
    if not isinstance(parcel, Items):
        return [parcel] * count
    return [parcel, *(replace(parcel, values=[_copied(v) for v in parcel.values]) for _ in range(1, count))]


def _copied(value: Any) -> Any:
    return value.copy() if type(value) is dict else value


async def merge(
    node: Node, readers: Sequence[Channel[Envelope]], writer: Channel[Envelope], gates: Sequence[Gate | None]
) -> None:
    """Hand on what the inputs give: one after the other where they have gates, else as it comes."""
    name = node.steps[0].name
    try:
        if node.steps[0].stage.in_order:  # type: ignore[attr-defined]
            for reader, gate in zip(readers, gates, strict=True):
                if gate is not None:
                    gate.set_result(True)
                await _follow(name, reader, writer)
        else:
            await _as_they_come(name, readers, writer)
    except Closed:
        pass  # nobody wants more
    except Exception as error:
        writer.close(error)
    finally:
        for gate in gates:
            if gate is not None and not gate.done():
                gate.set_result(False)


def _counted(name: str, envelope: Envelope) -> Envelope:
    count = len(envelope.parcel)
    return Envelope(envelope.parcel, (*envelope.tallies, Tally(name, count, count, 0, 0.0)))


async def _follow(name: str, reader: Channel[Envelope], writer: Channel[Envelope]) -> None:
    """One input to its end."""
    while True:
        try:
            envelope = await reader.get()
        except Closed:
            return
        await writer.put(_counted(name, envelope), envelope.parcel.nbytes)


async def _as_they_come(name: str, readers: Sequence[Channel[Envelope]], writer: Channel[Envelope]) -> None:
    """All inputs at once; each waits in turn where several have something."""
    coming = {i: asyncio.ensure_future(reader.get()) for i, reader in enumerate(readers)}
    try:
        while coming:
            await asyncio.wait(coming.values(), return_when=asyncio.FIRST_COMPLETED)
            for i, future in list(coming.items()):
                if not future.done():
                    continue
                del coming[i]
                try:
                    envelope = future.result()
                except Closed:
                    continue
                coming[i] = asyncio.ensure_future(readers[i].get())
                await writer.put(_counted(name, envelope), envelope.parcel.nbytes)
    finally:
        for future in coming.values():
            future.cancel()
        if coming:
            await asyncio.gather(*coming.values(), return_exceptions=True)


def upstream(nodes: Sequence[Node], i: int) -> set[int]:
    """The nodes that node i gets parcels from, directly or not, itself included."""
    found = {i}
    for before in nodes[i].after:
        found |= upstream(nodes, before)
    return found
