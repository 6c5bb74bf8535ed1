"""Calls in flight: columns from a service, the engine's cost for each row, and other libraries on the same work.

python -m benchmarks.enrich [--quick] [--runs 5] [--requests 10000] [--flying 256] [--wait 0.02]

The service runs in a process of its own and answers after --wait. Contenders run in turn, each in a fresh process;
what is shown are medians, without start-up and imports, and ratios within a turn. Packages of the extra `bench` are
measured where they are installed; so is aiostream (GPL).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from statistics import median

from benchmarks import machine
from benchmarks.machine import installed
from benchmarks.measure import FailedError, Run, middle, run_fresh

# library -> items: about a second of work each
COUNTS = {"ours": 200_000, "streamable": 40_000, "aiostream": 8_000, "spdl": 2_000, "pypeln": 8_000}
GOAL_HAND, GOAL_ROW, GOAL_OTHERS = 0.95, 60.0, 4.0


def job(module: str, *words: object) -> Run:
    """One contender in a process of its own; FailedError where its result is not right."""
    run = run_fresh([sys.executable, "-m", f"benchmarks.tools.{module}", *map(str, words)])
    if run.answer.get("correct") is not True:
        raise FailedError(f"{words[0]}: a wrong result")
    return run


def rows(path: str, count: int) -> str:
    with open(path, "w") as file:
        file.write("id,name,amount\n" + "".join(f'{i},"name {i}",{i}.50\n' for i in range(count)))
    return path


def verdict(reached: bool) -> str:
    return "reached" if reached else "MISSED"


def service(options: argparse.Namespace, place: str) -> None:
    """`fetch` beside the loop that an expert writes."""
    source = rows(os.path.join(place, "in.csv"), options.requests)
    argv = [sys.executable, "-m", "benchmarks.tools.service", str(options.wait)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and server.stdin is not None
        os.environ["SERVICE"] = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        os.environ["FLYING"] = str(options.flying)
        try:
            ratios: list[float] = []
            seconds: dict[str, list[float]] = {"fetch": [], "by-hand": []}
            cpu: dict[str, list[float]] = {"fetch": [], "by-hand": []}
            for turn in range(options.runs):
                names = ["fetch", "by-hand"] if turn % 2 else ["by-hand", "fetch"]
                found = {name: job("enrich", name, source, os.path.join(place, name + ".csv")) for name in names}
                for name, run in found.items():
                    seconds[name].append(run.inner)
                    cpu[name].append(run.answer["cpu"])
                ratios.append(found["by-hand"].inner / found["fetch"].inner)
        finally:
            server.stdin.close()
    ideal = options.requests / options.flying * options.wait
    print(f"{options.requests:,} requests, {options.flying} in flight, answers after {options.wait * 1000:g} ms")
    print(f"  waiting alone{ideal:13.2f} s")
    for name in seconds:
        print(f"  {name:10}{middle(seconds[name]):8.2f} s{middle(cpu[name]):8.2f} s of CPU")
    ratio = median(ratios)
    print(f"  fetch reaches {ratio:.2f} of the loop by hand; goal {GOAL_HAND}: {verdict(ratio >= GOAL_HAND)}\n")


def each_row(options: argparse.Namespace, place: str) -> None:
    """An `async def` that has its answer at once, from CSV to CSV."""
    count = 200_000 // (10 if options.quick else 1)
    source = rows(os.path.join(place, "rows.csv"), count)
    costs = []
    for _ in range(options.runs):
        run = job("enrich", "instant", source, os.path.join(place, "rows.out.csv"))
        costs.append((run.inner / count * 1e6, run.answer["cpu"] / count * 1e6))
    cost, cpu = (median(values) for values in zip(*costs, strict=True))
    print(f"{count:,} rows through an async def that does not wait, CSV to CSV, {options.flying} calls at once")
    print(f"  {cost:.1f} us a row, {cpu:.1f} us of CPU; goal {GOAL_ROW:g}: {verdict(cost < GOAL_ROW)}\n")


def libraries(options: argparse.Namespace) -> None:
    """Three stages of `async def`, in order, several calls at once and one."""
    names = [n for n in COUNTS if n == "ours" or installed(n)]
    for calls in (16, 1):
        rates: dict[str, list[float]] = {n: [] for n in names}
        for _ in range(options.runs):
            for name in names:
                count = COUNTS[name] // (10 if options.quick else 1)
                try:
                    rates[name].append(count / job("waiting", name, count, calls).inner)
                except FailedError as error:
                    print(f"  {name}: {error}")
        print(f"three stages of async def over integers, {calls} call{'s' if calls > 1 else ''} at once in each")
        best = middle(rates["ours"])
        for name in names:
            rate = middle(rates[name])
            told = f"  ours is {best / rate:.1f} x; goal 4: {verdict(best / rate >= GOAL_OTHERS)}"
            print(f"  {name:12}{rate:12,.0f} items/s{'' if name == 'ours' else told}")
        print()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--flying", type=int, default=256)
    parser.add_argument("--wait", type=float, default=0.02, help="seconds until the service answers")
    parser.add_argument("--only", choices=("service", "rows", "libraries"), help="one part")
    options = parser.parse_args()
    if options.quick:
        options.requests //= 10
    print(machine.describe() + "\n")
    with tempfile.TemporaryDirectory() as place:
        if options.only in (None, "service"):
            service(options, place)
        if options.only in (None, "rows"):
            each_row(options, place)
    if options.only in (None, "libraries"):
        libraries(options)


if __name__ == "__main__":
    main()
