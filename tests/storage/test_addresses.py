"""`read https://...` and `read sqlite:///...`: bounded, closed where nobody wants more, faults with their place."""

from __future__ import annotations

import asyncio
import gzip
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aiopipe import AiopipeError, Collect, Filter, Head, InputError, Merge, Read, RecordError, Tee, UsageError, Write
from aiopipe.storage.urls import is_url, name_of, shown_url
from tests.servers import saying, serving
from tests.support import drive, failure, leaves, tree, write

CSV = b'id,n\r\n007,1.10\r\n"a,b",2\r\n'


def one(pipeline: Any, **job: Any) -> Any:
    """A coroutine: the only error of a run."""

    async def main() -> AiopipeError:
        with pytest.raises(ExceptionGroup) as caught:
            await pipeline.run(**job)
        [error] = leaves(caught.value)
        assert isinstance(error, AiopipeError), repr(error)
        return error

    return main()


# -- the web ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_what_a_server_gives_leaves_as_the_bytes_it_came_in(tmp_path: Path, packed: bool) -> None:
    async def answer(request: web.Request) -> web.Response:
        headers = {"Content-Encoding": "gzip"} if packed else {}
        return web.Response(body=gzip.compress(CSV) if packed else CSV, headers=headers)

    async def main() -> None:
        async with serving(answer) as url:
            report = await (Read(f"{url}/dir/x.csv?key=1") | Filter("n > 0") | Write(f"{tmp_path}/out/")).run()
        assert (report.read, report.written, report.bytes_read) == (2, 2, len(CSV) - len("id,n\r\n"))

    drive(main)
    assert tree(tmp_path / "out") == {"x.csv": CSV}


def test_headers_are_sent_and_secrets_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "Bearer s3cret")
    seen: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.headers["Authorization"], request.headers["Accept"]))
        return web.Response(body=CSV)

    async def main() -> None:
        async with serving(answer) as url:
            read = Read(f"{url}/x", headers={"Authorization": "env:TOKEN", "Accept": "text/csv"})
            assert "s3cret" not in repr(read)
            await (read | Collect()).run()
            error = await one(Read(f"{url}/x", headers={"Authorization": "env:NOTOKEN"}) | Collect())
            assert isinstance(error, UsageError) and "NOTOKEN is not set" in str(error)

    drive(main)
    assert seen == [("Bearer s3cret", "text/csv")]


def test_a_server_waits_while_nobody_takes_what_it_gives() -> None:
    """Of 400 MB only what buffers hold is ever sent, and the connection is closed as soon as `head` has enough."""
    sent, closed = 0, asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"id\n")
        try:
            for _ in range(400):
                await response.write(b"0123456789abcde\n" * 65536)
                sent += 1
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            closed.set()
        return response

    async def main() -> None:
        async with serving(answer) as url:
            report = await (Read(f"{url}/big.csv") | Head(3) | Collect()).run(memory="8MB")
            assert len(report.items) == 3
            await asyncio.wait_for(closed.wait(), 10)

    drive(main)
    assert sent < 60


def test_leaving_a_stream_early_closes_the_connection_and_leaves_no_task() -> None:
    closed = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"id\n" + b"1\n" * 1000)
                await asyncio.sleep(0)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            closed.set()
        return response

    async def main() -> None:
        async with serving(answer) as url:
            async with Read(f"{url}/endless").stream() as rows:
                async for row in rows:
                    assert row == {"id": "1"}
                    break
            await asyncio.wait_for(closed.wait(), 10)

    drive(main)


@pytest.mark.parametrize(
    ("answer", "then", "message"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "close", "answered 404 Not Found"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nid\n1\n2\n",
            "close",
            "(byte 7): read: the connection failed",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nid\n1\n2\n",
            "reset",
            "(byte 7): read: the connection failed",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nid\n1\n\r\nzz", "close", "Invalid character"),
        (b"nonsense\r\n\r\n", "close", "no answer"),
    ],
)
def test_a_server_that_fails_is_told_with_the_place(tmp_path: Path, answer: bytes, then: str, message: str) -> None:
    async def main() -> None:
        async with saying(answer, then=then) as url:
            error = await one(Read(f"{url}/x.csv?secret=1") | Write(f"{tmp_path}/out.csv"))
            assert isinstance(error, InputError) and message in str(error)
            assert f"{url}/x.csv" in str(error) and "secret" not in str(error)

    drive(main)
    assert tree(tmp_path) == {}


def test_a_server_that_says_nothing_holds_up_no_end() -> None:
    """Cancelled, and asked to stop, while the server hangs in the middle of a body."""

    async def main() -> None:
        async with saying(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nid\n1\n2\n", then="hang") as url:
            first = asyncio.Event()

            async def seen(row: Any) -> Any:
                first.set()
                return row

            pipeline = Read(f"{url}/x.csv") | seen | Collect()
            task = asyncio.create_task(pipeline.run())
            await first.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            first.clear()
            stop = asyncio.Event()
            task = asyncio.create_task(pipeline.run(stop=stop))
            await first.wait()
            stop.set()
            report = await task
            assert report.interrupted and report.read == 2

    drive(main)


def test_a_bad_record_of_a_server_has_its_place() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=b"id,n\n" + b"1,2\n" * 300_000 + b"1,2,3\n")

    async def main() -> None:
        async with serving(answer) as url:
            error = await one(Read(f"{url}/x.csv") | Collect())
            assert isinstance(error, RecordError)
            assert str(error.position) == f"{url}/x.csv:300002 (record 300001, byte 1200005)"

    drive(main)


def test_the_same_address_with_two_keys_is_two_inputs() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=f"key\n{request.query['key']}\n")

    async def main() -> None:
        async with serving(answer) as url:
            both = Read([f"{url}/x?key=1", f"{url}/x?key=2"])
            report = await (Merge(both, Read(f"{url}/x?key=3")) | Filter("key > 0") | Collect()).run()
            assert [row["key"] for row in report.items] == ["1", "2", "3"]

    drive(main)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ("ftp://host/x.csv", "ftp:// cannot be read"),
        ("https:///x.csv", "names no host"),
        ("sqlite:///x.db", "names no query"),
        ("sqlite://x.db#t", "names no query"),
        (["https://host/x.csv", "in/"], "cannot be read together with files"),
    ],
)
def test_addresses_that_cannot_be_read_are_refused_at_once(paths: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Read(paths)
    assert message in str(caught.value)


def test_an_address_is_shown_without_what_may_be_secret() -> None:
    url = "https://me:pw@example.com:8443/a/b.csv?X-Signature=abc#x"
    assert shown_url(url) == "https://example.com:8443/a/b.csv" and name_of(url) == "b.csv"
    assert name_of("https://example.com/") == "download.csv" and name_of("sqlite:////tmp/shop.db#t") == "shop.csv"
    assert not is_url("C:/data/x.csv") and not is_url("in/a.csv") and is_url("s3://bucket/x")


# -- SQLite -----------------------------------------------------------------------------------------------------------


def database(path: Path, rows: int = 0) -> str:
    """A database with odd values in `t` and many rows in `n`; its address without a query."""
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE t (id TEXT, n REAL, k INTEGER, note TEXT)")
        values = [("007", 1.0, 1, None), ('a,"b"', 0.1, -(2**63), "two\nlines"), ("", 1e300, None, " x")]
        made.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", values)
        made.execute("CREATE TABLE n (value)")
        made.executemany("INSERT INTO n VALUES (?)", ((i,) for i in range(rows)))
        made.execute("CREATE TABLE b (x BLOB)")
        made.execute("INSERT INTO b VALUES (NULL), (x'00ff')")
    made.close()
    return f"sqlite:///{path}"


def test_values_of_a_database_as_text(tmp_path: Path) -> None:
    url = database(tmp_path / "x.db")
    report = (Read(f"{url}#SELECT * FROM t ORDER BY rowid") | Write(f"{tmp_path}/out.csv")).run_sync()
    expected = b'id,n,k,note\n007,1.0,1,\n"a,""b""",0.1,-9223372036854775808,"two\nlines"\n,1e+300,, x\n'
    assert (tmp_path / "out.csv").read_bytes() == expected
    assert report.read == 3
    assert (Read(f"{url}#t") | Filter("n = 1 AND note IS NULL") | Collect()).run_sync().items[0]["id"] == "007"


def test_a_query_without_rows_has_its_header(tmp_path: Path) -> None:
    url = database(tmp_path / "x.db")
    (Read(f"{url}#SELECT id, n AS amount FROM t WHERE FALSE") | Write(f"{tmp_path}/out/")).run_sync()
    assert tree(tmp_path / "out") == {"x.csv": b"id,amount\n"}


def test_rows_of_a_database_are_fetched_as_they_are_wanted(tmp_path: Path) -> None:
    """An endless query ends with `head`, and its thread with it; one that never gives a row, with its caller."""
    url = database(tmp_path / "x.db")
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c"
    before = threading.active_count()
    report = (Read(f"{url}#{endless}") | Filter("x > 5") | Head(2) | Collect()).run_sync()
    assert report.items == [{"x": "6"}, {"x": "7"}]

    async def main() -> None:
        task = asyncio.create_task((Read(f"{url}#{endless} WHERE x < 0") | Collect()).run())
        while threading.active_count() < before + 2:  # noqa: ASYNC110 - the query's thread makes no event
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    drive(main)
    assert threading.active_count() <= before, threading.enumerate()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT nope FROM t", "no such column: nope"),
        ("b", "column 'x' holds bytes in record 2"),
        ("SELECT CAST(x'ff' AS TEXT) AS x FROM t", "decode"),
        ("DELETE FROM t", "readonly database"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
    ],
)
def test_a_query_that_fails_is_told(tmp_path: Path, query: str, message: str) -> None:
    error = failure(Read(f"{database(tmp_path / 'x.db')}#{query}") | Collect())
    assert message in str(error) and str(tmp_path / "x.db") in str(error)


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    error = failure(Read(f"sqlite:///{tmp_path}/x.db#t") | Collect())
    assert "unable to open database file" in str(error) and tree(tmp_path) == {}
    write(tmp_path / "y.db", b"no database at all" * 100)
    assert "not a database" in str(failure(Read(f"sqlite:///{tmp_path}/y.db#t") | Collect()))


def test_a_database_and_a_file_become_one_stream(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "id,n\n1,2\n")
    url = database(tmp_path / "x.db")
    source = Merge(Read(f"{tmp_path}/a.csv"), Read(f"{url}#SELECT id, n FROM t WHERE id = '007'"))
    report = (source | Tee(Filter("n < 2") | Collect(), Collect())).run_sync()
    assert [b.written for b in report.branches] == [1, 2]
    assert "gives rows, not text" in str(failure(Read(f"{url}#t", quote="none") | Collect()))
