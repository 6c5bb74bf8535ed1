"""Command line tools: one process for each file, two at once, and `cp -r` as the floor.

python -m benchmarks.tools.commands JOB SOURCE TARGET
"""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from benchmarks.functions import SELECTED
from benchmarks.machine import tool
from benchmarks.tools import cores, pairs, serve

OVER_30 = r"^(3[1-9]|[4-9][0-9]|[0-9]{3,})$"
MILLER = {
    "filter": ["filter", '$arr_delay != "NA" && $arr_delay > 30'],
    "derive": ["filter", '$arr_delay != "NA" && $arr_delay > 30', "then", "put", "$gain = $dep_delay - $arr_delay"],
}
MILLER["select"] = [*MILLER["derive"], "then", "cut", "-o", "-f", ",".join(SELECTED)]


def miller(job: str) -> list[str]:
    return [tool("mlr") or "mlr", "--icsv", "--ocsv", *MILLER[job]]


def csvgrep() -> list[str]:
    """By a pattern: csvkit's own way to compare numbers, csvsql, needs 400 times as long."""
    return [tool("csvgrep") or "csvgrep", "-c", "arr_delay", "-r", OVER_30]


def one(pair: tuple[str, str], command: list[str]) -> None:
    with open(pair[1], "wb") as target:
        subprocess.run([*command, pair[0]], stdout=target, check=True)


def each(source: str, target: str, command: list[str]) -> None:
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(partial(one, command=command), pairs(source, target)))


def floor(source: str, target: str) -> None:
    subprocess.run(["cp", "-r", source, os.path.join(target, "copy")], check=True)


JOBS: dict[str, Any] = {f"miller-{job}": partial(each, command=miller(job)) for job in MILLER}
JOBS["csvkit-filter"] = partial(each, command=csvgrep())
JOBS["cp"] = floor

if __name__ == "__main__":
    serve(JOBS)
