"""From a pipeline to a report: plan, look at a sample, fuse, run, count."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from aiopipe.engine.remote import Remotes
from aiopipe.engine.runner import run_nodes
from aiopipe.engine.workers import Workers
from aiopipe.errors import AiopipeError, UnitsFailedError, UsageError
from aiopipe.failures import Failures
from aiopipe.fuse import Node, fuse
from aiopipe.job.accounts import Accounts
from aiopipe.job.attempts import changed, mirrors, starts_over
from aiopipe.job.incremental import Keeper, keeper_of, one_unit
from aiopipe.job.rejects import LedgerRejects, RejectsFile
from aiopipe.job.report import FailedUnit, Report, counted
from aiopipe.job.stopping import within
from aiopipe.job.totals import finish
from aiopipe.options import parse_size, parse_time
from aiopipe.plan import Plan, make_plan
from aiopipe.stage import Source, Stage
from aiopipe.storage.settle import settled
from aiopipe.storage.write import Temporary

if TYPE_CHECKING:
    from aiopipe.job.debug import Debug
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
    keep_going: bool | None = None,
    retries: int = 1,
    force: bool = False,
    prune: bool = False,
    ledger: bool | None = None,
    shutdown_timeout: float | str = 25.0,
    remotes: Remotes | None = None,
    fusing: Callable[[Plan], list[Node]] = fuse,
) -> Report:
    """Run a pipeline; see Pipeline.run.

    remotes: begun already. fusing: how the plan becomes nodes (tests put `apart` here).
    """
    budget = parse_size(memory)
    if budget < _LEAST_MEMORY:
        raise UsageError(f"memory is {budget} bytes, too little to work with", hint="give it 4MB or more")
    if workers is not None and workers < 1:
        raise UsageError(f"workers is {workers}", hint="give it 1 or more")
    if max_rejects is not None and rejects is None:
        raise UsageError("max_rejects without rejects", hint="name a rejects file as well (--rejects FILE)")
    if retries < 0:
        raise UsageError(f"retries is {retries}", hint="give it 0 or more")
    patience = parse_time(shutdown_timeout) or 0.0
    plan = make_plan(pipeline.stages)
    begun = time.perf_counter()
    pools = Workers(workers, budget, remotes)
    # Whose fault a lost worker is nobody knows: perhaps the machine's. A record at fault is there to be mended.
    goes_on = (bool(keep_going) and stand_alone(plan), keep_going is None and mirrors(plan))
    failures = pools.found.failures = Failures(*goes_on, retries)
    if stop is not None:
        pools.stop = stop
    reject_file: RejectsFile | LedgerRejects | None = None
    report_file: Temporary | None = None
    keeper: Keeper | None = None
    outcome_word = "failed"
    finding = _finding(pools.leash) if debug else None
    nodes: list[Node] = []
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
            report_file = await settled(pools.io(partial(Temporary, report, alone=True)), Temporary.discard)
        units = keeper.units if keeper is not None else None
        # Rejects of an attempt that is lost can only be taken back from a ledger.
        failures.rereads = mirrors(plan) and (rejects is None or units is not None)
        if rejects is not None:
            begin = partial(RejectsFile, rejects) if units is None else partial(LedgerRejects, rejects, units)
            reject_file = await settled(pools.io(begin, pools.io), _discard)
        attempts = 1 + (retries if keeper is None and starts_over(plan) else 0)
        for attempt in range(1, attempts + 1):
            accounts = Accounts(plan, reject_file, max_rejects, progress, failures, units)
            pools.found.refuse, pools.found.tolerant = accounts.refuse, rejects is not None
            if units is not None:
                units.settle = accounts.settle
                if units.ranges is not None:
                    units.ranges.counts = accounts
            try:
                trace = await within(run_nodes(nodes, pools, accounts), pools.stop, patience)
                break
            except BaseException as error:
                accounts.locate(error)
                if attempt < attempts and not pools.stopping and changed(error):
                    pools.found.files, pools.found.skipped = 0, []
                    if rejects is not None and reject_file is not None:
                        reject_file.discard()
                        reject_file = await settled(pools.io(RejectsFile, rejects, pools.io), _discard)
                    continue
                if keeper is not None:
                    await keeper.failed(error)
                if accounts.report.rejected and reject_file is not None:
                    await _keep(accounts, error)
                raise
        made = accounts.report
        made.rejected -= accounts.lost()
        made.reread = attempt - 1
        made.interrupted = pools.found.cut
        if keeper is not None:
            await keeper.finish(made, failures)
        await accounts.finish()
        finish(made, plan, nodes, trace, pools.found)
        made.unfinished += accounts.lost()
        made.seconds = time.perf_counter() - begun
        made.failed = [FailedUnit(f.path, f"{error}") for _, (f, error) in sorted(failures.units.items())]
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
            await pools.sweep(nodes)
            if keeper is not None:
                await keeper.close(outcome_word)
        finally:
            await pools.aclose()
    if progress is not None:
        progress(made)
    if failures.units:
        raise UnitsFailedError(counted(len(failures.units), "file") + " failed", failures.errors(), made)
    return made


def _finding(leash: object) -> Debug:
    from aiopipe.job.debug import Debug  # 12 ms, which other runs do without

    return Debug(leash)


def stand_alone(plan: Plan) -> bool:
    """True where each file is made into its own output, whatever the others hold; UsageError where it is not."""
    if not (plan.inputs or plan.branches or one_unit(plan)):
        return True
    raise UsageError(
        "these files do not stand alone: none can fail and leave the others be",
        hint="keep_going is for write DIRECTORY/, without branches and stages that count or compare over all files",
    )


def _discard(file: RejectsFile | LedgerRejects | None) -> None:
    if file is not None:
        file.discard()


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
    """The plan with types, from a sample of every source if a stage needs them."""
    if not plan.wants_types:
        return plan
    # Parsing and binding expressions imports duckdb and takes a tenth of a second: not in the caller's loop.
    wanted = await pools.hop(plan.mentions)
    scopes = []
    for step in plan.sources:
        assert isinstance(step.stage, Source)
        scopes.append(await step.stage.survey(pools, wanted))
    return await pools.hop(plan.typed, *scopes)


def check_ends(plan: Plan, rejects: str | None) -> None:
    """Refuse a sink (or a rejects file) that would write into a source's own input, and two that share an output."""
    sources, sinks = [s.stage for s in plan.sources], [s.stage for s in plan.sinks]
    _refuse_shared(sources, sinks)
    for sink in sinks:
        check: Any = getattr(sink, "check", None)
        for source in sources if check is not None else ():
            check(source)
    if rejects is None:
        return
    for source in sources:
        matches = getattr(source, "matches", None)
        if matches is not None and matches(rejects):
            raise UsageError(f"the rejects file {rejects} is among the input", hint="put it somewhere else")
    for sink in sinks:
        target = getattr(sink, "to", None)
        if isinstance(target, str) and os.path.realpath(target) == os.path.realpath(rejects):
            raise UsageError(f"the rejects file {rejects} is the output as well", hint="put it somewhere else")


def _refuse_shared(sources: Sequence[Stage], sinks: Sequence[Stage]) -> None:
    """Two branches that write to one place, or two inputs that read what can be read only once."""
    if sum("-" in getattr(s, "paths", ()) for s in sources) > 1:
        raise UsageError("standard input is read twice", hint="read it once, and name files for the others")
    targets: dict[str, str] = {}
    for sink in sinks:
        to = getattr(sink, "to", None)
        if not isinstance(to, str) or not getattr(sink, "is_path", True):
            continue
        place = to if to == "-" else os.path.realpath(to)
        if place in targets:
            what = "standard output" if to == "-" else to
            raise UsageError(f"two branches write to {what}", hint="give each branch an output of its own")
        targets[place] = to
