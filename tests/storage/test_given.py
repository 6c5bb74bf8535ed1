"""`Read(stream)`: stream readers, async iterables of bytes, rows; errors with their place, nothing left open."""

from __future__ import annotations

import asyncio
import datetime
import decimal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopipe import Collect, Filter, Head, InputError, Merge, Read, RecordError, UsageError, Write
from aiopipe.pipefile import dumps
from tests.support import drive, failure, tree

CSV = b'id,n\r\n007,1.10\r\n"a\r\nb",2\r\n'


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for i in range(0, len(data), size):
        yield data[i : i + size]


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 40), block=st.integers(64, 200))
def test_bytes_in_any_pieces_leave_as_they_came(
    tmp_path_factory: pytest.TempPathFactory, size: int, block: int
) -> None:
    out = tmp_path_factory.mktemp("out") / "out.csv"
    data = CSV * 1 + b"".join(b"%03d,%d\r\n" % (i, i) for i in range(40))
    report = (Read(pieces(data, size), block=block) | Filter("n >= 0") | Write(out)).run_sync()
    assert out.read_bytes() == data and report.read == 42


def test_a_stream_reader_is_read_and_stays_open(tmp_path: Path) -> None:
    async def main() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(CSV)
        task = asyncio.create_task((Read(reader) | Write(f"{tmp_path}/out.csv")).run())
        await asyncio.sleep(0)
        reader.feed_data(b"9,9\r\n")
        reader.feed_eof()
        report = await task
        assert report.read == 3

    drive(main)
    assert (tmp_path / "out.csv").read_bytes() == CSV + b"9,9\r\n"


def test_a_socket_is_a_stream_like_any_other() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CSV)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        report = await (Read(reader) | Collect()).run()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        assert [row["id"] for row in report.items] == ["007", "a\r\nb"]

    drive(main)


ROWS: list[dict[str, Any]] = [
    {"id": "007", "n": 0.1, "when": datetime.date(2026, 1, 2), "ok": True, "none": None},
    {"none": "", "id": 'a,"b"', "n": decimal.Decimal("1.10"), "when": "two\nlines", "ok": False},
]
AS_CSV = b'id,n,when,ok,none\n007,0.1,2026-01-02,true,\n"a,""b""",1.10,"two\nlines",false,\n'


async def later(rows: list[Any]) -> AsyncIterator[Any]:
    for row in rows:
        await asyncio.sleep(0)
        yield row


@pytest.mark.parametrize("make", [list, tuple, iter, later, lambda rows: (row for row in rows)])
def test_rows_become_records(tmp_path: Path, make: Any) -> None:
    report = (Read(make(ROWS)) | Write(f"{tmp_path}/out.csv")).run_sync()
    assert (tmp_path / "out.csv").read_bytes() == AS_CSV and report.read == 2


def test_rows_take_part_in_expressions() -> None:
    rows = ({"id": i, "n": i / 2} for i in range(5000))
    report = (Read(rows) | Filter("n > 2499") | Collect()).run_sync()
    assert report.items == [{"id": "4999", "n": "2499.5"}] and report.read == 5000


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (later(["text"]), "<async_generator> (byte 0): read: it gave str, neither bytes nor a row"),
        (later([b"id\n1\n", {"id": 1}]), "(byte 5): read: it gave rows after bytes"),
        (later([{"id": 1}, b"x"]), "(record 2): read: it gave bytes, neither"),
        ([{"id": 1}, {"id": 2, "x": 3}], "(record 2): read: a row has the columns id, x; the first had id"),
        ([{"id": 1}, {"di": 2}], "(record 2): read: a row has the columns di"),
        ([{"id": b"x"}], "(record 1): read: column 'id' holds bytes in record 1"),
        ([{1: 2}], "a row has the columns [1]"),
        ([{"id": "\ud800"}], "which UTF-8 cannot hold"),
    ],
)
def test_what_is_no_record_is_told_with_its_place(value: Any, message: str) -> None:
    error = failure(Read(value) | Collect())
    assert isinstance(error, (InputError, RecordError)) and message in str(error)


def test_an_error_at_item_5_of_10_surfaces() -> None:
    """And what came before it has come through."""
    seen: list[Any] = []

    async def ten() -> AsyncIterator[Any]:
        for i in range(10):
            if i == 5:
                raise ValueError("five")
            yield {"id": i}

    def see(row: dict[str, str]) -> dict[str, str]:
        seen.append(row["id"])
        return row

    error = failure(Read(ten()) | see | Collect())
    assert "(record 6): read: ValueError: five" in str(error) and isinstance(error.__cause__, ValueError)
    assert seen == ["0", "1", "2", "3", "4"]


def test_an_early_break_closes_the_generator_and_leaves_no_task() -> None:
    closed: list[str] = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            yield b"id\n"
            while True:
                await asyncio.sleep(0)
                yield b"1\n"
        finally:
            closed.append("bytes")

    def rows() -> Iterator[dict[str, int]]:
        try:
            while True:
                yield {"id": 1}
        finally:
            closed.append("rows")

    async def main() -> None:
        for source in (Read(endless()), Read(rows())):
            async with source.stream() as found:
                async for row in found:
                    assert row == {"id": "1"}
                    break
        await (Read(endless()) | Head(3) | Collect()).run()

    drive(main)
    assert closed == ["bytes", "rows", "bytes"]


def test_a_consumer_that_is_cancelled_cancels_the_run() -> None:
    closed, silent = asyncio.Event(), asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            yield b"id\n1\n"
            silent.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def main() -> None:
        async def consume() -> None:
            async with (Read(endless()) | Filter("id > 0")).stream() as rows:
                async for _ in rows:
                    pass

        task = asyncio.create_task(consume())
        await silent.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert closed.is_set()

    drive(main)


def test_a_source_and_a_stage_in_threads_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """One worker: were the files' threads those of the functions, neither could go on."""
    for i in range(20):
        (tmp_path / f"{i}.csv").write_text("id\n" + "1\n" * 200)
    report = drive(lambda: (Read(tmp_path, block=64) | (lambda row: row) | Collect()).run(workers=1))
    assert report.read == 4000


def test_two_streams_of_one_type_are_two_inputs() -> None:
    sources = (Read(pieces(b"id\n%d\n" % i, 3)) for i in range(3))
    report = (Merge(*sources) | Filter("id >= 0") | Collect()).run_sync()
    assert [row["id"] for row in report.items] == ["0", "1", "2"]


def test_a_stream_shows_itself_equals_itself_and_stands_in_no_file(tmp_path: Path) -> None:
    stream = pieces(CSV, 5)
    pipeline = Read(stream, null="NA") | Write(f"{tmp_path}/out/")
    assert "async_generator object pieces" in repr(pipeline) and "null='NA'" in repr(pipeline)
    assert Read(stream) == Read(stream) != Read(pieces(CSV, 5))
    with pytest.raises(UsageError, match="Python object"):
        dumps(pipeline)
    pipeline.run_sync()
    assert tree(tmp_path / "out") == {"stream.csv": CSV}
