"""`replay`: only the records that were set aside, through the mended pipeline, and what passes into its place.

Where the outputs are in a directory with a ledger, each file that has rejects is taken for itself: its rejected
records run through the stages, every one as a part of the file by itself, so that what became of it is known by the
number of its part. Then the output is copied with the new records put in where they belong (`ranks.py` noted that when
they were set aside), and replaced at once; the ledger goes from one state to the other as `mends.py` tells. Nothing
else is computed, so nothing else may have changed: not the input, not the output, and of the pipeline only what
concerns rejected records. Whatever does not fit is refused before anything is written; a run does such files anew.

Where there is no ledger, what passes goes to the output that the pipeline names, by itself.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from aiopipe.engine.runner import Envelope, run_nodes
from aiopipe.engine.workers import Workers
from aiopipe.errors import InputError, UsageError
from aiopipe.failures import Failures
from aiopipe.fuse import fuse
from aiopipe.job.again import (
    Again,
    find_files,
    from_file,
    from_ledger,
    refuse_other_pipeline,
    rows_by_path,
)
from aiopipe.job.destination import Destination
from aiopipe.job.fingerprint import digest_of, parts_of
from aiopipe.job.ledger import Key, ledger_path
from aiopipe.job.merging import Merging
from aiopipe.job.ranks import unlike_records
from aiopipe.job.rejects import RejectsFile, error_of
from aiopipe.job.report import counted
from aiopipe.job.run import check_ends, typed
from aiopipe.model import Reject, display_path
from aiopipe.options import parse_size
from aiopipe.plan import Plan, make_plan
from aiopipe.stage import Sink, Source
from aiopipe.stages.read import Read
from aiopipe.storage.settle import settled

if TYPE_CHECKING:
    from aiopipe.stage import Context, Pipeline

__all__ = ["Replayed", "replay"]


@dataclass(slots=True)
class Replayed:
    """What a replay did: records = written + filtered + rejected.

    outputs: those that got records. passed_over: rows of the rejects file that speak of records which the ledger does
    not have as set aside any more (replayed before, or their file was done again). left: records that the rejects file
    holds now. items: what `collect` kept, where that is the sink.
    """

    records: int = 0
    written: int = 0
    filtered: int = 0
    rejected: int = 0
    outputs: int = 0
    passed_over: int = 0
    left: int = 0
    items: list[Any] = field(default_factory=list)

    def __str__(self) -> str:
        text = (
            f"{counted(self.records, 'record')} replayed = {self.written:,} written"
            f" + {self.filtered:,} filtered + {self.rejected:,} rejected"
        )
        if self.outputs:
            text += f"\n{counted(self.outputs, 'output')} replaced"
        if self.passed_over:
            text += f"\n{counted(self.passed_over, 'row')} passed over: not set aside any more, says the ledger"
        return text


async def replay(
    pipeline: Pipeline,
    file: str,
    *,
    rejects: str | None = None,
    workers: int | None = None,
    memory: int | str = "128MB",
    retries: int = 1,
) -> Replayed:
    """Run the records of a rejects file through a pipeline; see Pipeline.replay."""
    plan = make_plan(pipeline.stages)
    source, sink = plan.steps[0].stage, plan.steps[-1].stage
    assert isinstance(sink, Sink)
    if not isinstance(source, Read) or plan.branches:
        raise UsageError("this pipeline does not read files into one output", hint="replay takes read ... then write")
    if at_once := unlike_records(plan):
        raise UsageError(
            f"{at_once} does not work on each record for itself, so that some cannot be run without the others",
            hint="run the pipeline again, with --rejects",
        )
    rows = await rows_by_path(file)
    _check_ends(plan, sink, file, rejects)
    pools = Workers(workers, parse_size(memory))
    pools.found.failures, pools.found.tolerant = Failures(retries=retries), True
    try:
        if plan.needs_more:
            plan = await pools.hop(plan.ready)
        files = await settled(pools.io(find_files, source, rows, file))
        plan = await typed(plan, pools)
        if sink.home is None:
            found = [await pools.io(from_file, source, f, rows[display_path(f.path)]) for f in files]
            return await _by_themselves(plan, found, rejects, pools)
        return await _Merge(plan, source, sink, file, pools).run(files, rows)
    finally:
        await pools.aclose()


def _check_ends(plan: Plan, sink: Sink, file: str, rejects: str | None) -> None:
    """Refuse what must not be written to."""
    check_ends(plan, file)
    to = getattr(sink, "to", None)
    if sink.home is not None:
        if rejects is not None:
            raise UsageError(
                f"--rejects {rejects} beside a ledger", hint=f"leave it out: what is left stays in {display_path(file)}"
            )
        if not os.path.exists(ledger_path(sink.home)):
            raise InputError(
                f"{display_path(sink.home)} has no ledger, so nobody knows where the records belong",
                hint="run the pipeline again, or name a file for what passes: write passed.csv",
            )
    elif getattr(sink, "table", None) is not None and not sink.filling.append:  # type: ignore[attr-defined]
        raise UsageError(
            "the rows of a table are replaced by file, not by record", hint="run the pipeline again, with --rejects"
        )
    elif isinstance(to, str) and getattr(sink, "is_path", False) and to != "-" and os.path.lexists(to):
        raise UsageError(
            f"{display_path(to)} is there: without a ledger nobody knows where in it the records belong",
            hint="name a new file, which gets what passes by itself; or run the pipeline again",
        )


@dataclass(frozen=True, repr=False)
class _Rejected(Source):
    """The records that are to run again, as a source."""

    word: ClassVar[str] = "read"
    found: tuple[Again, ...] = ()

    async def open(self, context: Context) -> AsyncIterator[Any]:
        """A chunk for each record."""
        for one in self.found:
            for chunk in one.chunks():
                yield chunk


class _Outcomes:
    """Takes account of what becomes of the records: those that are rejected again, by file and part.

    tolerant: that may be; else the first one ends the replay.
    """

    def __init__(self, found: Sequence[Again], tolerant: bool) -> None:
        self.rejected: dict[tuple[int, int], Reject] = {}
        self._found = {one.file.index: one for one in found}
        self._tolerant = tolerant

    async def __call__(self, envelope: Envelope, sink: str) -> Any:
        """The parcel, without its rejects."""
        parcel = envelope.parcel
        rejects = getattr(parcel, "rejects", ())
        for reject in rejects:
            one = self._found[reject.file.index]
            reject = replace(reject, position=one.entries[reject.part].position(reject.file.path))
            if reject.final or not self._tolerant:
                raise error_of(reject)
            self.rejected[reject.file.index, reject.part] = reject
        return replace(parcel, rejects=()) if rejects else parcel

    def ended(self, sink: str) -> None:
        """Nothing waits for a sink here."""


def _replaced(plan: Plan, found: Sequence[Again], sink: Sink | None = None) -> Plan:
    """The plan with the records as its source, and perhaps another sink."""
    steps = [
        step._replace(stage=_Rejected(tuple(found)))
        if step.shape == "source"
        else step._replace(stage=sink)
        if sink is not None and step.shape == "sink"
        else step
        for step in plan.steps
    ]
    return plan._replace(steps=tuple(steps))


async def _by_themselves(plan: Plan, found: list[Again], rejects: str | None, pools: Workers) -> Replayed:
    """No ledger: what passes goes to the pipeline's own sink, and what does not to another rejects file."""
    account = _Outcomes(found, rejects is not None)
    pools.found.refuse = _refuse
    nodes = fuse(_replaced(plan, found))
    pools.prepare(nodes)
    left = None if rejects is None else RejectsFile(rejects, pools.io)
    try:
        trace = await run_nodes(nodes, pools, account)
        if left is not None:
            await left.add([account.rejected[place] for place in sorted(account.rejected)])
            await left.commit()
    finally:
        if left is not None:
            left.discard()
    [outcome] = trace.outcomes.values()
    made = Replayed(sum(len(one.entries) for one in found), outcome.records, rejected=len(account.rejected))
    made.filtered = made.records - made.written - made.rejected
    made.left, made.items = made.rejected, outcome.items
    return made


def _refuse(rejects: Sequence[Reject]) -> None:
    """A table that rows are appended to would not have one."""
    raise error_of(rejects[0])


class _Merge:
    """A replay into a directory with a ledger. file: the rejects file, which tells of the whole directory again."""

    def __init__(self, plan: Plan, source: Read, sink: Sink, file: str, pools: Workers) -> None:
        self._plan = plan
        self._source = source
        self._sink = sink
        self._file = file
        self._pools = pools
        self._made = Replayed()

    async def run(self, files: Sequence[Any], rows: dict[str, list[dict[str, Any]]]) -> Replayed:
        """Lock the directory, merge, write the rejects file anew."""
        io, home = self._pools.io, self._sink.home
        assert home is not None
        destination = await settled(io(Destination, home, [self._file]), lambda d: d.close("failed"))
        outcome, left = "failed", None
        try:
            left = await settled(io(RejectsFile, self._file, io), RejectsFile.discard)
            found = []
            for file in files:
                given = rows[display_path(file.path)]
                one, gone = await io(from_ledger, self._source, file, given, destination.reader, home)
                self._made.passed_over += gone
                found += [] if one is None else [one]
            await self._merge(found, destination)
            await self._rest(destination, left)
            outcome = "done"
        finally:
            if left is not None:
                left.discard()
            await settled(io(destination.close, outcome))
        return self._made

    async def _merge(self, found: list[Again], destination: Destination) -> None:
        """Run the records, and have each file's output replaced when the last of its own has passed."""
        parts = await self._pools.hop(parts_of, self._plan)
        await settled(self._pools.io(destination.use, digest_of(parts), parts))
        assert destination.reader is not None
        mended = {}
        for one in found:
            assert one.unit is not None
            before = await self._pools.io(destination.reader.parts, one.unit.pipeline)
            mended[one.file.index] = refuse_other_pipeline(before, parts, one)
        account = _Outcomes(found, True)
        sink = Merging(self._sink, found, account.rejected, mended, destination)
        nodes = fuse(_replaced(self._plan, found, sink))
        self._pools.prepare(nodes)
        try:
            await run_nodes(nodes, self._pools, account)
        finally:
            await settled(self._pools.io(destination.ledger.wait))
        made = self._made
        made.records = sum(len(one.entries) for one in found)
        made.written, made.outputs, made.rejected = sink.written, sink.outputs, len(account.rejected)
        made.filtered = made.records - made.written - made.rejected

    async def _rest(self, destination: Destination, left: RejectsFile) -> None:
        """The rejects file as a run would write it now: of all files of the input, in its order."""
        reader = destination.reader
        assert reader is not None
        with_rejects = await self._pools.io(reader.with_rejects)
        for file in await settled(self._pools.io(lambda: list(self._source.files() or ()))) if with_rejects else ():
            place = with_rejects.get(Key.of(file.relative))
            if place is not None:
                await left.add_rows(await self._pools.io(lambda at: list(reader.rejects(*at)), place))
        await left.commit()
        self._made.left = left.count
