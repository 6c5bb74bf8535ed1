"""Parts of rows for calls in the loop: larger while calls are quick, and no record lost or moved by it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopipe import Map, Read, Write
from aiopipe.codec.encode import encode
from aiopipe.stages._calls import SLICE
from aiopipe.stages._flow import Pace, Work
from aiopipe.stages._ranges import slices
from tests.stages.test_rows import bundle_of


async def nothing(_: Any) -> Any:
    raise NotImplementedError


def pace(limit: int, most: int = 1024) -> Pace:
    return Pace(Work("map", nothing, limit, True, nothing, nothing, most))


def test_parts_grow_while_calls_are_quick_and_shrink_when_they_are_not() -> None:
    one = pace(16)
    sizes = [one.size()]
    for seconds in (0.001, 0.001, 0.001, 1.0, 1.0, 1.0):
        one.took(one.size(), seconds)
        sizes.append(one.size())
    assert sizes == [256, 512, 1024, 1024, 512, 256, 256]


def test_a_short_part_says_nothing_of_longer_ones() -> None:
    one = pace(16)
    one.took(10, 0.0)
    assert one.size() == SLICE


@pytest.mark.parametrize(("limit", "largest"), [(1, 1024), (2, 256), (4, 512), (8, 1024), (64, 1024)])
def test_two_parts_are_never_more_than_calls_may_get_ahead(limit: int, largest: int) -> None:
    one = pace(limit)
    for _ in range(10):
        one.took(one.size(), 0.0)
    assert one.size() == largest


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.integers(0, 9), max_size=6), st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_slices_of_changing_sizes_hold_every_record_once_and_in_order(counts: list[int], sizes: list[int]) -> None:
    files = [b"".join(b"%d,%d,x\n" % (f, i) for i in range(count)) for f, count in enumerate(counts)]
    batch, asked = bundle_of(*files), iter(sizes * 100)
    parts = list(slices(batch, lambda: next(asked)))
    written: dict[int, bytes] = {}
    for part in parts:
        for segment, body in zip(part.segments, encode(part).bodies, strict=True):
            written[segment.file.index] = written.get(segment.file.index, b"") + bytes(body)
    assert {i: data for i, data in written.items() if data} == {i: data for i, data in enumerate(files) if data}


@pytest.mark.parametrize("concurrency", [1, 16])
def test_quick_calls_and_slow_ones_leave_in_the_order_of_the_input(tmp_path: Path, concurrency: int) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("a,b\n" + "".join(f"{i},x\n" for i in range(5000)))

    async def call(row: dict[str, str]) -> dict[str, str]:
        if row["a"] in ("300", "3000"):
            await asyncio.sleep(0.05)
        return {**row, "b": row["a"]}

    report = (Read(str(source)) | Map(call, concurrency=concurrency) | Write(str(target))).run_sync()
    assert report.written == 5000
    assert target.read_text() == "a,b\n" + "".join(f"{i},{i}\n" for i in range(5000))
