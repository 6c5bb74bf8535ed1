"""`batch` and `unbatch`: every item once, in order, whatever the limits; numbers add up; time completes a batch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopipe import Batch, Collect, From, FunctionError, Head, Read, Tee, Unbatch, UsageError
from aiopipe.fuse import apart, fuse
from aiopipe.job.run import run
from tests.support import drive, failure, write


@pytest.mark.parametrize("fusing", [fuse, apart])
@settings(max_examples=40, deadline=None)
@given(
    items=st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=5)), max_size=60),
    count=st.one_of(st.none(), st.integers(1, 9)),
    size=st.one_of(st.none(), st.integers(1, 30)),
    together=st.integers(1, 20),
)
def test_batches_hold_every_item_once_in_order(
    fusing: Any, items: list[Any], count: int | None, size: int | None, together: int
) -> None:
    if count is None and size is None:
        count = 4
    source = From(items, size=together) | Batch(count, bytes=size)
    report = drive(lambda: run(source | Tee(Collect(), Unbatch() | Collect()), fusing=fusing))
    batches, single = report.branches
    assert single.items == items == [item for batch in batches.items for item in batch]
    assert all(batches.items) and report.balanced and (report.filtered, report.added) == (0, 0)
    if count is not None:
        assert all(len(batch) <= count for batch in batches.items)
    if count is not None and size is None:
        assert all(len(batch) == count for batch in batches.items[:-1])
    if size is not None:
        weights = [[len(v) if isinstance(v, str) else len(str(v)) for v in batch] for batch in batches.items]
        assert all(sum(w) <= size or len(w) == 1 for w in weights)


def test_records_become_rows_and_a_function_gets_many(tmp_path: Path) -> None:
    path = write(tmp_path / "in.csv", "id,n\n" + "".join(f"00{i},{i}\n" for i in range(250)))
    sizes: list[int] = []

    async def ask(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        sizes.append(len(rows))
        return [{**row, "asked": "yes"} for row in rows]

    report = (Read(path, block=256) | Batch(100) | ask | Unbatch() | Collect()).run_sync()
    assert sizes == [100, 100, 50] and report.items[249] == {"id": "00249", "n": "249", "asked": "yes"}
    assert (report.read, report.written, report.grouped, report.balanced) == (250, 250, 0, True)


def test_what_stands_in_batches_is_told() -> None:
    report = (From(range(10)) | Batch(4) | Collect()).run_sync()
    assert report.items == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert (report.grouped, report.balanced) == (7, True) and "3 written + 0 filtered + 0 rejected + 7 within" in str(
        report
    )
    report = (From([[1, 2, 3], (4,), range(2)]) | Unbatch() | Collect()).run_sync()
    assert (report.items, report.grouped, report.balanced) == ([1, 2, 3, 4, 0, 1], -3, True)


def test_a_batch_is_given_when_its_time_is_over() -> None:
    """The source goes on only when the first batch, which is not full, has arrived: else this would never end."""
    arrived = asyncio.Event()

    async def slow() -> AsyncIterator[int]:
        for i in range(64):  # as many as travel together
            yield i
        await arrived.wait()
        yield 64

    async def see(batch: list[int]) -> list[int]:
        arrived.set()
        return batch

    report = drive(lambda: (From(slow()) | Batch(1000, within="50ms") | see | Collect()).run())
    assert report.items == [list(range(64)), [64]]


def test_a_batch_that_waits_holds_up_no_end() -> None:
    async def never() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task((From(never()) | Batch(2, within="1h") | Collect()).run())
        for _ in range(50):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        report = await (From(range(10**6)) | Batch(3) | Head(2) | Collect()).run()
        assert report.items == [[0, 1, 2], [3, 4, 5]]

    drive(main)


def test_an_error_behind_a_full_batch_surfaces() -> None:
    got: list[Any] = []

    async def ten() -> AsyncIterator[int]:
        for i in range(10):
            if i == 5:
                raise ValueError("five")
            yield i

    with pytest.raises(ExceptionGroup) as caught:
        drive(lambda: (From(ten(), size=1) | Batch(2, within="1h") | got.append | Collect()).run())
    assert caught.group_contains(ValueError, match="five")
    assert got == [[0, 1], [2, 3]]


@pytest.mark.parametrize("make", [lambda: Batch(), lambda: Batch(0), lambda: Batch(bytes=0), lambda: Batch(within=0)])
def test_a_batch_without_a_limit_is_refused(make: Any) -> None:
    with pytest.raises(UsageError):
        make()


@pytest.mark.parametrize("item", ["text", b"bytes", {"a": 1}, 3])
def test_what_is_no_batch_is_not_taken_apart(item: Any) -> None:
    assert isinstance(failure(From([item]) | Unbatch() | Collect()), FunctionError)
