"""Streams: what is read for the sample is not lost to the run, and nothing waits for a silent writer for ever."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from aiopipe import Collect, Filter, InputError, Read, Write

HEADER = b"id,amount\n"


def feed(fifo: Path, data: bytes) -> threading.Thread:
    thread = threading.Thread(target=fifo.write_bytes, args=(data,))
    thread.start()
    return thread


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.csv"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("records", [1, 999, 1000, 1001, 40_000])
def test_the_sample_of_a_stream_is_part_of_the_run(fifo, tmp_path, records):
    data = HEADER + b"".join(b"%d,%d\n" % (i, i % 7) for i in range(records))
    writer = feed(fifo, data)
    report = (Read(fifo) | Filter("amount < 100") | Write(tmp_path / "out.csv")).run_sync()
    writer.join()
    assert report.read == records
    assert (tmp_path / "out.csv").read_bytes() == data


def test_a_stream_gets_types_from_its_first_records(fifo):
    writer = feed(fifo, HEADER + b"1,9\n2,10\n")
    report = (Read(fifo) | Filter("amount > 9") | Collect()).run_sync()
    writer.join()
    assert report.items == [{"id": "2", "amount": "10"}]  # as text, '9' > '10'


def test_a_token_in_a_number_column_of_a_stream_is_asked_about(fifo):
    writer = feed(fifo, HEADER + b"1,9\n2,NA\n3,4\n")
    with pytest.raises(Exception, match="--null NA"):
        (Read(fifo) | Filter("amount > 9") | Collect()).run_sync()
    writer.join()


def test_a_stream_that_was_only_peeked_into_is_closed(fifo):
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    writer = feed(fifo, HEADER + b"1,9\n")
    with pytest.raises(Exception, match="no column"):
        (Read(fifo) | Filter("amuont > 9") | Collect()).run_sync()
    writer.join()
    assert not before or len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("where", [None, "amount > 9"])
def test_a_run_that_is_cancelled_does_not_wait_for_a_silent_writer(fifo, where):
    """Opening for both ends keeps the FIFO alive without a byte ever coming."""
    keep = os.open(fifo, os.O_RDWR)
    os.write(keep, HEADER)

    async def main() -> None:
        stages = Read(fifo) | Filter(where) if where else Read(fifo)
        run = asyncio.ensure_future((stages | Collect()).run())
        await asyncio.sleep(0.3)
        run.cancel()
        await asyncio.wait([run], timeout=5)
        assert run.cancelled()

    try:
        asyncio.run(main())
    finally:
        os.close(keep)


def test_a_missing_stream_is_a_clear_error(tmp_path):
    with pytest.raises(InputError, match=r"gone\.csv: no such file"):
        (Read(tmp_path / "gone.csv") | Filter("x > 1") | Collect()).run_sync()
