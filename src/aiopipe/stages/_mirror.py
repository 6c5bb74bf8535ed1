"""An output for each input file, written beside its target and made visible when it is whole."""

from __future__ import annotations

import asyncio
import unicodedata
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from aiopipe.errors import OutputError, UsageError
from aiopipe.model import FileRef, Position, display_path
from aiopipe.stage import Context, Outcome, Units
from aiopipe.stages._checkpoints import Checkpoints
from aiopipe.stages._pieces import begun, encoded_like, write_all
from aiopipe.storage.put import Puts, discard, made, put, show
from aiopipe.storage.settle import settled
from aiopipe.storage.write import Temporary, folds_case, make_directories, sync_directories, trouble

if TYPE_CHECKING:
    from aiopipe.batch import Segment
    from aiopipe.codec.encode import Encoded
    from aiopipe.stages.write import Write

__all__ = ["Mirror"]

_WRITES = 2  # outputs, or groups of small ones, on their way to the disk at once


def _commit_whole(files: list[tuple[str, tuple[Any, ...]]], units: Units | None, tickets: list[Any]) -> int:
    """Write whole files and make them visible, then have the ledger say so; the bytes written."""
    return _show(put(files, hashed=units is not None), units, tickets)


def _show(files: Puts, units: Units | None, tickets: list[Any]) -> int:
    """Make files visible that were put beside their targets, then have the ledger say so; the bytes written."""
    if units is None:
        show(files)
    else:
        show(files, partial(units.ready, tickets))
        units.commit([(ticket, [one]) for ticket, one in zip(tickets, made(files), strict=True)])
    return sum(files.sizes)


def _show_all(
    puts: Puts, mine: list[int], units: Units | None, tickets: list[Any], arrived: Callable[[int], None]
) -> int:
    """Make files visible that a group was put as, but for those that are given up; see _show. mine: the others."""
    if len(mine) == len(puts.paths):
        nbytes = _show(puts, units, tickets)
    else:
        nbytes = _show(puts.only(mine), units, tickets)
        discard(set(puts.paths) - {puts.paths[i] for i in mine})
    arrived(len(puts.paths))
    return nbytes


def _commit(temporary: Temporary, units: Units | None, ticket: Any) -> int:
    """Make one file visible, then have the ledger say so; the bytes written."""
    if units is None:
        temporary.commit()
    else:
        temporary.commit(partial(units.ready, [ticket]))
        units.commit([(ticket, [temporary.made()])])
    return temporary.nbytes


@dataclass(eq=False, repr=False)
class _Open:
    """An output being written: what came of its file so far."""

    file: FileRef
    temporary: Temporary
    names: tuple[str, ...] | None = None
    arrived: int = 0
    total: int = -1
    records: int = 0
    before: int = 0  # records that an earlier run wrote
    partial: bool = False  # more of the last part is to come
    checkpoints: Checkpoints | None = None

    def next_is(self, segment: Segment) -> bool:
        """Whether a segment begins the next part, with all before it written."""
        return not self.partial and segment.part == self.arrived

    async def end(self) -> None:
        """It will not be finished."""
        if self.checkpoints is None:
            self.temporary.discard()
        else:
            await self.checkpoints.end()


class Mirror:
    """One output for each input file, at the same relative path."""

    def __init__(self, sink: Write, context: Context) -> None:
        self.sink = sink
        self.context = context
        self.outcome = Outcome()
        self.open: dict[int, _Open] = {}
        self.claimed: dict[str, str] = {}
        self.folded: dict[str, str] = {}  # targets by their names without case, as some disks have them
        self.folds: bool | None = None
        self.flying: deque[Awaitable[int]] = deque()

    async def consume(self, parcels: AsyncIterator[Any]) -> Outcome:
        try:
            await self.context.io(_make_directory, self.sink.to)
            async for part in parcels:
                await self._take(part)
            while self.flying:
                self.outcome.nbytes += await self.flying.popleft()
            await self._pause()
            self.outcome.unfinished += sum(e.records - e.before for e in self.open.values())
        finally:
            if self.flying:  # one of several writes has failed: hear the others out
                await settled(asyncio.gather(*self.flying, return_exceptions=True))
            await settled(asyncio.gather(*(e.end() for e in self.open.values()), return_exceptions=True))
        return self.outcome

    async def _pause(self) -> None:
        """The run was asked to stop in the midst of files: the next one goes on where they are."""
        for entry in self.open.values():
            if entry.checkpoints is not None and entry.arrived and not entry.partial:
                await entry.checkpoints.pause(entry.arrived, entry.records, entry.names)

    async def _take(self, part: Encoded) -> None:
        whole: list[tuple[str, tuple[Any, ...]]] = []
        tickets: list[Any] = []
        units = self.context.found.units
        if not part.segments and len(part):
            raise UsageError("items have no file to mirror", stage="write", hint="name one output file, or -")
        if part.puts is not None:
            await self._arrive(part)
            return
        for segment, body, count in zip(part.segments, part.bodies, part.counts, strict=True):
            if segment.file.index in self.context.found.failures:
                await self._drop(segment.file.index, count)
            elif segment.part == 0 and segment.last and not segment.more and segment.file.index not in self.open:
                whole.append((self._target(segment), tuple(encoded_like([part.head, body], part))))
                self.outcome.records += count
                if units is not None:
                    tickets.append(units.complete(segment.file, count))
            else:
                await self._append(segment, part, body, count)
        if not whole:
            return
        await self._publish(_commit_whole, whole, units, tickets)
        self.outcome.files += len(whole)

    async def _arrive(self, part: Encoded) -> None:
        """Files that were put beside their targets where they were read. Whatever fails here, the run removes them."""
        found, units, puts = self.context.found, self.context.found.units, part.puts
        mine: list[int] = []
        tickets: list[Any] = []
        for i, (segment, count) in enumerate(zip(part.segments, part.counts, strict=True)):
            if segment.file.index in found.failures:
                await self._drop(segment.file.index, count)
                continue
            self._target(segment)  # which no other file may have
            self.outcome.records += count
            mine.append(i)
            if units is not None:
                tickets.append(units.complete(segment.file, count))
        if units is not None:
            units.were_read(tickets, part.readings.only(mine))
        assert found.groups is not None
        await self._publish(_show_all, puts, mine, units, tickets, partial(found.groups.arrived, part.group))
        self.outcome.files += len(mine)

    async def _drop(self, index: int, count: int) -> None:
        """What came of a file that has failed is of no use to this run."""
        entry = self.open.pop(index, None)
        self.outcome.unfinished += count + (entry.records - entry.before if entry is not None else 0)
        if entry is not None:
            await entry.end()

    async def _begin(self, segment: Segment) -> _Open:
        """The output of a file, begun; behind what an earlier run had written of it, where there is that."""
        file, target, units = segment.file, self._target(segment), self.context.found.units
        ranges = units.ranges if units is not None else None
        resumed = ranges.resumed(file) if ranges is not None else None
        if resumed is None:
            temporary = await begun(target, self.context, hashed=units is not None)
            entry, reached = _Open(file, temporary), None
        else:
            reached = resumed.reached
            again = partial(Temporary.resume, target, reached.temporary, reached.length, resumed.written)
            temporary = await settled(self.context.io(again), Temporary.leave)
            entry = _Open(file, temporary, reached.names, reached.part, records=reached.given, before=reached.given)
        if ranges is not None:
            entry.checkpoints = Checkpoints(ranges, file, temporary, self.context, reached)
        self.open[file.index] = entry
        return entry

    async def _append(self, segment: Segment, part: Encoded, body: Any, count: int) -> None:
        entry = self.open.get(segment.file.index)
        if entry is None:
            entry = await self._begin(segment)
        elif entry.next_is(segment) and entry.checkpoints is not None:
            await entry.checkpoints.before(segment, entry.records, entry.names)
        entry.partial = segment.more
        entry.records += count
        entry.arrived += not segment.more
        if segment.last:
            entry.total = segment.part + 1
        final = not segment.more and entry.arrived == entry.total
        if entry.names is None and (len(body) or final):
            # The header waits for records: a function shows its columns only where it has rows.
            entry.names = part.names
            if part.head:
                await self._write(entry, [part.head], part)
        elif part.names != entry.names and len(body):
            assert entry.names is not None
            error = OutputError(
                f"the columns changed within the file: {', '.join(entry.names)}, then {', '.join(part.names)}",
                position=Position(segment.file.path),
                stage="write",
                hint="a function must return the same columns for all rows of a file",
            )
            self.context.found.failures.add([segment.file], error)
            await self._drop(segment.file.index, 0)
            return
        if len(body):
            await self._write(entry, [body], part)
        if final:
            if entry.checkpoints is not None:
                await entry.checkpoints.wait_landed()
            units = self.context.found.units
            ticket = None if units is None else units.complete(entry.file, entry.records)
            await self._publish(_commit, entry.temporary, units, ticket)
            del self.open[segment.file.index]  # not before somebody else sees to it
            self.outcome.records += entry.records - entry.before
            self.outcome.files += 1

    async def _publish(self, commit: Callable[..., int], *what: Any) -> None:
        """Make outputs visible while the next ones are written: the disk's time is not ours."""
        while len(self.flying) >= _WRITES:
            self.outcome.nbytes += await self.flying.popleft()
        self.flying.append(self.context.io(commit, *what))

    async def _write(self, entry: _Open, pieces: list[Any], part: Encoded) -> None:
        await settled(self.context.io(write_all, entry.temporary, encoded_like(pieces, part)))

    def _target(self, segment: Segment) -> str:
        target = self.sink.output_of(segment.file.relative)
        other = self.claimed.setdefault(target, segment.file.path)
        if other != segment.file.path:
            raise OutputError(
                f"{display_path(other)} and {display_path(segment.file.path)} would both become {display_path(target)}",
                stage="write",
                hint="read them in two runs, or from a common parent directory",
            )
        twin = self.folded.setdefault(_folded(target), target)
        if twin != target and self._one_name():
            raise OutputError(
                f"{display_path(twin)} and {display_path(target)} are one name on this disk",
                stage="write",
                hint="rename one of the files, or write to a disk that tells upper case from lower",
            )
        return target

    def _one_name(self) -> bool:
        """Whether the destination's disk takes no heed of case; looked at when it matters first."""
        if self.folds is None:
            self.folds = folds_case(self.sink.to)
        return self.folds


def _folded(path: str) -> str:
    return path.lower() if path.isascii() else unicodedata.normalize("NFC", path).casefold()


def _make_directory(path: str) -> None:
    try:
        sync_directories(make_directories(path))
    except OSError as error:
        raise trouble(path, error) from None
