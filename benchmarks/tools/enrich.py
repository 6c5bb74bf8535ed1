"""Columns from a service, one request a record: `fetch`, and the loop that an expert writes by hand.

python -m benchmarks.tools.enrich JOB SOURCE TARGET, where JOB is a name below, SOURCE a CSV file, TARGET another;
the service is at $SERVICE, $FLYING requests are in flight.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.tools import serve

FLYING = int(os.environ.get("FLYING", "256"))
URL = os.environ.get("SERVICE", "http://127.0.0.1:1")


def ours(source: str, target: str) -> dict[str, Any]:
    """With everything on: order, three retries, a time limit for each attempt, backpressure, lossless rows."""
    from aiopipe import Fetch, Read, Write

    stage = Fetch(URL + "/users/{id}", into={"city": "$.address.city"}, concurrency=FLYING, retries=3, timeout="30s")
    report = (Read(source) | stage | Write(target)).run_sync()
    return {"correct": report.written == report.read}


def by_hand(source: str, target: str) -> dict[str, Any]:
    """As many tasks as requests in flight, one session, rows from csv, results in their places, one file at the end.

    Nothing is retried or timed, and all rows are in memory.
    """
    import aiohttp

    async def run() -> dict[str, Any]:
        with open(source, newline="") as file:  # noqa: ASYNC230 - nothing else runs yet
            header, *rows = csv.reader(file)
        at = header.index("id")
        cities: list[str] = [""] * len(rows)

        async def worker(todo: Iterator[tuple[int, list[str]]]) -> None:
            for i, row in todo:
                async with session.get(f"{URL}/users/{row[at]}") as response:
                    cities[i] = json.loads(await response.read())["address"]["city"]

        connector = aiohttp.TCPConnector(limit=FLYING)
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            todo = iter(enumerate(rows))
            async with asyncio.TaskGroup() as group:
                for _ in range(FLYING):
                    group.create_task(worker(todo))
        with open(target, "w", newline="") as file:  # noqa: ASYNC230 - nothing else runs any more
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*header, "city"])
            writer.writerows([*row, city] for row, city in zip(rows, cities, strict=True))
            file.flush()
            os.fsync(file.fileno())
        return {"correct": all(cities)}

    return asyncio.run(run())


def instant(source: str, target: str) -> dict[str, Any]:
    """What the engine costs for each enriched row: the function has the answer at once."""
    from aiopipe import Map, Read, Write

    async def enrich(row: dict[str, str]) -> dict[str, str]:
        row["city"] = "Turin"
        return row

    report = (Read(source) | Map(enrich, concurrency=FLYING) | Write(target)).run_sync()
    return {"correct": report.written == report.read, "rows": report.read}


def counted(function: Callable[[str, str], dict[str, Any]]) -> Callable[[str, str], dict[str, Any]]:
    """With the seconds of CPU that it took: on a busy machine they say more than the clock."""

    def run(source: str, target: str) -> dict[str, Any]:
        begun = time.process_time()
        answer = function(source, target)
        return {"cpu": time.process_time() - begun, **answer}

    return run


JOBS = {"fetch": counted(ours), "by-hand": counted(by_hand), "instant": counted(instant)}

if __name__ == "__main__":
    # Imported before the clock starts, as the other's are.
    import aiohttp  # noqa: F401

    if sys.argv[1] != "by-hand":
        import aiopipe.job.run
        import aiopipe.stages._enrich
        import aiopipe.stages._flow
        import aiopipe.stages._waiting
        import aiopipe.stages.fetch
        import aiopipe.stages.map
        import aiopipe.stages.read
        import aiopipe.stages.write  # noqa: F401
    serve(JOBS)
