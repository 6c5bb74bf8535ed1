"""Asked to stop: what is in flight is finished and committed in time, or cancelled, and the next run goes on."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from aiopipe import Collect, Map, Read, StoppedError, Write
from aiopipe.job.stopping import within
from tests.support import drive, leaves, tree, write

CSV = "v\n" + "".join(f"{i}\n" for i in range(2000))


@pytest.mark.parametrize("to", ["all.csv", "out/"])
@pytest.mark.parametrize("block", [500, 1 << 20])
def test_asked_when_all_was_read_a_run_is_complete(to: str, block: int, tmp_path: Path) -> None:
    write(tmp_path / "in.csv", CSV)

    async def main() -> Any:
        stop = asyncio.Event()

        async def ask(row: dict[str, str]) -> dict[str, str]:
            if row["v"] == "1999":
                stop.set()
            return row

        pipeline = Read(tmp_path / "in.csv", block=block) | ask | Write(f"{tmp_path}/{to}")
        return await pipeline.run(stop=stop)

    report = drive(main)
    assert not report.interrupted
    assert (report.written, report.unfinished) == (2000, 0)
    assert (tmp_path / to / "in.csv" if to == "out/" else tmp_path / to).read_text() == CSV


@pytest.mark.parametrize("to", ["all.csv", "out/"])
def test_asked_in_the_midst_a_half_output_is_dropped(to: str, tmp_path: Path) -> None:
    write(tmp_path / "in/a.csv", CSV)
    write(tmp_path / "in/b.csv", CSV * 50)

    async def main() -> Any:
        stop = asyncio.Event()

        async def ask(row: dict[str, str]) -> dict[str, str]:
            stop.set()
            return row

        pipeline = Read(tmp_path / "in", block=500) | ask | Write(f"{tmp_path}/{to}")
        return await pipeline.run(stop=stop, memory="4MB")

    report = drive(main)
    assert report.interrupted
    assert report.balanced
    assert report.unfinished
    assert tree(tmp_path).keys() <= {"in/a.csv", "in/b.csv", "out/a.csv"}


def test_the_next_run_goes_on_with_what_was_committed(tmp_path: Path) -> None:
    for i in range(6):
        write(tmp_path / f"in/{i}.csv", CSV)

    async def same(row: dict[str, str]) -> dict[str, str]:
        return row

    async def main(stopping: bool) -> Any:
        stop = asyncio.Event()

        async def ask(row: dict[str, str]) -> dict[str, str]:
            if row["v"] == "1000":
                stop.set()
            return row

        pipeline = Read(tmp_path / "in", block=500) | Map(ask if stopping else same) | Write(f"{tmp_path}/out/")
        return await pipeline.run(stop=stop, memory="4MB")

    first = drive(lambda: main(True))
    assert first.interrupted
    done = len(tree(tmp_path / "out"))
    assert done < 6
    drive(lambda: main(False))
    assert tree(tmp_path / "out") == tree(tmp_path / "in")


@pytest.mark.parametrize("to", ["all.csv", "out/"])
def test_what_does_not_end_in_time_is_cancelled(to: str, tmp_path: Path) -> None:
    write(tmp_path / "in.csv", CSV)

    async def main() -> None:
        stop = asyncio.Event()

        async def hang(row: dict[str, str]) -> dict[str, str]:
            stop.set()
            await asyncio.sleep(3600)
            return row

        pipeline = Read(tmp_path / "in.csv") | hang | Write(f"{tmp_path}/{to}")
        await pipeline.run(stop=stop, shutdown_timeout="100ms")

    begun = time.monotonic()
    with pytest.raises(BaseException) as caught:
        drive(main)
    [error] = leaves(caught.value)
    assert isinstance(error, StoppedError)
    assert "within 0.1 s" in str(error)
    assert "--shutdown-timeout" in str(error)
    assert time.monotonic() - begun < 15
    assert tree(tmp_path).keys() == {"in.csv"}


def test_a_run_that_nobody_asks_to_stop_has_all_the_time(tmp_path: Path) -> None:
    path = write(tmp_path / "in.csv", CSV)

    async def main() -> Any:
        return await (Read(path) | Collect()).run(stop=asyncio.Event(), shutdown_timeout=0.001)

    assert drive(main).written == 2000


def test_a_caller_that_is_cancelled_leaves_when_the_work_has_ended() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async def main() -> None:
        task = asyncio.ensure_future(within(work(), asyncio.Event(), 1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [True]

    drive(main)
