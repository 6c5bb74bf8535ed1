"""Functions in worker processes: dead, hung, not to be sent there or back; each costs its row."""

import asyncio
import os
import subprocess
import sys
import time

import pytest

from aiopipe import Collect, Find, FunctionError, Map, Read, UsageError, WorkerError
from tests.faults import functions
from tests.faults.rows import CSV, raises
from tests.support import drive, failure, rejects, write


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "in.csv", CSV)


def test_a_function_that_cannot_be_sent_to_a_process_is_refused_before_anything_is_read(path):
    for bad in (lambda row: row, raises(ValueError())):
        found = failure(Read(path) | Map(bad, placement="process") | Collect())
        assert isinstance(found, UsageError)
        assert "cannot be sent to another process" in str(found)
        assert "top of a module" in str(found)


DEATHS = {
    "exits": "ended by itself with exit code 9",
    "kills": "was killed by SIGKILL",
    "segfaults": "was killed by SIGSEGV",
}

HANGS = ["sleeps", "regex", "waits", "swallows"]


@pytest.mark.parametrize("name", DEATHS)
def test_a_function_that_takes_its_process_with_it_costs_its_row_only(name, path, tmp_path):
    function = getattr(functions, name)
    pipeline = Read(path) | Map(function, placement="process") | Collect()
    found = failure(pipeline, workers=1)
    assert isinstance(found, WorkerError)
    assert str(found).startswith(f"{path}:4 (record 3, byte 15): map: the worker process {DEATHS[name]}")
    report = pipeline.run_sync(rejects=str(tmp_path / "rejects.csv"), workers=1)
    assert [r["v"] for r in report.items] == ["1", "2", "4"]
    assert report.balanced
    [row] = rejects(tmp_path / "rejects.csv")
    assert (row["raw"], row["line"], row["record"], row["byte"]) == (b"3,c\n", "4", "3", "15")


@pytest.mark.parametrize("name", HANGS)
def test_a_function_that_hangs_in_a_process_is_ended_by_its_timeout(name, path, tmp_path):
    """In Python, in C, waiting for a lock, or deaf to exceptions."""
    function = getattr(functions, name)
    pipeline = Read(path) | Map(function, placement="process", timeout=0.2) | Collect()
    report = pipeline.run_sync(rejects=str(tmp_path / "rejects.csv"), workers=1)
    assert [r["v"] for r in report.items] == ["1", "2", "4"]
    [row] = rejects(tmp_path / "rejects.csv")
    assert row["raw"] == b"3,c\n"
    assert "answer within 0.2 s" in row["reason"]


def test_a_hanging_worker_does_not_outlive_a_cancelled_run(path):
    async def main():
        stage = Map(functions.regex, placement="process")
        running = asyncio.create_task((Read(path) | stage | Collect()).run(workers=1))
        await asyncio.sleep(0.8)
        begun = time.monotonic()
        running.cancel()
        await asyncio.wait([running])
        assert time.monotonic() - begun < 10

    drive(main)


def test_a_result_that_cannot_leave_its_process_is_shown(tmp_path):
    for i in range(5):
        write(tmp_path / f"{i}.csv", CSV)
    found = failure(Find(tmp_path) | Map(functions.gives_what_does_not_pickle, placement="process") | Collect())
    assert isinstance(found, FunctionError)
    assert "gives_what_does_not_pickle" in str(found)
    assert "cannot be sent from one process to another" in str(found)
    assert "placement='thread'" in str(found)


def test_workers_end_when_their_run_is_killed(tmp_path):
    """Nobody is left to end them: they notice that the one they worked for is gone."""
    log = tmp_path / "log"
    path = write(tmp_path / "in.csv", "v,text\n" + f"1,{log}\n" * 2000)
    function = f"{functions.__file__}:tells_its_process"
    command = [sys.executable, "-m", "aiopipe", "pipe", "read", path, "--block", "1KB"]
    command += ["then", "map", function, "--placement", "process", "then", "write", f"{tmp_path}/out.csv"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        waits_until(log.exists)
        run.kill()
    workers = {int(line) for line in log.read_text().split()}
    assert run.pid not in workers
    waits_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers))
    for left in tmp_path.glob(".aiopipe-*"):
        left.unlink()  # what a killed run into a single file, without a ledger, leaves


def waits_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
