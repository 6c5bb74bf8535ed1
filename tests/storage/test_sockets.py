"""Sockets as source and sink: all bytes, bounded, closed at once, and errors that say where."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aiopipe import Collect, Filter, Head, InputError, Map, OutputError, Read, UsageError, Write
from aiopipe.storage.urls import socket_of
from tests.support import drive, leaves, write

CSV = b'id,n\r\n007,1.10\r\n"a,b",2'
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")


@asynccontextmanager
async def listening(kind: str, tmp_path: Path, talk: Talk) -> AsyncIterator[str]:
    """A server that talks to whoever comes; its address. All conversations are over when the block is left."""
    under_way: set[asyncio.Task[Any]] = set()

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        under_way.add(task)
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    if kind == "unix":
        path = str(tmp_path / "rows.sock")
        server = await asyncio.start_unix_server(conversation, path)
        address = f"unix://{path}"
    else:
        server = await asyncio.start_server(conversation, "127.0.0.1", 0)
        address = f"tcp://localhost:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield address
        if under_way:
            await asyncio.wait(under_way)


def saying(data: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return talk


async def fails(pipeline: Any) -> Any:
    """The one error that a run ends with."""
    try:
        await pipeline.run()
    except BaseException as error:
        [only] = leaves(error)
        return only
    raise AssertionError("the run ended well")


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_what_a_socket_sends_arrives_byte_for_byte(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with listening(kind, tmp_path, saying(CSV)) as address:
            report = await (Read(address) | Filter("n > 0") | Write(f"{tmp_path}/out.csv")).run()
            assert (report.read, report.balanced) == (2, True)

    drive(main)
    assert (tmp_path / "out.csv").read_bytes() == CSV


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_socket_gets_all_bytes_of_one_output_and_then_its_end(kind: str, tmp_path: Path) -> None:
    data = b"id,n\n" + b"".join(b"%d,x\n" % i for i in range(200_000))
    source, got = write(tmp_path / "in.csv", data), bytearray()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while some := await reader.read(1 << 16):
            got.extend(some)

    async def main() -> None:
        async with listening(kind, tmp_path, talk) as address:
            report = await (Read(source, block=1 << 16) | Write(address)).run()
            assert (report.written, report.bytes_written) == (200_000, len(data))

    drive(main)
    assert bytes(got) == data


def test_the_format_of_what_is_sent_can_be_told(tmp_path: Path) -> None:
    source, got = write(tmp_path / "in.csv", CSV), bytearray()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.extend(await reader.read())

    async def main() -> None:
        async with listening("tcp", tmp_path, talk) as address:
            await (Read(source) | Write(address, format="jsonl")).run()

    drive(main)
    assert bytes(got) == b'{"id": "007", "n": "1.10"}\n{"id": "a,b", "n": "2"}\n'


def test_a_head_closes_the_connection_of_a_sender_that_never_ends(tmp_path: Path) -> None:
    broken: list[bool] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(b"id\n")
            while True:
                writer.write(b"1\n" * 10_000)
                await writer.drain()
        except OSError:
            broken.append(True)

    async def main() -> None:
        async with listening("tcp", tmp_path, talk) as address:
            report = await (Read(address) | Head(3) | Collect()).run()
            assert len(report.items) == 3

    drive(main)
    assert broken == [True]


def test_a_silent_sender_does_not_hold_up_a_run_that_is_cancelled(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"id\n1\n")
        assert await reader.read() == b""  # until the other end goes

    async def main() -> None:
        async with listening("unix", tmp_path, talk) as address:
            running = asyncio.create_task((Read(address) | Collect()).run())
            await asyncio.sleep(0.2)
            running.cancel()
            await asyncio.wait([running])
            assert running.cancelled()

    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    drive(main)
    assert not before or len(os.listdir("/proc/self/fd")) == before


def test_a_sender_is_held_up_while_the_pipeline_is_busy(tmp_path: Path) -> None:
    sent = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        try:
            writer.write(b"id\n")
            while True:
                writer.write(b"%s\n" % (b"x" * 1023) * 64)
                await writer.drain()
                sent += 1 << 16
        except OSError:
            pass

    async def main() -> None:
        free = asyncio.Event()

        async def wait(row: dict[str, str]) -> dict[str, str]:
            await free.wait()
            return row

        async with listening("tcp", tmp_path, talk) as address:
            running = asyncio.create_task((Read(address) | Map(wait) | Head(1) | Collect()).run(memory="32MB"))
            before = -1
            while before != sent or not sent:
                before = sent
                await asyncio.sleep(0.3)
            assert sent < 64 << 20  # what the run may hold, and what the system's own buffers do
            free.set()
            await running

    drive(main)


def test_a_run_that_fails_resets_the_connection(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", b"id,n\n" + b"1,2\n" * 300_000 + b"3\n")
    ends: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(1 << 16):
                pass
            ends.append("well")
        except ConnectionResetError:
            ends.append("reset")

    async def main() -> None:
        async with listening("tcp", tmp_path, talk) as address:
            assert "in.csv:300002" in str(await fails(Read(source, block=1 << 16) | Write(address)))

    drive(main)
    assert ends == ["reset"]


def test_errors_say_where_and_what_next(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", b"id\n" + b"1\n" * 3_000_000)

    async def slams(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.transport.abort()

    async def main() -> None:
        async with listening("tcp", tmp_path, saying(b"")) as gone:
            pass
        for address in (gone, f"unix://{tmp_path}/none.sock"):
            found = await fails(Read(address) | Collect())
            assert isinstance(found, InputError) and "no connection: " in str(found) and address in str(found)
            found = await fails(Read(source) | Write(address))
            assert isinstance(found, OutputError) and "somebody listens" in str(found) and address in str(found)
        async with listening("unix", tmp_path, slams) as address:
            found = await fails(Read(source) | Write(address))
            assert isinstance(found, OutputError) and "the connection failed: " in str(found)
            assert " of the output)" in str(found) and address in str(found)

    drive(main)


@pytest.mark.parametrize(
    "address", ["tcp://", "tcp://host", "tcp://host:x", "tcp://host:99999", "tcp://h:1/x", "tcp://u@h:1", "unix://x"]
)
def test_addresses_that_are_none_are_refused_at_once(address: str) -> None:
    for door in (Read, Write):
        with pytest.raises(UsageError, match="such as "):
            door(address)


def test_addresses_are_taken_apart() -> None:
    assert socket_of("tcp://[::1]:9000").host == "::1"
    assert socket_of("TCP://Host.example:80").port == 80
    assert socket_of("unix:///run/a b.sock").path == "/run/a b.sock"
