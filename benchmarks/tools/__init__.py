"""One module for each contender; every job the way its users would write it at its best.

    python -m benchmarks.tools.polars_ JOB SOURCE TARGET

reads the CSV files of the directory SOURCE, writes to the directory TARGET, and prints how long that took without
start-up.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

Job = Callable[[str, str], "dict[str, Any] | None"]


def pairs(source: str, target: str) -> list[tuple[str, str]]:
    """Each input with its output."""
    return [(os.path.join(source, n), os.path.join(target, n)) for n in sorted(os.listdir(source))]


def cores() -> int:
    """How many threads or processes a contender should use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def serve(jobs: Mapping[str, Job]) -> None:
    """Run the job that the command line names; everything imported before is start-up."""
    job, source, target = sys.argv[1:4]
    begun = time.perf_counter()
    more = jobs[job](source, target)
    print(json.dumps({"seconds": time.perf_counter() - begun, **(more or {})}))
