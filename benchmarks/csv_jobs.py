"""CSV jobs against their peers: ratios of runs that alternate in the same minutes, medians of five.

    python -m benchmarks.csv_jobs [--quick] [--fast] [--only filter] [--runs 5] [--data bench-data]

Each run is a fresh process, start-up included. aiopipe runs with its defaults, so it syncs its outputs to the disk
before they appear under their names; peers do not, and `durable` shows what they take when their outputs are synced
as well. A ratio is the median over the rounds of peer / aiopipe in the same round: above 1, aiopipe is faster.

Everybody gets the whole input of a job. What no goal hangs on runs once, which the table says: contenders that are
nowhere near the fastest, and ways to use a library that its best one has beaten by far in the first round.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from benchmarks import machine, measure
from benchmarks.data import add_options
from benchmarks.jobs import OURS, Contender, Goal, Job, all_jobs
from benchmarks.measure import FailedError, Run, middle

SLOW_RUNS = 1  # of contenders that are nowhere near the fastest
BEATEN = 1.3  # times as long as the best of the same library in the first round: the others are not run again
FAST_RUNS = 3
ITEMS = 200_000

Runs = dict[Contender, dict[int, Run]]


def prepare(job: Job, options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The job's input and what must come out; made in processes of their own, so that this one stays small."""
    if not job.data:
        return str(ITEMS // 10 if options.quick else ITEMS), {}
    command = [sys.executable, "-m", "benchmarks.data", job.data, "--data", options.data]
    command += ["--quick"] if options.quick else []
    source = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    kept = f"{source}.{job.check}.json"
    if not os.path.exists(kept):
        answer = measure.run_fresh([sys.executable, "-m", "benchmarks.tools.reference", job.check, source]).answer
        with open(kept, "w") as file:
            json.dump(answer, file)
    with open(kept) as file:
        return source, json.load(file)


def records(directory: str) -> int:
    """Records in all files below a directory, their headers not counted."""
    count = 0
    for entry in os.scandir(directory):
        if entry.name == ".aiopipe":
            continue
        lines = 0
        with open(entry.path, "rb") as file:
            while block := file.read(1 << 20):
                lines += block.count(b"\n")
        count += max(0, lines - 1)
    return count


def digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def complaint(contender: Contender, run: Run, target: str, truth: dict[str, Any]) -> str:
    """What is wrong with an output, or nothing. Ours must be the right bytes, a peer's the right number of records."""
    if "correct" in run.answer:
        return "" if run.answer["correct"] else "wrong values"
    if contender.job == "cp":
        return ""
    found = records(target)
    if found != truth["records"]:
        return f"{found:,} records, not {truth['records']:,}"
    if contender.module in ("ours", "pipe"):
        wrong = [n for n, s in truth["sums"].items() if digest(os.path.join(target, n)) != s]
        if wrong:
            return f"{len(wrong)} files are not byte for byte the kept lines, first {wrong[0]}"
    return ""


def compete(job: Job, options: argparse.Namespace, say: Callable[[str], None]) -> tuple[Runs, dict[Contender, str]]:
    """All runs of a job, round after round, and what was wrong with whom."""
    source, truth = prepare(job, options)
    target = os.path.join(os.path.abspath(options.data), "out")
    runs: Runs = {c: {} for c in job.contenders}
    wrong: dict[Contender, str] = {}
    for number in range(options.runs):
        for contender in job.contenders:
            if contender in wrong or (number >= SLOW_RUNS and (contender.slow or beaten(contender, runs))):
                continue
            say(f"{job.name} {number + 1}/{options.runs} {contender.name}")
            measure.fresh_directory(target)
            try:
                run = measure.run_fresh(contender.argv(source, target))
            except FailedError as error:
                wrong[contender] = str(error)
                continue
            synced = measure.sync_seconds(target)
            if fault := complaint(contender, run, target, truth):
                wrong[contender] = fault
            else:
                runs[contender][number] = Run(run.wall, run.inner, run.cpu, run.rss, synced, run.answer)
    measure.fresh_directory(target)
    os.rmdir(target)
    return runs, wrong


def beaten(contender: Contender, runs: Runs) -> bool:
    """Whether its library has a way that was much quicker in the first round. Ours, and ways by hand, are never."""
    library = contender.name.partition(",")[0]
    first = [r[0].wall for c, r in runs.items() if 0 in r and c.name.partition(",")[0] == library]
    if contender.module not in ("polars_", "duckdb_") or 0 not in runs[contender]:
        return False
    return runs[contender][0].wall > BEATEN * min(first)


def ratio(peer: dict[int, Run], ours: dict[int, Run], time: Callable[[Run], float]) -> float:
    """How many times as long the peer takes: the median over the rounds that both have run."""
    return middle([time(peer[i]) / time(ours[i]) for i in peer if i in ours])


def wall(run: Run) -> float:
    return run.wall


def inner(run: Run) -> float:
    return run.inner


def durable(run: Run) -> float:
    return run.wall + run.sync


def table(job: Job, runs: Runs) -> list[str]:
    """A line for each contender, the fastest first."""
    ours = next(runs[c] for c in job.contenders if c.name == OURS)
    head = f"  {'':38}{'wall s':>8}{'x':>7}{'x without':>11}{'x durable':>11}{'CPU s':>8}{'peak MB':>9}{'runs':>6}"
    lines = [head.replace("x without", "x no start")]
    done = [c for c in job.contenders if runs[c]]
    for c in sorted(done, key=lambda c: middle([r.wall for r in runs[c].values()])):
        mine = list(runs[c].values())
        ratios = "".join(
            f"{ratio(runs[c], ours, time):{width}.2f}" for time, width in ((wall, 7), (inner, 11), (durable, 11))
        )
        lines.append(
            f"  {c.name:38}{middle([r.wall for r in mine]):8.2f}{ratios}{middle([r.cpu for r in mine]):8.2f}"
            f"{max(r.rss for r in mine) / 1e6:9.0f}{len(mine):6}"
        )
    return lines


def verdict(job: Job, goal: Goal, runs: Runs) -> str:
    """One goal beside what was measured."""
    time = wall if job.startup else inner
    ours = next(runs[c] for c in job.contenders if c.name == OURS)
    rivals = [c for c in job.contenders if runs[c] and c.name.startswith(goal.against)]
    if not rivals or not ours:
        return f"  goal {goal.ratio:g}x {goal.text}: not measured"
    best = min(rivals, key=lambda c: middle([time(r) for r in runs[c].values()]))
    got = ratio(runs[best], ours, time)
    aim = f" (aim {goal.aim:g}x)" if goal.aim else ""
    met = "reached" if got >= goal.ratio else "MISSED"
    return f"  goal {goal.ratio:g}x {goal.text}{aim}: {got:.2f}x {best.name}: {met}"


def details(job: Job, runs: Runs) -> list[str]:
    """Where aiopipe's own seconds went, in its last run."""
    answers = [run.answer for c in job.contenders if c.name.startswith(OURS) for run in runs[c].values()]
    answer = next((a for a in reversed(answers) if "stages" in a), None)
    if answer is None:
        return []
    stages = ", ".join(f"{name} {seconds:.2f}" for name, seconds in answer["stages"].items())
    return [f"  seconds in aiopipe's stages, added over its workers: {stages}"]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--runs", type=int, help="rounds, of which the median counts (default: 5, with --fast 3)")
    parser.add_argument("--only", action="append", choices=[j.name for j in all_jobs()], help="only this job")
    parser.add_argument("--fast", action="store_true", help="leave out the slowest peers, and go round three times")
    parser.add_argument("--json", help="write every run to this file")
    options = parser.parse_args()
    options.runs = options.runs or (FAST_RUNS if options.fast else 5)
    return options


def chosen(options: argparse.Namespace) -> list[Job]:
    jobs = [j for j in all_jobs() if not options.only or j.name in options.only]
    if not options.fast:
        return jobs
    from dataclasses import replace

    return [replace(j, contenders=tuple(c for c in j.contenders if not c.slow)) for j in jobs]


def main() -> None:
    options = parse()
    measure.adopt()
    shown = sys.stderr.isatty()

    def say(text: str) -> None:
        if shown:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    print(machine.describe())
    print(f"{machine.cores()} processes of plain Python at once: {machine.together():.2f} times the work of one")
    print("x: how many times as long as aiopipe it takes; no start: without start-up; durable: outputs synced to disk")
    results = {}
    for job in chosen(options):
        runs, wrong = compete(job, options, say)
        say("")
        print(f"\n{job.name}: {job.title}" + (" (a tenth of it)" if options.quick else ""))
        print("\n".join(table(job, runs)))
        for contender, text in wrong.items():
            print(f"  {contender.name}: {text}")
        for goal in job.goals:
            print(verdict(job, goal, runs))
        print("\n".join(details(job, runs)), flush=True)
        results[job.name] = {c.name: [vars(r) for r in runs[c].values()] for c in job.contenders}
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
