"""From a pipeline to a report: plan, look at a sample, fuse, run, count."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

from aiopipe.engine.runner import Trace, run_nodes
from aiopipe.engine.workers import Workers
from aiopipe.errors import AiopipeError, UsageError
from aiopipe.fuse import Node, fuse
from aiopipe.job.accounts import Accounts
from aiopipe.job.debug import Debug
from aiopipe.job.incremental import Keeper, keeper_of
from aiopipe.job.rejects import LedgerRejects, RejectsFile
from aiopipe.job.report import ChannelReport, Report, StageReport
from aiopipe.job.stopping import within
from aiopipe.options import parse_size, parse_time
from aiopipe.plan import Plan, make_plan
from aiopipe.stage import Found, Outcome, Source
from aiopipe.storage.settle import settled
from aiopipe.storage.write import Temporary

if TYPE_CHECKING:
    from aiopipe.stage import Pipeline

__all__ = ["check_ends", "run", "typed"]

_LEAST_MEMORY = 4_000_000


async def run(
    pipeline: Pipeline,
    *,
    rejects: str | None = None,
    max_rejects: int | None = None,
    workers: int | None = None,
    memory: int | str = "128MB",
    progress: Callable[[Report], None] | None = None,
    stop: asyncio.Event | None = None,
    report: str | None = None,
    debug: bool = False,
    force: bool = False,
    prune: bool = False,
    ledger: bool | None = None,
    shutdown_timeout: float | str = 25.0,
    fusing: Callable[[Plan], list[Node]] = fuse,
) -> Report:
    """Run a pipeline; see Pipeline.run. fusing: how the plan becomes nodes (tests put `apart` here)."""
    budget = parse_size(memory)
    if budget < _LEAST_MEMORY:
        raise UsageError(f"memory is {budget} bytes, too little to work with", hint="give it 4MB or more")
    if workers is not None and workers < 1:
        raise UsageError(f"workers is {workers}", hint="give it 1 or more")
    if max_rejects is not None and rejects is None:
        raise UsageError("max_rejects without rejects", hint="name a rejects file as well (--rejects FILE)")
    patience = parse_time(shutdown_timeout) or 0.0
    plan = make_plan(pipeline.stages)
    begun = time.perf_counter()
    pools = Workers(workers, budget)
    if stop is not None:
        pools.stop = stop
    reject_file: RejectsFile | LedgerRejects | None = None
    report_file: Temporary | None = None
    keeper: Keeper | None = None
    outcome_word = "failed"
    finding = Debug(pools.leash) if debug else None
    watching = contextlib.ExitStack()
    if finding is not None:
        watching.enter_context(finding.watching())
    try:
        check_ends(plan, rejects)
        keeper = keeper_of(plan, pools, ledger=ledger, force=force, prune=prune, tolerant=rejects is not None)
        if plan.needs_more:
            plan = await pools.hop(plan.ready)
        if keeper is not None:
            # The disk works while the processor looks at types.
            opening = asyncio.ensure_future(keeper.open([p for p in (rejects, report) if p is not None]))
            try:
                plan = await typed(plan, pools)
            finally:
                await settled(opening)
            await keeper.begin(plan)
        else:
            plan = await typed(plan, pools)
        nodes = fusing(plan)
        pools.prepare(nodes)
        if finding is not None:
            finding.know(nodes)
        # Both files are begun now: a run of hours must not learn at its end that their directory is read-only.
        if report is not None:
            report_file = await settled(pools.io(Temporary, report), Temporary.discard)
        units = keeper.units if keeper is not None else None
        if rejects is not None:
            reject_file = RejectsFile(rejects, pools.io) if units is None else LedgerRejects(rejects, units, pools.io)
        accounts = Accounts(plan, reject_file, max_rejects, progress, units)
        if units is not None:
            units.settle = accounts.settle
        try:
            outcome, trace = await within(run_nodes(nodes, pools, accounts), pools.stop, patience)
        except BaseException as error:
            accounts.locate(error)
            if keeper is not None:
                await keeper.failed(error)
            if accounts.report.rejected and reject_file is not None:
                await _keep(accounts, error)
            raise
        made = accounts.report
        made.interrupted = pools.stopping and not pools.found.ended
        if keeper is not None:
            await keeper.finish(made)
        await accounts.finish()
        _finish(made, plan, nodes, outcome, trace, pools.found)
        made.seconds = time.perf_counter() - begun
        if finding is not None:
            watching.close()
            made.debug = await pools.io(finding.report)
        if report_file is not None:
            await settled(pools.io(_write_report, report_file, made.to_json()))
    except BaseException:
        watching.close()
        if finding is not None:
            finding.tell()  # there will be no report to hold it
        raise
    else:
        outcome_word = "stopped" if made.interrupted else "done"
    finally:
        watching.close()
        if reject_file is not None:
            reject_file.discard()
        if report_file is not None:
            report_file.discard()
        try:
            if keeper is not None:
                await keeper.close(outcome_word)
        finally:
            await pools.aclose()
    if progress is not None:
        progress(made)
    return made


def _write_report(file: Temporary, text: str) -> None:
    file.write(f"{text}\n".encode(errors="backslashreplace"))
    file.commit()


async def _keep(accounts: Accounts, error: BaseException) -> None:
    """Of a run that failed, too: outputs of finished files are visible, so must be what they lack."""
    try:
        await accounts.finish()
    except AiopipeError as other:
        error.add_note(f"the rejects file is lost: {other}")


async def typed(plan: Plan, pools: Workers) -> Plan:
    """The plan with types, from a sample of the source if a stage needs them."""
    source = plan.steps[0].stage
    assert isinstance(source, Source)
    if not plan.wants_types:
        return plan
    # Parsing and binding expressions imports duckdb and takes a tenth of a second: not in the caller's loop.
    wanted = await pools.hop(plan.mentions)
    scope = await source.survey(pools, wanted)
    return await pools.hop(plan.typed, scope)


def check_ends(plan: Plan, rejects: str | None) -> None:
    """Refuse a sink (or a rejects file) that would write into the source's own input."""
    source, sink = plan.steps[0].stage, plan.steps[-1].stage
    check = getattr(sink, "check", None)
    if check is not None:
        check(source)
    matches = getattr(source, "matches", None)
    if rejects is None:
        return
    if matches is not None and matches(rejects):
        raise UsageError(f"the rejects file {rejects} is among the input", hint="put it somewhere else")
    target = getattr(sink, "to", None)
    if isinstance(target, str) and os.path.realpath(target) == os.path.realpath(rejects):
        raise UsageError(f"the rejects file {rejects} is the output as well", hint="put it somewhere else")


def _finish(report: Report, plan: Plan, nodes: list[Node], outcome: Outcome, trace: Trace, found: Found) -> None:
    report.written = outcome.records
    report.unfinished = outcome.unfinished
    report.outputs = outcome.files
    report.bytes_written = outcome.nbytes
    report.items = outcome.items
    if trace.satisfied:
        _drop_unwanted(report)
    missing = [s.taken - s.given - s.rejected for s in report.stages]
    report.filtered = sum(n for n in missing if n > 0)
    report.added = -sum(n for n in missing if n < 0)
    report.bytes_read = next(iter(trace.channels.values())).nbytes if trace.channels else 0
    report.files = found.files
    report.skipped = found.skipped
    report.channels = [
        ChannelReport(name, s.items, s.nbytes, s.waited_to_put, s.waited_to_get, s.peak_items, s.peak_bytes)
        for name, s in trace.channels.items()
    ]
    by_name = {s.name: r for s, r in zip([s for s in plan.steps if s.shape != "sink"], report.stages, strict=True)}
    taken = outcome.records + outcome.unfinished
    sink = StageReport(plan.steps[-1].label, taken, taken)
    report.stages.append(sink)
    for node in nodes:
        if node.shape != "hop":
            entry = sink if node.shape == "sink" else by_name[node.steps[0].name]
            entry.seconds += trace.busy.get(f"{node.shape} {node.name}", 0.0)


def _drop_unwanted(report: Report) -> None:
    """Count what stages had in hand when a later one had enough: taken, and filtered, as if they had ended."""
    for before, stage in pairwise(report.stages):
        if stage.name != "parse":
            stage.taken = max(stage.taken, before.given)
