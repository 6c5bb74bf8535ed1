"""From a pipeline to a report: plan, look at a sample, fuse, run, count."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiopipe.engine.runner import Trace, run_nodes
from aiopipe.engine.workers import Workers
from aiopipe.errors import UsageError
from aiopipe.fuse import Node, describe, fuse
from aiopipe.job.accounts import Accounts
from aiopipe.job.rejects import RejectsFile
from aiopipe.job.report import ChannelReport, Report, StageReport
from aiopipe.options import parse_size
from aiopipe.plan import Plan, make_plan
from aiopipe.stage import Outcome, Source

if TYPE_CHECKING:
    from aiopipe.stage import Pipeline

__all__ = ["explain", "run"]

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
    debug: bool = False,
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
    plan = make_plan(pipeline.stages)
    begun = time.perf_counter()
    pools = Workers(workers, budget)
    if stop is not None:
        pools.stop = stop
    reject_file: RejectsFile | None = None
    try:
        _check_ends(plan, rejects)
        plan = await typed(plan, pools)
        nodes = fusing(plan)
        pools.prepare(nodes)
        reject_file = RejectsFile(rejects) if rejects is not None else None
        accounts = Accounts(plan, reject_file, max_rejects, progress)
        try:
            outcome, trace = await _run(nodes, pools, accounts)
        finally:
            if reject_file is not None:
                # Even when the run fails: outputs of finished files are visible, so must be what they lack.
                await accounts.flush(final=True)
                await reject_file.commit()
                reject_file = None
    finally:
        if reject_file is not None:
            reject_file.discard()
        await pools.aclose()
    report = accounts.report
    _finish(report, plan, nodes, outcome, trace)
    report.seconds = time.perf_counter() - begun
    report.interrupted = pools.stopping
    if progress is not None:
        progress(report)
    return report


async def _run(nodes: list[Node], pools: Workers, accounts: Accounts) -> tuple[Outcome, Trace]:
    """Run the nodes, and write rejects as they gather."""
    if accounts._rejects is None:
        return await run_nodes(nodes, pools, accounts)
    running = asyncio.ensure_future(run_nodes(nodes, pools, accounts))
    try:
        while not running.done():
            await asyncio.wait([running], timeout=0.05)
            if accounts.unwritten:
                await accounts.flush()
        return running.result()
    except asyncio.CancelledError:
        running.cancel()
        await asyncio.wait([running])
        raise


async def typed(plan: Plan, pools: Workers) -> Plan:
    """The plan with types, from a sample of the source if a stage needs them."""
    source = plan.steps[0].stage
    assert isinstance(source, Source)
    if not plan.wants_types:
        return plan
    return plan.typed(await source.survey(pools))


def _check_ends(plan: Plan, rejects: str | None) -> None:
    """Refuse a sink (or a rejects file) that would write into the source's own input."""
    source, sink = plan.steps[0].stage, plan.steps[-1].stage
    check = getattr(sink, "check", None)
    if check is not None:
        check(source)
    matches = getattr(source, "matches", None)
    if rejects is not None and matches is not None and matches(rejects):
        raise UsageError(f"the rejects file {rejects} is among the input", hint="put it somewhere else")


def _finish(report: Report, plan: Plan, nodes: list[Node], outcome: Outcome, trace: Trace) -> None:
    report.written = outcome.records
    report.unfinished = outcome.unfinished
    report.outputs = outcome.files
    report.bytes_written = outcome.nbytes
    report.items = outcome.items
    report.filtered = sum(s.taken - s.given - s.rejected for s in report.stages)
    report.bytes_read = next(iter(trace.channels.values())).nbytes if trace.channels else 0
    source = plan.steps[0].stage
    report.files = getattr(source, "files_read", lambda: 0)()
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


async def explain(pipeline: Pipeline) -> str:
    """The plan as written and as fused, with types, placements and buffers; a sample is read for the types."""
    plan = make_plan(pipeline.stages)
    pools = Workers(None)
    try:
        _check_ends(plan, None)
        plan = await typed(plan, pools)
    finally:
        await pools.aclose()
    lines = ["as written"]
    for step in plan.steps:
        if step.shape in ("decode", "encode"):
            continue
        lines.append(f"  {step.name:<14} {step.stage!r}")
        shown = {
            c: step.scope.types[c]
            for c in getattr(step.stage, "named", lambda s: ())(step.scope)
            if c in step.scope.types
        }
        if shown:
            lines.append("  " + " " * 15 + "types: " + ", ".join(f"{c} {t}" for c, t in shown.items()))
    nodes = fuse(plan)
    lines += ["", f"as run ({pools.workers} workers)"]
    for i, line in enumerate(describe(nodes)):
        lines.append("  " + line)
        if i + 1 < len(nodes):
            depth = 2 if nodes[i].shape == "source" else max(2, pools.workers)
            lines.append(f"    | up to {depth} parcels, {pools.memory // 8 / 1e6:g} MB")
    return "\n".join(lines)
