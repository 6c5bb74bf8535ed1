"""DuckDB: COPY file by file, and in threads with the columns told, so that nothing is sniffed or guessed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import duckdb

from benchmarks.functions import SELECTED
from benchmarks.tools import cores, pairs, serve

NUMBERS = ("arr_delay", "dep_delay")


def told(path: str) -> str:
    """The options that leave nothing to be found out: other columns stay text."""
    with open(path) as file:
        names = file.readline().strip().split(",")
    columns = ", ".join(f"'{n}': '{'BIGINT' if n in NUMBERS else 'VARCHAR'}'" for n in names)
    return f", auto_detect=false, header=true, delim=',', columns={{{columns}}}"


def copy(connection: Any, pair: tuple[str, str], job: str, options: str) -> None:
    columns = "*" if job == "filter" else "*, dep_delay - arr_delay AS gain"
    if job == "select":
        columns = ", ".join(SELECTED[:-1]) + ", dep_delay - arr_delay AS gain"
    connection.execute(
        f"COPY (SELECT {columns} FROM read_csv('{pair[0]}', nullstr='NA'{options}) WHERE arr_delay > 30) "
        f"TO '{pair[1]}' (HEADER, NULLSTR 'NA')"
    )


def one_by_one(source: str, target: str, job: str, tell: bool) -> None:
    files = pairs(source, target)
    options = told(files[0][0]) if tell else ""
    with duckdb.connect() as connection:
        for pair in files:
            copy(connection, pair, job, options)


def threads(source: str, target: str, job: str, tell: bool) -> None:
    files = pairs(source, target)
    options = told(files[0][0]) if tell else ""
    with duckdb.connect() as connection, ThreadPoolExecutor(cores()) as pool:
        list(pool.map(lambda pair: copy(connection.cursor(), pair, job, options), files))


JOBS: dict[str, Any] = {}
for name in ("filter", "derive", "select"):
    JOBS[name] = partial(one_by_one, job=name, tell=False)
    JOBS[f"{name}-told"] = partial(one_by_one, job=name, tell=True)
    JOBS[f"{name}-threads"] = partial(threads, job=name, tell=False)
    JOBS[f"{name}-threads-told"] = partial(threads, job=name, tell=True)

if __name__ == "__main__":
    serve(JOBS)
