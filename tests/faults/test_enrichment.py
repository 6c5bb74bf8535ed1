"""Enrichment cancelled at random moments, over a service at its worst: nothing is left, lost or counted twice.

AIOPIPE_SEEDS says how many moments are tried (`AIOPIPE_SEEDS=1000 pytest tests/faults/test_enrichment.py`).
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiopipe import Fetch, Map, Read, Retry, Write
from tests.conftest import PROC, open_files
from tests.hostile import HANG, RESET, Asked, Reply, Server, error, ok
from tests.support import drive, write

SEEDS = int(os.environ.get("AIOPIPE_SEEDS", "24"))
ROWS = 40
TROUBLE = [
    RESET,
    HANG,
    error(429, "later", Retry_After="0"),
    error(500, "oops"),
    Reply(200, b'{"said": "', how="truncated"),
    Reply(200, b'{"said": "x"}' + b" " * 2000, how="loris"),
    Reply(200, b'{"said": "' + b"x" * 600_000 + b'"}', how="chunked"),
]


class Service:
    """One that answers well in the end: what is asked often enough is answered."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.calm = False
        self.sent: dict[str, set[str]] = {}

    def __call__(self, asked: Asked) -> Reply:
        record = asked.path.rpartition("/")[2]
        self.sent.setdefault(record, set()).add(asked.headers["idempotency-key"])
        if not self.calm and self.random.random() < 0.3:
            return self.random.choice(TROUBLE)
        return Reply(200, ok({"said": f"r{record}"}).body, wait=self.random.random() * 0.01)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(lambda asked: ok({})) as running:
        yield running


def sockets() -> int:
    """Connections of this process that lead to somewhere; a loop's own pipes are gone with their loop."""
    if not PROC.exists():
        return 0
    found = 0
    for name in os.listdir(PROC / "fd"):
        try:
            found += os.readlink(PROC / "fd" / name).startswith("socket:")
        except OSError:
            continue
    return found


def settled_at(count: int, server: Server) -> int:
    """How many sockets there are, when the server has seen that its clients have gone."""
    until = time.monotonic() + 5
    while (sockets() != count or server.open) and time.monotonic() < until:
        gc.collect()
        time.sleep(0.005)
    return sockets()


def outcome(place: Path) -> str | None:
    path = place / "out.csv"
    return path.read_text() if path.exists() else None


def complete(text: str, seed: int) -> bool:
    """Every record is there once, with what one of the good answers said (a large one says nothing but x)."""
    header, *lines = text.splitlines()
    good = [line in (f"{seed}-{i},r{seed}-{i}", f"{seed}-{i},{'x' * 600_000}") for i, line in enumerate(lines)]
    return header == "id,said" and len(good) == ROWS and all(good)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_run_cancelled_at_any_moment_leaves_nothing_and_the_next_one_completes_it(
    seed: int, server: Server, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    service = Service(seed)
    server.script = service
    path = write(tmp_path / "in.csv", "id\n" + "".join(f"{seed}-{i}\n" for i in range(ROWS)))
    stage = Fetch(
        server.url + "/{id}",
        method="POST",
        into={"said": "$.said?"},
        concurrency=chance.choice([1, 4, 16]),
        ordered=chance.random() < 0.5,
        timeout=0.15,
        retries=Retry(attempts=60, backoff=0.001, max_backoff=0.01),
        rate_limit=chance.choice([None, "2000/s"]),
        cache=str(tmp_path / "answers.db"),
    )
    pipeline = Read(path) | stage | Write(f"{tmp_path}/out.csv")
    before = sockets(), set(threading.enumerate()), open_files()

    async def main() -> None:
        running = asyncio.create_task(pipeline.run())
        await asyncio.sleep(chance.random() ** 2 * 0.25)
        running.cancel()
        await asyncio.wait([running])

    drive(main)
    assert settled_at(before[0], server) == before[0]
    assert not set(threading.enumerate()) - before[1]  # one of the test before may end meanwhile
    assert open_files() == before[2]
    done = outcome(tmp_path)
    assert done is None or complete(done, seed)
    service.calm = True
    report = pipeline.run_sync()
    assert report.read == report.written == ROWS
    assert settled_at(before[0], server) == before[0]
    assert complete(outcome(tmp_path) or "", seed)
    assert all(len(keys) == 1 for keys in service.sent.values())
    assert len(set().union(*service.sent.values())) == len(service.sent) == ROWS


@pytest.mark.parametrize("seed", range(SEEDS))
def test_calls_of_a_function_that_are_cancelled_at_any_moment_all_end(seed: int, tmp_path: Path) -> None:
    """Those of an async def that fails now and then, with everything that makes it wait."""
    chance = random.Random(seed)
    path = write(tmp_path / "in.csv", "id\n" + "".join(f"{i}\n" for i in range(600)))
    begun = ended = 0

    async def function(row: dict[str, str]) -> dict[str, str]:
        nonlocal begun, ended
        begun += 1
        try:
            await asyncio.sleep(chance.random() * 0.004)
            if chance.random() < 0.1:
                raise ConnectionResetError
            return {**row, "n": "1"}
        finally:
            ended += 1

    stage: Any = Map(
        function,
        concurrency=chance.choice([1, 8, 64]),
        ordered=chance.random() < 0.5,
        timeout=1,
        retries=Retry(attempts=9, backoff=0.001, max_backoff=0.004),
        rate_limit=chance.choice([None, "5000/s"]),
        breaker=chance.choice([None, "failures=3,wait=2ms,probes=1000"]),
    )

    async def main() -> None:
        running = asyncio.create_task((Read(path) | stage | Write(f"{tmp_path}/out.csv")).run())
        await asyncio.sleep(chance.random() * 0.1)
        running.cancel()
        await asyncio.wait([running])

    drive(main)
    assert begun == ended
    assert outcome(tmp_path) in (None, "id,n\n" + "".join(f"{i},1\n" for i in range(600)))


def test_a_task_that_is_left_behind_would_be_seen() -> None:
    """The harness can fail: a call that starts a task and forgets it."""
    left: list[asyncio.Task[None]] = []

    async def forgets(row: dict[str, str]) -> dict[str, str]:
        left.append(asyncio.create_task(asyncio.sleep(60)))
        return row

    from aiopipe import Collect, From

    with pytest.raises(AssertionError, match="tasks left behind"):
        drive(lambda: (From([1]) | Map(forgets) | Collect()).run())


def test_a_key_that_changes_would_be_seen() -> None:
    service = Service(0)
    for key in ("a", "b"):
        service(Asked("POST", "/1", {"idempotency-key": key}, b"", 0, 0))
    assert any(len(keys) != 1 for keys in service.sent.values())
