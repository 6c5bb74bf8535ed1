"""Functions with several calls at once, in the loop or in threads: bounded, in order, ended in time."""

import asyncio
import threading

import pytest

from aiopipe import Collect, From, Map, Read, WorkerError
from tests.faults.rows import CSV
from tests.support import drive, failure, write


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "in.csv", CSV)


def test_a_coroutine_that_hangs_is_ended_by_its_timeout(path, tmp_path):
    ended = []

    async def hang(row):
        if row["v"] == "3":
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(row["v"])
        return row

    pipeline = Read(path) | Map(hang, timeout=0.05) | Collect()
    found = failure(pipeline)
    assert isinstance(found, WorkerError)
    assert str(found).startswith(f"{path}:4 (record 3, byte 15): map: TimeoutError: no answer within 0.05 s")
    report = pipeline.run_sync(rejects=str(tmp_path / "rejects.csv"))
    assert [r["v"] for r in report.items] == ["1", "2", "4"]
    assert ended == ["3", "3"]


def test_a_function_that_cancels_itself_costs_its_row_only(path, tmp_path):
    async def suicidal(row):
        if row["v"] == "3":
            asyncio.current_task().cancel()
            await asyncio.sleep(0)
        return row

    pipeline = Read(path) | Map(suicidal) | Collect()
    assert "CancelledError" in str(failure(pipeline))
    report = pipeline.run_sync(rejects=str(tmp_path / "rejects.csv"))
    assert [r["v"] for r in report.items] == ["1", "2", "4"]


def test_no_more_calls_than_concurrency_are_ever_in_flight():
    flying, peak = 0, 0

    async def call(value):
        nonlocal flying, peak
        flying += 1
        peak = max(peak, flying)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        flying -= 1
        return value

    report = drive(lambda: (From(range(500), size=7) | Map(call, concurrency=5) | Collect()).run())
    assert report.items == list(range(500))
    assert peak == 5


def test_blocking_calls_run_in_as_many_threads_as_were_asked_for():
    """Three calls wait for each other; with fewer threads none would come back."""
    barrier = threading.Barrier(3)

    def meet(value):
        barrier.wait(10)
        return value

    report = (From(range(6)) | Map(meet, concurrency=3) | Collect()).run_sync()
    assert report.items == list(range(6))


@pytest.mark.parametrize("ordered", [True, False])
def test_calls_that_finish_out_of_order_leave_in_order_unless_told_otherwise(ordered):
    """The first call waits for the last one."""

    async def main():
        last = asyncio.Event()

        async def call(value):
            if value == 0:
                await last.wait()
            elif value == 3:
                last.set()
            return value

        stage = Map(call, concurrency=4, ordered=ordered)
        return await (From(range(4), size=1) | stage | Collect()).run()

    items = drive(main).items
    assert sorted(items) == [0, 1, 2, 3]
    assert (items == [0, 1, 2, 3]) is ordered


def test_a_result_does_not_wait_for_the_next_item_to_come():
    """A live source: it gives its second item only when the first one's result has arrived."""

    async def main():
        arrived = asyncio.Event()

        async def live():
            yield 1
            await arrived.wait()
            yield 2

        async def call(value):
            return value

        class Live:
            def __aiter__(self):
                return live()

        async with (From(Live(), size=1) | Map(call)).stream() as rows:
            got = []
            async for value in rows:
                got.append(value)
                arrived.set()
        return got

    assert drive(main) == [1, 2]


def test_thread_sensitive_calls_share_asgirefs_one_thread():
    """Even those of two stages."""
    seen = set()

    def call(value):
        seen.add(threading.get_ident())
        return value

    async def main():
        from asgiref.sync import sync_to_async

        stage = Map(call, thread_sensitive=True)
        await (From(range(3000), size=10) | stage | stage | Collect()).run(workers=4)
        seen.add(await sync_to_async(threading.get_ident, thread_sensitive=True)())

    drive(main)
    assert len(seen) == 1
