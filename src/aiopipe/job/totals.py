"""The report at the end of a run: what sinks and channels know, put beside what was counted on the way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from aiopipe.engine.runner import Trace
from aiopipe.fuse import Node
from aiopipe.job.report import BranchReport, ChannelReport, Report, StageReport
from aiopipe.plan import Plan
from aiopipe.stage import Found, Transform

__all__ = ["finish"]


def finish(report: Report, plan: Plan, nodes: Sequence[Node], trace: Trace, found: Found) -> None:
    """Complete the report of a run that has ended well."""
    _total(report, plan, trace)
    # What failed with its file was not filtered: it is left for a run to come.
    report.filtered -= found.failures.records
    report.unfinished += found.failures.records + sum(s.failed for s in report.stages)
    report.reread += len(found.failures.dropped)
    report.bytes_read = trace.nbytes
    report.files = found.files
    report.skipped = found.skipped
    report.channels = [
        ChannelReport(name, s.items, s.nbytes, s.waited_to_put, s.waited_to_get, s.peak_items, s.peak_bytes)
        for name, s in trace.channels.items()
    ]
    entries = dict(_entries(report, plan))
    for node in nodes:
        if node.shape != "hop":
            entries[node.steps[0].name].seconds += trace.busy.get(f"{node.shape} {node.name}", 0.0)


def _total(report: Report | BranchReport, plan: Plan, trace: Trace) -> None:
    """Add up a line of stages with what lies before and behind it."""
    for one, part in zip(report.inputs, plan.inputs, strict=True):
        _total(one, part, trace)
    last = plan.steps[-1]
    if trace.satisfied:
        _drop_unwanted(report)
    if last.shape == "split":
        split = report.stages[-1]
        for branch, part, given in zip(report.branches, plan.branches, trace.shares[last.name], strict=True):
            branch.given = given
            _total(branch, part, trace)
        report.copied = sum(b.given for b in report.branches) - split.given
    elif last.shape == "sink":
        outcome = trace.outcomes[last.name]
        taken = outcome.records + outcome.unfinished
        report.stages.append(StageReport(last.label, taken + outcome.rejected, taken, outcome.rejected))
        report.written, report.unfinished = outcome.records, outcome.unfinished
        report.outputs, report.bytes_written = outcome.files, outcome.nbytes
        report.items = outcome.items
    regrouped = {s.label for s in plan.steps if isinstance(s.stage, Transform) and s.stage.regroups}
    report.grouped = sum(_missing(s) for s in report.stages if s.name in regrouped)
    missing = [_missing(s) for s in report.stages if s.name not in regrouped]
    report.filtered = sum(n for n in missing if n > 0)
    report.added = -sum(n for n in missing if n < 0)
    if isinstance(report, BranchReport):
        report.rejected = sum(s.rejected for s in report.stages)
    for one in report.inputs:
        report.filtered += one.filtered
        report.added += one.added
        report.grouped += one.grouped
    for one in report.branches:
        for name in ("written", "unfinished", "outputs", "bytes_written", "filtered", "added", "copied", "grouped"):
            setattr(report, name, getattr(report, name) + getattr(one, name))
        if isinstance(report, BranchReport):
            report.rejected += one.rejected
        report.items = report.items + one.items


def _missing(stage: StageReport) -> int:
    return stage.taken - stage.given - stage.rejected - stage.failed


def _drop_unwanted(report: Report | BranchReport) -> None:
    """Count what stages had in hand when a later one had enough: taken, and filtered, as if they had ended."""
    stages = report.stages
    if report.inputs:
        _least(stages[0], sum(one.stages[-1].given for one in report.inputs))
    if isinstance(report, BranchReport) and report.given:
        _least(next(s for s in stages), report.given)
    for before, stage in pairwise(stages):
        if stage.name != "parse":
            _least(stage, before.given)


def _least(stage: StageReport, taken: int) -> None:
    stage.taken = max(stage.taken, taken)


def _entries(report: Report | BranchReport, plan: Plan) -> list[tuple[str, StageReport]]:
    """Each step's line of the report, by its name."""
    names = list(dict.fromkeys(s.name for s in plan.steps if s.shape != "sink"))
    found = list(zip(names, report.stages, strict=False))
    if plan.steps[-1].shape == "sink":  # the line of the sink itself stands last, behind that of its encoding
        found.append((plan.steps[-1].name, report.stages[-1]))
    for one, part in zip((*report.inputs, *report.branches), (*plan.inputs, *plan.branches), strict=True):
        found += _entries(one, part)
    return found
