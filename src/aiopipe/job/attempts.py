"""Input that changes while it is read: what of a run can be done again."""

from __future__ import annotations

from aiopipe.errors import ChangedError
from aiopipe.job.incremental import one_unit, reads_only_files
from aiopipe.plan import Plan
from aiopipe.stage import Sink, Source
from aiopipe.stages.write import Write

__all__ = ["changed", "mirrors", "starts_over"]


def mirrors(plan: Plan) -> bool:
    """Whether files become files in a directory, each by itself: then one of them can be read once more."""
    sink = plan.steps[-1].stage
    alone = not (plan.inputs or plan.branches or one_unit(plan))
    return alone and isinstance(sink, Sink) and sink.home is not None


def starts_over(plan: Plan) -> bool:
    """Whether a whole run can be done again when it has failed: files in, and nothing out that stays."""
    only_files = all(isinstance(s.stage, Source) and reads_only_files(s.stage) for s in plan.sources)
    return only_files and all(
        s.stage.word == "collect" or (isinstance(s.stage, Write) and s.stage.is_path and s.stage.to != "-")
        for s in plan.sinks
    )


def changed(error: BaseException) -> bool:
    """Whether a run failed because input changed while it was read, and for nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(changed, error.exceptions))
    return isinstance(error, ChangedError)
