"""pandas: file by file, text left as text, parsed by pyarrow where that is quicker."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from benchmarks.functions import SELECTED
from benchmarks.tools import pairs, serve


def one(pair: tuple[str, str], job: str) -> None:
    frame = pd.read_csv(pair[0], dtype=str, keep_default_na=False)
    delay = pd.to_numeric(frame["arr_delay"], errors="coerce")
    frame = frame[delay > 30]
    if job != "filter":
        gain = pd.to_numeric(frame["dep_delay"]) - pd.to_numeric(frame["arr_delay"])
        frame = frame.assign(gain=gain)
    if job == "select":
        frame = frame[SELECTED]
    frame.to_csv(pair[1], index=False)


def run(source: str, target: str, job: str) -> None:
    for pair in pairs(source, target):
        one(pair, job)


JOBS: dict[str, Any] = {name: partial(run, job=name) for name in ("filter", "derive", "select")}

if __name__ == "__main__":
    serve(JOBS)
