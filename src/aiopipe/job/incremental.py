"""A run with a ledger, for `run`: whether there is one, and what is done about it when the run begins and ends.

Everything here that touches the disk does so in the pool for files, never in the loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aiopipe.engine.workers import Workers
from aiopipe.errors import AiopipeError, UsageError
from aiopipe.failures import Failures
from aiopipe.job.destination import Destination
from aiopipe.job.fingerprint import digest_of, parts_of
from aiopipe.job.ranges import by_ranges
from aiopipe.job.report import Report
from aiopipe.job.units import Units
from aiopipe.model import FileRef
from aiopipe.plan import Plan
from aiopipe.stage import Sink, Source
from aiopipe.storage.settle import settled
from aiopipe.storage.urls import is_url

__all__ = ["Keeper", "keeper_of", "one_unit"]


def one_unit(plan: Plan) -> str:
    """Why the whole job is one unit: the first stage that looks at several files together; "" where none does."""
    return next((f"{s.label} works on all files together" for s in plan.steps if not s.stage.per_unit), "")


def reads_only_files(source: Source) -> bool:
    """Whether all that a source reads are files: a stream has no name and no version to know it again by."""
    return not source.held and not any(p == "-" or is_url(p) for p in getattr(source, "paths", ()))


def keeper_of(
    plan: Plan, pools: Workers, *, ledger: bool | None, force: bool, prune: bool, tolerant: bool
) -> Keeper | None:
    """Who keeps the ledger of such a run; None where there is none. UsageError for options that need one."""
    source, sink = plan.steps[0].stage, plan.steps[-1].stage
    alone = not (plan.inputs or plan.branches)
    home = sink.home if isinstance(sink, Sink) and alone else None
    reads_files = type(source).files is not Source.files and source.gives == "records"  # type: ignore[attr-defined]
    table = getattr(sink, "table", None) if alone else None
    filled = table is not None and reads_files and ledger is not False
    if filled and not sink.filling.append:  # type: ignore[attr-defined]
        from aiopipe.job.tables import TableKeeper

        if isinstance(source, Source) and isinstance(sink, Sink) and reads_only_files(source):
            return TableKeeper(source, sink, pools, force=force, prune=prune, tolerant=tolerant)
    if ledger is False or home is None or not (isinstance(source, Source) and reads_files):
        option = "ledger" if ledger else "prune" if prune else ""
        if option:
            why = (
                "ledger=False keeps none"
                if ledger is False
                else "only a directory that mirrors files, or a table filled from files, has one"
            )
            raise UsageError(f"{option} needs a ledger, and {why}", hint="write to a directory, or leave it out")
        return None
    assert isinstance(sink, Sink)
    return Keeper(home, source, sink, pools, force=force, prune=prune, tolerant=tolerant)


class Keeper:
    """Opens the destination, begins and ends its units. home: the directory; tolerant: records may be set aside."""

    def __init__(
        self, home: str, source: Source, sink: Sink, pools: Workers, *, force: bool, prune: bool, tolerant: bool
    ) -> None:
        self.units: Units | None = None
        self._home = home
        self._source = source
        self._sink = sink
        self._pools = pools
        self._force = force
        self._prune = prune
        self._tolerant = tolerant
        self._destination: Destination | None = None

    async def open(self, files: Sequence[str]) -> None:
        """Lock the destination and open its ledger. files: others that the run makes, beside temporaries."""
        self._destination = await self._pools.io(Destination, self._home, files)

    async def begin(self, plan: Plan) -> None:
        """Take the typed plan's fingerprint, and be what the stages ask about files from now on."""
        destination, pools, whole = self._destination, self._pools, one_unit(plan)
        assert destination is not None and destination.reader is not None
        parts = await pools.hop(parts_of, plan, whole)
        pipeline = await settled(pools.io(destination.use, digest_of(parts), parts))
        units = Units(
            self._home,
            destination.ledger,
            destination.reader,
            destination.run,
            pipeline,
            parts,
            output_of=self._sink.output_of,
            whole=whole,
            by_ranges=by_ranges(plan),
            force=self._force,
            tolerant=self._tolerant,
            stopping=lambda: pools.stopping,
        )
        await settled(pools.io(units.survey, self._files()))
        self.units = pools.found.units = units

    def _files(self) -> Iterator[FileRef]:
        return self._source.files() or iter(())

    async def failed(self, error: BaseException) -> None:
        """The run fails: the unit that it fails at gets the reason."""
        if self.units is not None:
            for one in _leaves(error):
                if isinstance(one, AiopipeError) and one.position is not None:
                    await settled(self._pools.io(self.units.fail, one.position.path, one.message))

    async def finish(self, report: Report, failures: Failures) -> None:
        """All outputs are visible: complete what is one unit, prune, and count. failures: what the run did without."""
        assert self.units is not None
        for file, error in failures.units.values():
            await settled(self._pools.io(self.units.fail, file.path, error.message))
        if not report.interrupted and not failures.units:
            await settled(self._pools.io(self.units.finish, self._files()))
            if self._prune:
                report.pruned = await self._pruned()
        report.unchanged, report.rejected_before = self.units.unchanged, self.units.kept_rejects
        if (ranges := self.units.ranges) is not None:
            report.resumed, report.read_before, report.paused = ranges.files, ranges.records, len(ranges.paused)

    async def _pruned(self) -> int:
        """Remove outputs whose input is gone; how many."""
        assert self._destination is not None
        return await settled(self._pools.io(self._destination.prune))

    async def close(self, outcome: str) -> None:
        """Commit everything and let go of the destination."""
        if self._destination is not None:
            await settled(self._pools.io(self._destination.close, outcome))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error
