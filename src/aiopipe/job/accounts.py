"""Takes account of every envelope: counts, rejects, progress; ends the run when a reject must."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from heapq import heapify, heappop, heappush
from typing import Any

from aiopipe.batch import Segment
from aiopipe.engine.runner import Envelope
from aiopipe.errors import RecordError, TooManyRejectsError
from aiopipe.failures import Failures
from aiopipe.job.ranks import Ranks, unlike_records
from aiopipe.job.rejects import LedgerRejects, Places, RejectsFile, error_of
from aiopipe.job.report import BranchReport, Report, StageReport
from aiopipe.job.units import Units
from aiopipe.model import FileRef, Reject
from aiopipe.plan import Plan
from aiopipe.storage.ranges import Reached

__all__ = ["Accounts"]

_TOGETHER = 1000  # rejects written in one go


def _order(reject: Reject) -> tuple[int, int, int]:
    """Where in the input: file, part of the file, record in that part."""
    return reject.file.index, reject.part, reject.position.record or 0


class Accounts:
    """The running totals of a job, and its policy on rejects.

    rejects: where they go; None means that the first one ends the run. limit: how many may go there.
    progress: called with the report so far, about ten times a second. failures: what a run without a rejects file
    does about a record that cannot be used. units: of a job with a ledger.
    """

    def __init__(
        self,
        plan: Plan,
        rejects: RejectsFile | LedgerRejects | None,
        limit: int | None,
        progress: Callable[[Report], None] | None,
        failures: Failures,
        units: Units | None = None,
    ) -> None:
        self.report = Report()
        self._failures = failures
        self._stages: dict[str, StageReport] = {}
        self._lay(plan, self.report)
        steps = list(plan.every_step())
        self._parsers = {s.name for s in steps if s.shape == "decode"}
        # What these give was read: records by the parser, items by the source itself.
        self._entries = self._parsers | {s.name for s in steps if s.shape == "source" and s.kind != "records"}
        # A record that several branches refuse: their order is that of the plan.
        self._ranks = {s.label: i for i, s in enumerate(steps)}
        self._rejects = rejects
        self._units = units
        self._limit = limit
        self._progress = progress
        self._told = 0.0
        self._places = Places()
        # A heap, in the order of the input; see _place.
        self._waiting: list[tuple[tuple[int, int, int], int, int, Reject]] = []
        self._reached = {s.name: (-1, 0) for s in plan.sinks}  # file and part that each sink has got to
        self._ready: list[Reject] = []
        self._first: Reject | None = None  # of those written
        self._by_file = Counter[int]()  # rejects of each file
        self._count = itertools.count()
        # A generator numbers the parts of its output anew: behind it they say nothing about the input's.
        self._by_part = not any(getattr(s.stage, "is_generator", False) for s in steps)
        # Where an output lacks them, for those who replay them: only a ledger remembers that.
        kept = isinstance(rejects, LedgerRejects) and not unlike_records(plan)
        self._ranks_of = Ranks() if kept else None

    def _lay(self, plan: Plan, into: BranchReport | Report) -> None:
        """The report of a plan, with a line for every step, in the shape of the plan."""
        labels = {"decode": "parse", "encode": "encode"}
        for one in plan.inputs:
            into.inputs.append(BranchReport(one.name))
            self._lay(one, into.inputs[-1])
        for step in plan.steps:
            if step.shape != "sink" and step.name not in self._stages:
                self._stages[step.name] = StageReport(labels.get(step.shape, step.label))
                into.stages.append(self._stages[step.name])
        for one in plan.branches:
            into.branches.append(BranchReport(one.name))
            self._lay(one, into.branches[-1])

    def ended(self, sink: str) -> None:
        """A sink takes no more: rejects need not wait for it."""
        self._reached.pop(sink, None)

    async def __call__(self, envelope: Envelope, sink: str) -> Any:
        """Account for an envelope that a flow, a split or (by its name) a sink takes; the parcel, without rejects."""
        for tally in envelope.tallies:
            stage = self._stages[tally.name]
            stage.taken += tally.taken
            stage.given += tally.given
            stage.rejected += tally.rejected
            stage.seconds += tally.seconds
            stage.failed += tally.failed
            for what, number in tally.noted:
                stage.counts[what] = stage.counts.get(what, 0) + number
            self.report.rejected += tally.rejected
            if tally.name in self._entries:
                self.report.read += tally.taken
        parcel = envelope.parcel
        if any(t.name in self._parsers for t in envelope.tallies):
            self._places.note(parcel.segments)
            if self._units is not None:
                for segment in parcel.segments:
                    self._units.count(segment.file.index, segment.records)
        rejects = getattr(parcel, "rejects", ())
        if rejects:
            self._take(rejects)
            parcel = replace(parcel, rejects=())
        if sink and self._rejects is not None:
            if self._ranks_of is not None:
                self._ranks_of.note(parcel)
            self._passed(sink, getattr(parcel, "segments", ()))
            if len(self._ready) >= _TOGETHER:
                await self._write()
        self._tell()
        return parcel

    def refuse(self, rejects: Sequence[Reject]) -> None:
        """A sink could not write these records, in order; raises where that ends the run."""
        if self._rejects is not None:
            self.report.rejected += len(rejects)
        self._take(tuple(rejects))

    def lost(self) -> int:
        """How many records were set aside of attempts that were given up, and so were not."""
        return sum(self._by_file[index] for index in self._failures.dropped)

    def _take(self, rejects: tuple[Reject, ...]) -> None:
        self._by_file.update(r.file.index for r in rejects)
        if self._failures.dropped:
            rejects = tuple(r for r in rejects if r.file.index not in self._failures.dropped)
        final = sorted((r for r in rejects if self._rejects is None or r.final), key=_order)
        failed = [r for r in final if self._failures.keep_going or (self._failures.workers and r.kind == "worker")]
        if failed:
            for reject in failed:
                self._failures.add([reject.file], error_of(self._placed(reject)))
            rejects = tuple(r for r in rejects if r not in failed)
            final = [r for r in final if r not in failed]
        last = final[0] if final else None
        for reject in rejects:
            if last is None or _order(reject) < _order(last):
                rank = self._ranks.get(reject.stage, 0)
                heappush(self._waiting, (_order(reject), rank, next(self._count), reject))
        if last is not None:
            # Whatever stage refused it and however stages are fused: the first in the file ends the run.
            raise error_of(self._placed(last))
        if self._limit is not None and self.report.rejected + self._kept > self._limit:
            first = self._first or (self._ready[0] if self._ready else self._placed(self._waiting[0][-1]))
            raise TooManyRejectsError(
                f"more than {self._limit} records were set aside (--max-rejects)",
                hint=f"mend what is wrong with them, or allow more; the first: {first.position}: {first.reason}",
            )

    def _passed(self, sink: str, segments: Sequence[Segment]) -> None:
        """A sink has got as far as these segments: rejects before all sinks are here, and leave in order."""
        if not segments:
            return
        last = segments[-1]
        self._reached[sink] = (last.file.index, last.part) if self._by_part else (last.file.index, 0)
        reached = min(self._reached.values())
        waiting = self._waiting
        while waiting and waiting[0][0] < reached:
            self._ready.append(self._placed(heappop(waiting)[-1]))

    @property
    def _kept(self) -> int:
        return self._rejects.kept if isinstance(self._rejects, LedgerRejects) else 0

    def before(self, number: int, part: int) -> tuple[int, int] | None:
        """Lines and records of the file with this number before chunk `part`; None while that is not known."""
        return self._places.before(number, part)

    def resume(self, number: int, reached: Reached) -> None:
        """The file with this number is read from there on: what an earlier run did of it stands before."""
        self._places.begin(number, reached.part, reached.lines, reached.taken)
        if self._ranks_of is not None:
            self._ranks_of.begin(number, reached.given)

    def settle(self, number: int, before: int | None = None) -> None:
        """All of the file with this number (before chunk `before`) has reached the sink: rejects go to the ledger."""
        if not isinstance(self._rejects, LedgerRejects) or not (self._waiting or self._ready):
            return
        edge = (number + 1, 0, 0) if before is None else (number, before, 0)
        mine = sorted(entry for entry in self._waiting if (number, 0, 0) <= entry[0] < edge)
        if mine:
            self._waiting = [entry for entry in self._waiting if not (number, 0, 0) <= entry[0] < edge]
            heapify(self._waiting)
        # What came out of the heap before stands before these in the input.
        ready, self._ready = self._ready, []
        self._first = self._first or next(iter(ready), None)
        self._rejects.put([*ready, *(self._placed(entry[-1]) for entry in mine)])

    def _placed(self, reject: Reject) -> Reject:
        """The reject with its line and record in the file, as far as they are known."""
        if self._ranks_of is not None:
            reject = replace(reject, before=self._ranks_of.of(reject))
        base = self._places.base(reject)
        if base is None:
            return replace(reject, position=replace(reject.position, line=None, record=None))
        return reject.moved(*base)

    def locate(self, error: BaseException) -> None:
        """Give the errors of a run their lines and records in the file, where the reader knew only the chunk."""
        if isinstance(error, BaseExceptionGroup):
            for one in error.exceptions:
                self.locate(one)
        elif isinstance(error, RecordError) and error.chunk is not None and error.position is not None:
            index, part, lines = error.chunk
            file = FileRef(error.position.path, "", index)
            error.position = self._placed(
                Reject(file, error.position, "read", "", b"", part=part, head_lines=lines)
            ).position

    async def finish(self) -> None:
        """Write all rejects that are left, and make their file visible."""
        if self._rejects is None:
            return
        while self._waiting:
            self._ready.append(self._placed(heappop(self._waiting)[-1]))
        await self._write()
        await self._rejects.commit()

    async def _write(self) -> None:
        assert self._rejects is not None
        ready, self._ready = self._ready, []
        self._first = self._first or next(iter(ready), None)
        await self._rejects.add(ready)

    def _tell(self) -> None:
        if self._progress is None:
            return
        now = asyncio.get_running_loop().time()
        if now - self._told >= 0.1:
            self._told = now
            self._progress(self.report)
