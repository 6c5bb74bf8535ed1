"""Watching as a guest of a running loop: told by callbacks, stopped by an event, cancelled, locked out."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from aiopipe import Head, LockedError, Map, Pipeline, Read, Select, UsageError, Write
from aiopipe.job.destination import lock_path
from aiopipe.job.lock import Lock
from aiopipe.job.report import Report
from tests.engine.pieces import forever
from tests.support import drive, leaves, write

pytest.importorskip("watchfiles")
GOOD = "id,name\n1,ada\n2,bob\n"


def names(place: Path, *more: Any) -> Pipeline:
    return Read(place / "in") | Select("name") | Write(f"{place}/out/")


def test_a_service_watches_until_its_event_is_set(tmp_path: Path):
    write(tmp_path / "in/a.csv", GOOD)

    async def main() -> Any:
        stop, news = asyncio.Event(), asyncio.Queue[Any]()
        watching = asyncio.create_task(names(tmp_path).watch(settle=0.2, stop=stop, told=news.put_nowait))
        first = await news.get()
        write(tmp_path / "in/b.csv", "id,name\n1\n")
        second = await news.get()
        write(tmp_path / "in/c.csv", GOOD)
        third = await news.get()
        stop.set()
        return first, second, third, await watching

    first, second, third, watched = drive(main, within=60)
    assert isinstance(first, Report) and first.files == 1
    assert [type(e).__name__ for e in leaves(second)] == ["RecordError"]
    assert isinstance(third, Report) and third.written == 2
    assert (watched.rounds, watched.files, watched.written) == (2, 2, 4)
    assert watched.failed == [f"{tmp_path}/in/b.csv"] and watched.unfinished == []


def test_a_cancelled_watch_ends_with_its_round_and_its_threads(tmp_path: Path):
    write(tmp_path / "in/a.csv", GOOD)

    async def main() -> None:
        begun = asyncio.Event()

        async def waits(row: Any) -> Any:
            begun.set()
            await forever()

        watching = asyncio.create_task(
            (Read(tmp_path / "in") | Map(waits) | Write(f"{tmp_path}/out/")).watch(settle=0.2)
        )
        await begun.wait()
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching

    drive(main, within=60)
    assert not (tmp_path / "out/a.csv").exists()


def test_a_destination_that_another_run_holds_is_waited_for(tmp_path: Path):
    """Told once, no file blamed, and done when the other one lets go."""
    write(tmp_path / "in/a.csv", GOOD)
    write(tmp_path / "in/b.csv", GOOD)
    names(tmp_path).run_sync()
    write(tmp_path / "in/a.csv", "id,name\n3,eve\n")
    lock = Lock(lock_path(f"{tmp_path}/out"), f"{tmp_path}/out")

    async def main() -> Any:
        stop, news = asyncio.Event(), asyncio.Queue[Any]()
        watching = asyncio.create_task(names(tmp_path).watch(settle=0.2, stop=stop, told=news.put_nowait))
        locked = await news.get()
        lock.close()
        done = await news.get()
        stop.set()
        return locked, done, await watching

    locked, done, watched = drive(main, within=60)
    assert isinstance(locked, LockedError)
    assert isinstance(done, Report) and (done.files, done.unchanged) == (1, 1)
    assert watched.failed == [] and (tmp_path / "out/a.csv").read_text() == "name\neve\n"


def test_in_worker_processes_as_well(tmp_path: Path):
    """The source that leaves files out is not what travels to them."""
    write(tmp_path / "in/a.csv", GOOD)

    async def main() -> Any:
        stop = asyncio.Event()
        from tests.guest.functions import whose

        pipeline = Read(tmp_path / "in") | Map(whose, placement="process") | Select("name") | Write(f"{tmp_path}/out/")
        return await pipeline.watch(settle=0.2, stop=stop, told=lambda _: stop.set())

    assert drive(main, within=60).written == 2


def test_a_job_that_is_one_unit_is_made_again_with_each_arrival(tmp_path: Path):
    write(tmp_path / "in/b.csv", GOOD)

    async def main() -> Any:
        stop, news = asyncio.Event(), asyncio.Queue[Any]()
        pipeline = Read(tmp_path / "in") | Head(3) | Write(f"{tmp_path}/out/")
        watching = asyncio.create_task(pipeline.watch(settle=0.2, stop=stop, told=news.put_nowait))
        await news.get()
        write(tmp_path / "in/a.csv", GOOD)
        await news.get()
        stop.set()
        return await watching

    assert drive(main, within=60).failed == []
    assert (tmp_path / "out/b.csv").read_text() == "id,name\n1,ada\n"


def test_watchfiles_that_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    write(tmp_path / "in/a.csv", GOOD)
    with pytest.raises(UsageError, match="watchfiles is not installed"):
        asyncio.run(names(tmp_path).watch())


def test_with_keep_going_a_round_makes_all_other_files_and_is_counted(tmp_path: Path):
    for name in "abc":
        write(tmp_path / f"in/{name}.csv", GOOD if name != "b" else "id,name\n1\n")

    async def main() -> Any:
        stop, news = asyncio.Event(), asyncio.Queue[Any]()
        watching = asyncio.create_task(
            names(tmp_path).watch(settle=0.2, stop=stop, told=news.put_nowait, keep_going=True)
        )
        assert isinstance(await news.get(), ExceptionGroup)
        assert (await news.get()).written == 4
        stop.set()
        return await watching

    watched = drive(main, within=60)
    assert watched.failed == [f"{tmp_path}/in/b.csv"] and watched.written == 4
