"""`write` to functions, stream writers and addresses: batches, backpressure, what is sent again and what is not."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aiopipe import From, Head, Map, OutputError, Read, Tee, UsageError, Write
from aiopipe.pipefile import dumps
from aiopipe.stages import _targets
from tests.engine.pieces import Numbers
from tests.servers import serving
from tests.support import drive, failure, leaves, tree, write

CSV = b'id,n\r\n007,1.10\r\n"a,b",2'


def same(row: dict[str, str]) -> dict[str, str]:
    return row


def test_a_function_gets_rows_in_batches(tmp_path: Path) -> None:
    write(tmp_path / "in.csv", "id,n\n" + "".join(f"00{i},{i}\n" for i in range(2500)))
    got: list[list[dict[str, str]]] = []

    async def save(rows: list[dict[str, str]]) -> None:
        got.append(rows)

    report = (Read(tmp_path / "in.csv", block=1024) | Write(save)).run_sync()
    assert [len(rows) for rows in got] == [1000, 1000, 500] and got[2][-1] == {"id": "002499", "n": "2499"}
    assert (report.written, report.balanced) == (2500, True)
    got.clear()
    # In a worker process rows are only made: the function, which could not be sent there, is called here.
    (Read(tmp_path / "in.csv") | Map(same, placement="process") | Head(5) | Write(save, batch=2)).run_sync(workers=1)
    assert [len(rows) for rows in got] == [2, 2, 1]
    (Read(tmp_path / "in.csv") | Map(same, placement="process") | Write(save, batch=2000)).run_sync(workers=1)


async def chunks(data: bytes) -> Any:
    yield data


def test_a_stream_can_pass_by_a_process_though_it_cannot_go_there() -> None:
    got: list[Any] = []

    async def save(rows: list[Any]) -> None:
        got.extend(rows)

    (Read(chunks(CSV)) | Map(same, placement="process") | Write(save)).run_sync(workers=1)
    assert [row["id"] for row in got] == ["007", "a,b"]


def test_a_function_gets_bytes_where_a_format_is_told(tmp_path: Path) -> None:
    write(tmp_path / "in/a.csv", CSV)
    write(tmp_path / "in/b.csv", CSV)
    got: list[bytes] = []

    async def save(data: bytes) -> None:
        assert type(data) is bytes
        got.append(data)

    report = (Read(tmp_path / "in") | Write(save, format="csv")).run_sync()
    assert b"".join(got) == CSV + b"\r\n" + CSV.partition(b"\r\n")[2]
    assert (report.written, report.bytes_written) == (4, len(b"".join(got)))


class Saver:
    """An object that can be called."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    async def __call__(self, items: list[Any]) -> None:
        self.items += items


def test_items_reach_a_function_as_they_are_none_included() -> None:
    saver = Saver()
    (From([None, 1, "x"]) | Tee(Write(saver), Write(saver, batch=1))).run_sync()
    assert sorted(map(str, saver.items)) == sorted(map(str, [None, 1, "x"] * 2))


def test_a_slow_function_holds_up_the_source() -> None:
    source = Numbers()

    async def main() -> None:
        begun = asyncio.Event()

        async def slow(items: list[Any]) -> None:
            begun.set()
            await asyncio.Event().wait()

        task = asyncio.create_task((source | Write(slow, batch=1)).run(workers=1))
        await begun.wait()
        for _ in range(2000):
            await asyncio.sleep(0)
        assert source.seen["given"] < 30
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    drive(main)


def test_a_function_that_raises_is_told_with_the_records(tmp_path: Path) -> None:
    path = write(tmp_path / "in.csv", "id\n" + "1\n" * 100)
    calls: list[int] = []

    async def save(rows: list[Any]) -> None:
        calls.append(len(rows))
        if len(calls) == 3:
            raise ValueError("full")

    error = failure(Read(path) | Write(save, batch=10))
    assert isinstance(error, OutputError) and isinstance(error.__cause__, ValueError)
    assert f"{path}: write: save raised ValueError: full (records 21 to 30 of the output" in str(error)
    assert calls == [10, 10, 10]


def test_a_stream_writer_gets_bytes_and_is_waited_for(tmp_path: Path) -> None:
    """The reader takes nothing until the source stands still, which it does long before its end."""
    write(tmp_path / "in.csv", "id,text\n" + "1,0123456789abcdef\n" * 400_000)
    got = b""

    async def main() -> None:
        nonlocal got
        ready, done = asyncio.Event(), asyncio.Event()

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal got
            await ready.wait()
            got = await reader.read()
            writer.close()
            done.set()

        server = await asyncio.start_server(take, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        task = asyncio.create_task((Read(tmp_path / "in.csv", block=65536) | Write(writer)).run())
        while writer.transport.get_write_buffer_size() == 0:  # noqa: ASYNC110 - a full socket makes no event
            await asyncio.sleep(0.001)
        assert not task.done()
        ready.set()
        report = await task
        assert report.bytes_written == (tmp_path / "in.csv").stat().st_size and not writer.is_closing()
        writer.close()
        await writer.wait_closed()
        await done.wait()
        server.close()
        await server.wait_closed()

    drive(main)
    assert got == (tmp_path / "in.csv").read_bytes()


# -- the web ----------------------------------------------------------------------------------------------------------


class Shop:
    """A server that keeps each batch under its key, and can be told how to fail."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.kept: dict[str, str] = {}
        self.keys: list[str] = []
        self.types: set[str] = set()

    async def __call__(self, request: web.Request) -> web.Response:
        key, body = request.headers["Idempotency-Key"], await request.text()
        self.keys.append(key)
        self.types.add(request.content_type)
        status = self.statuses.pop(0) if self.statuses else 201
        if status == 0:  # taken, but nobody hears of it
            self.kept[key] = body
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if status < 300:
            self.kept[key] = body
        return web.Response(status=status, text="no\nroom", headers={"Retry-After": "0"} if status == 429 else {})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_targets, "_WAIT", 0.001)


@pytest.mark.parametrize("statuses", [(), (500, 503), (429, 201, 429), (0, 201, 0)])
def test_every_record_is_sent_and_what_is_sent_again_has_its_key(quick: None, statuses: tuple[int, ...]) -> None:
    shop = Shop(*statuses)

    async def main() -> None:
        async with serving(shop) as url:
            pipeline = From([{"id": i} for i in range(25)]) | Write(f"{url}/rows?key=s3cret", batch=10)
            for _ in range(2):  # run again, the server knows every batch
                report = await pipeline.run()
                assert report.written == 25

    drive(main)
    rows = [json.loads(line)["id"] for body in shop.kept.values() for line in body.splitlines()]
    assert rows == list(range(25)) and len(shop.kept) == 3
    failed = sum(status not in (200, 201) for status in statuses)
    assert len(shop.keys) == 6 + failed and shop.types == {"application/x-ndjson"}


def test_records_are_sent_as_csv_where_that_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "in.csv", 'id,n\n007,"1.10"\n"a,b",2\n')
    shop = Shop()

    async def main() -> None:
        async with serving(shop) as url:
            await (Read(path) | Write(url, format="csv")).run()

    drive(main)
    assert list(shop.kept.values()) == ['id,n\n007,1.10\n"a,b",2\n'] and shop.types == {"text/csv"}


@pytest.mark.parametrize(
    ("statuses", "message", "requests"),
    [
        ((201, 400), "the server answered 400 Bad Request no room (records 11 to 20 of the output)", 2),
        ((201, *[503] * 9), "503 Service Unavailable no room after 5 attempts", 6),
        ((0,) * 9, "the connection failed", 5),
    ],
)
def test_a_server_that_refuses_ends_the_run(quick: None, statuses: Any, message: str, requests: int) -> None:
    shop = Shop(*statuses)

    async def main() -> None:
        async with serving(shop) as url:
            with pytest.raises(ExceptionGroup) as caught:
                await (From([{"id": i} for i in range(25)]) | Write(f"{url}/rows?key=s3cret", batch=10)).run()
            [error] = leaves(caught.value)
            assert isinstance(error, OutputError) and message in str(error)
            assert str(error).startswith(f"{url}/rows: write:") and "s3cret" not in str(error)

    drive(main)
    assert len(shop.keys) == requests


def test_what_nothing_can_be_written_to_is_refused() -> None:
    for to in (print, 3, "ftp://host/x", "s3://bucket/x"):
        with pytest.raises(UsageError):
            Write(to)
    with pytest.raises(UsageError, match="batch is 0"):
        Write("https://host/", batch=0)
    with pytest.raises(UsageError, match="Python object"):
        dumps(Read("x") | Write(Saver()))


def test_a_failing_branch_leaves_the_file_of_the_other_alone(tmp_path: Path) -> None:
    async def save(rows: list[Any]) -> None:
        raise ValueError("no")

    failure(From([1, 2]) | Tee(Write(save), Write(f"{tmp_path}/out.jsonl")))
    assert tree(tmp_path) == {}
