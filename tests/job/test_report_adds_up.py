"""The report's numbers add up, for records and for items, for few and for more than came in."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aiopipe import Collect, Find, From, Head, Pipeline, Skip
from tests.support import shown


async def twice(rows: AsyncIterator[object]) -> AsyncIterator[object]:
    async for row in rows:
        yield row
        yield row


def same(item: object) -> object:
    return item


@pytest.mark.parametrize(
    ("pipeline", "numbers"),
    [
        (From(range(10)) | same | Head(3) | Collect(), (10, 0, 3, 7)),
        (From(range(10)) | Skip(4) | Collect(), (10, 0, 6, 4)),
        (From(range(5)) | twice | Collect(), (5, 5, 10, 0)),
        (From([]) | Collect(), (0, 0, 0, 0)),
    ],
    ids=shown,
)
def test_items_read_and_added_are_items_written_and_filtered(
    pipeline: Pipeline, numbers: tuple[int, int, int, int]
) -> None:
    report = pipeline.run_sync()
    assert (report.read, report.added, report.written, report.filtered) == numbers
    assert report.balanced


def test_files_found_are_counted_as_read(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text("x")
    report = (Find(tmp_path) | Collect()).run_sync()
    assert (report.read, report.written, report.balanced) == (2, 2, True)


def test_what_a_generator_adds_is_told() -> None:
    report = (From(range(5)) | twice | Collect()).run_sync()
    assert "5 records read + 5 added = 10 written" in str(report)
