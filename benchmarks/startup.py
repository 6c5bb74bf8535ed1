"""How long it takes to begin: `aiopipe --help`, and a whole run over one file of 1 KB.

python -m benchmarks.startup [--runs 11] [--data bench-data]
"""

from __future__ import annotations

import argparse
import os
import sys

from benchmarks import machine, measure
from benchmarks.data import Data, add_options, flights
from benchmarks.measure import FailedError, middle

HELP, WHOLE = 0.150, 1.0


def commands(source: str, target: str) -> dict[str, tuple[list[str], float]]:
    """What is run, with the most it may take in seconds (0: no goal, only to compare with)."""
    aiopipe = [sys.executable, "-m", "aiopipe"]
    script = os.path.join(os.path.dirname(sys.executable), "aiopipe")
    if os.path.exists(script):
        aiopipe = [script]
    stages = ["read", source, "--null", "NA", "then", "filter", "arr_delay > 30", "then", "write", target + "/"]
    return {
        "python -c pass": ([sys.executable, "-c", "pass"], 0),
        "aiopipe --help": ([*aiopipe, "--help"], HELP),
        "aiopipe pipe, one file of 1 KB": ([*aiopipe, "pipe", *stages], WHOLE),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--runs", type=int, default=11)
    options = parser.parse_args()
    data = Data(options.data, options.quick)
    source, target = data.path("tiny"), data.path("out")
    measure.fresh_directory(source)
    with open(os.path.join(source, "one.csv"), "wb") as file:
        whole = flights()[:1000]
        file.write(whole[: whole.rfind(b"\n") + 1])
    print(machine.describe() + "\n")
    try:
        seconds: dict[str, list[float]] = {}
        for _ in range(options.runs):
            for name, (argv, _goal) in commands(source, target).items():
                measure.fresh_directory(target)
                try:
                    seconds.setdefault(name, []).append(measure.run_fresh(argv).wall)
                except FailedError as error:
                    print(f"  {name}: {error}")
        for name, (_argv, goal) in commands(source, target).items():
            took = middle(seconds.get(name, []))
            verdict = f"  goal {goal * 1000:.0f} ms: {'reached' if took < goal else 'MISSED'}" if goal else ""
            print(f"  {name:34}{took * 1000:8.0f} ms{verdict}")
    finally:
        data.remove(source)
        data.remove(target)


if __name__ == "__main__":
    main()
