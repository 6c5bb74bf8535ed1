"""polars: lazy scan to sink, one by one, in threads and with collect_all; eager; and with columns left as text."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import polars as pl

from benchmarks.functions import SELECTED
from benchmarks.tools import cores, pairs, serve

LATE = pl.col("arr_delay") > 30
GAIN = (pl.col("dep_delay") - pl.col("arr_delay")).alias("gain")
TEXT: dict[str, Any] = {
    "infer_schema": False,
    "schema_overrides": {"arr_delay": pl.Int64, "dep_delay": pl.Int64},
    "null_values": {"arr_delay": "NA", "dep_delay": "NA"},
}
TYPED: dict[str, Any] = {"infer_schema_length": 10_000, "null_values": "NA"}


def query(frame: Any, job: str) -> Any:
    frame = frame.filter(LATE)
    if job in ("derive", "select"):
        frame = frame.with_columns(GAIN)
    return frame.select(SELECTED) if job == "select" else frame


def plan(pair: tuple[str, str], job: str, how: dict[str, Any], lazy: bool = False) -> Any:
    return query(pl.scan_csv(pair[0], **how), job).sink_csv(pair[1], null_value="NA", lazy=lazy)


def eager(pair: tuple[str, str], job: str) -> None:
    query(pl.read_csv(pair[0], **TEXT), job).write_csv(pair[1], null_value="NA")


def one_by_one(source: str, target: str, job: str) -> None:
    for pair in pairs(source, target):
        plan(pair, job, TYPED)


def threads(source: str, target: str, job: str, one: Any) -> None:
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(partial(one, job=job), pairs(source, target)))


def together(source: str, target: str, job: str) -> None:
    pl.collect_all([plan(pair, job, TEXT, lazy=True) for pair in pairs(source, target)])


JOBS: dict[str, Any] = {}
for name in ("filter", "derive", "select"):
    JOBS[name] = partial(one_by_one, job=name)
    JOBS[f"{name}-threads"] = partial(threads, job=name, one=partial(plan, how=TYPED))
    JOBS[f"{name}-text"] = partial(threads, job=name, one=partial(plan, how=TEXT))
    JOBS[f"{name}-eager"] = partial(threads, job=name, one=eager)
    JOBS[f"{name}-all"] = partial(together, job=name)

if __name__ == "__main__":
    serve(JOBS)
