"""What a program's own event loop feels of the job in it: a ticker of 1 ms during the run over 500 MB.

    python -m benchmarks.loop [--quick] [--runs 5] [--data bench-data]

"nothing" is the same ticker with an idle loop: what the machine itself does to it.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from benchmarks import machine, measure
from benchmarks.data import Data, add_options
from benchmarks.measure import middle

NAMES = {"ours": "aiopipe", "first": "aiopipe, first", "aiocsv": "aiocsv by hand", "nothing": "nothing"}
KEYS = ("p50", "p99", "p99.9", "max")
LIMIT = 20.0


def line(who: str, answers: list[dict[str, Any]]) -> str:
    """Medians over the runs of each percentile, and the worst gap of all."""
    shown = []
    for kind in ("gap", "busy"):
        for key in KEYS:
            values = [a[kind][key] for a in answers]
            shown.append(f"{max(values) if key == 'max' else middle(values):11.2f}")
    ticks = middle([a["ticks"] for a in answers])
    seconds = middle([a["seconds"] for a in answers])
    threads = max(a["threads"] for a in answers)
    return f"  {NAMES[who]:16}{''.join(shown)}{seconds:9.2f}{ticks:8.0f}{threads:9}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    data = Data(options.data, options.quick)
    source, target = data.single(), os.path.join(data.root, "out")
    answers: dict[str, list[dict[str, Any]]] = {who: [] for who in NAMES}
    for number in range(options.runs):
        for who, found in answers.items():
            if who == "aiocsv" and number >= 2:
                continue  # ten times as long, and its picture does not change
            measure.fresh_directory(target)
            found.append(
                measure.run_fresh([sys.executable, "-m", "benchmarks.tools.ticking", who, source, target]).answer
            )
    data.remove(target)
    print(machine.describe())
    print(
        "milliseconds by which a tick came late, and processor time of the loop's own thread in it (max: of all runs)\n"
    )
    head = "".join(f"{kind + ' ' + key:>11}" for kind in ("late", "own") for key in KEYS)
    print(f"  {'':16}{head}{'seconds':>9}{'ticks':>8}{'threads':>9}")
    for who, found in answers.items():
        print(line(who, found))
    late = middle([a["gap"]["p99.9"] for a in answers["ours"]])
    own = max(a["busy"]["max"] for a in answers["ours"])
    passed = "reached" if late < LIMIT else "MISSED"
    print(
        f"  goal: p99.9 below {LIMIT:.0f} ms: {late:.2f} ms: {passed}; longest hold by code in the loop: {own:.2f} ms"
    )


if __name__ == "__main__":
    main()
