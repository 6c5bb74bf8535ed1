"""What it costs that outputs are on the disk before they are visible, and that a ledger remembers them.

    python -m benchmarks.durability [--quick] [--runs 5] [--data bench-data]

The same filter with syncs and ledger (as it is by default) and with neither, alternating, start-up included; then
once more into the finished directory, where everything is passed over. Of one large file also the run after one that
was killed when more than 85 % of it were done.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys

from benchmarks import machine, measure
from benchmarks.data import add_options
from benchmarks.measure import Run, middle

OURS = [sys.executable, "-m", "benchmarks.tools.ours"]
GOALS = {"small": ("10,000 files of 5 KB", 1.5, 1.25), "wide": ("20 files of 25 MB", 1.05, 0.0)}
GOALS["single"] = ("one file of 500 MB", 1.05, 0.0)


def input_of(kind: str, options: argparse.Namespace) -> str:
    """The directory of a kind of data, made where it is missing."""
    command = [sys.executable, "-m", "benchmarks.data", kind, "--data", options.data]
    command += ["--quick"] if options.quick else []
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def compare(kind: str, options: argparse.Namespace) -> str:
    """The ratio for one kind of input, beside its goal."""
    source = input_of(kind, options)
    target = os.path.join(os.path.abspath(options.data), "out")
    runs: dict[str, list[Run]] = {"careless": [], "careful": [], "again": [], "resumed": []}
    for _ in range(options.runs):
        for job in ("careless", "careful"):
            measure.fresh_directory(target)
            runs[job].append(measure.run_fresh([*OURS, job, source, target]))
        runs["again"].append(measure.run_fresh([*OURS, "careful", source, target]))
        if kind == "single":
            measure.fresh_directory(target)
            with contextlib.suppress(measure.FailedError):
                measure.run_fresh([*OURS, "killed", source, target])
            runs["resumed"].append(measure.run_fresh([*OURS, "careful", source, target]))
    measure.fresh_directory(target)
    os.rmdir(target)
    ratios = [a.wall / b.wall for a, b in zip(runs["careful"], runs["careless"], strict=True)]
    title, goal, aim = GOALS[kind]
    got = middle(ratios)
    walls = {job: middle([r.wall for r in some]) for job, some in runs.items() if some}
    resumed = f"; killed near its end, and resumed: {walls['resumed']:.2f} s" if "resumed" in walls else ""
    aimed = f" (aim {aim:g}x)" if aim else ""
    return (
        f"{title}: {walls['careful']:.2f} s synced and with a ledger, {walls['careless']:.2f} s with neither;"
        f" run again, all passed over: {walls['again']:.2f} s{resumed}\n"
        f"  goal: at most {goal:g}x{aimed}: {got:.2f}x: {'reached' if got <= goal else 'MISSED'}"
        f" (median of {len(ratios)})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    measure.adopt()
    print(machine.describe())
    for kind in GOALS:
        print(compare(kind, options))


if __name__ == "__main__":
    main()
