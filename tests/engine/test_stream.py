"""Iterating a stream: the run goes on beside the loop's body, and ends when the block is left, however."""

import asyncio

import pytest

from aiopipe import Filter, From, Map, Read, RecordError
from tests.conftest import open_files, threads
from tests.support import drive, leaves, write


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "in.csv", "id\n" + "".join(f"{i}\n" for i in range(5000)))


def test_every_row_arrives_in_order_and_then_the_report(path):
    async def main():
        async with (Read(path, block=100) | Filter("id % 2 = 0")).stream() as rows:
            got = [int(row["id"]) async for row in rows]
        assert got == list(range(0, 5000, 2))
        assert rows.report.balanced
        assert (rows.report.read, rows.report.written) == (5000, 2500)

    drive(main)


def test_leaving_early_closes_everything_before_the_next_line(path):
    async def main():
        async with Read(path, block=100).stream() as rows:
            async for _ in rows:
                break
        assert path not in open_files().values()
        assert threads() == []
        assert len(asyncio.all_tasks()) == 1

    drive(main)


def test_never_iterating_is_leaving_early(path):
    async def main():
        async with Read(path, block=100).stream():
            await asyncio.sleep(0.05)
        assert threads() == []

    drive(main)


def test_an_exception_in_the_body_leaves_as_it_is(path):
    async def main():
        with pytest.raises(KeyError):
            async with Read(path, block=100).stream() as rows:
                async for _ in rows:
                    raise KeyError("mine")
        assert path not in open_files().values()

    drive(main)


def test_a_failure_of_the_run_arrives_where_rows_are_awaited(tmp_path):
    """After the rows that came before it."""
    path = write(tmp_path / "in.csv", "id,v\n" + "1,2\n" * 500 + "3\n")

    async def main():
        got = 0
        with pytest.raises(ExceptionGroup) as caught:
            async with Read(path, block=100).stream() as rows:
                async for _ in rows:
                    got += 1
        [error] = leaves(caught.value)
        assert isinstance(error, RecordError)
        assert error.position.record == 501
        return got

    assert 400 < drive(main) <= 500


def test_leaving_before_a_failure_is_no_failure(tmp_path):
    """As with `head`: what lies beyond what was wanted concerns nobody, however far ahead was read."""
    path = write(tmp_path / "in.csv", "id,v\n" + "1,2\n" * 50 + "3\n")

    async def main():
        async with Read(path, block=16).stream() as rows:
            async for _ in rows:
                await asyncio.sleep(0.05)
                break

    drive(main)


@pytest.mark.parametrize("turns", [0, 1, 5, 50])
def test_a_cancelled_consumer_takes_the_run_with_it(turns, path):
    async def main():
        async def consume():
            async with Read(path, block=100).stream() as rows:
                async for _ in rows:
                    await asyncio.sleep(0)

        task = asyncio.create_task(consume())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert threads() == []

    drive(main)


def test_a_slow_consumer_stops_the_source():
    given = 0

    def numbers():
        nonlocal given
        while True:
            given += 1
            yield given

    async def main():
        async with From(numbers(), size=1).stream() as rows:
            async for _ in rows:
                await asyncio.sleep(0.3)
                assert given < 50
                break

    drive(main)


def test_a_live_source_and_its_consumer_keep_step():
    """Each item arrives before the next one is made."""

    async def main():
        taken = asyncio.Queue()

        async def live():
            for i in range(5):
                yield i
                assert await taken.get() == i

        got = []
        async with (From(live(), size=1) | Map(lambda v: v)).stream() as rows:
            async for value in rows:
                got.append(value)
                taken.put_nowait(value)
        return got

    assert drive(main) == [0, 1, 2, 3, 4]


def test_an_async_source_is_closed_when_nobody_wants_more():
    from aiopipe import Collect, Head

    closed = []

    async def live():
        try:
            while True:
                yield 1
                await asyncio.sleep(0)
        finally:
            closed.append(True)

    report = drive(lambda: (From(live(), size=1) | Head(2) | Collect()).run())
    assert report.items == [1, 1]
    assert closed == [True]
