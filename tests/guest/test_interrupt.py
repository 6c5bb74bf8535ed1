"""Ctrl-C in a plain script ends its run, however it was started; the records before it would take an hour."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import write

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

SCRIPT = """
import asyncio, pathlib, sys, time
from aiopipe import Map, Read, Write

def slow(row):
    pathlib.Path("begun").touch()
    time.sleep(0.2)
    return row

async def waits(row):
    pathlib.Path("begun").touch()
    await asyncio.sleep(0.2)
    return row

pipeline = Read("in.csv") | Map({function}) | Write("out.csv")
try:
    {start}
except KeyboardInterrupt:
    print("interrupted")
    raise
"""
STARTS = {"run": "asyncio.run(pipeline.run())", "run_sync": "pipeline.run_sync()"}


@pytest.mark.parametrize("function", ["slow", "waits"])
@pytest.mark.parametrize("start", STARTS)
def test_ctrl_c_ends_a_script_and_leaves_nothing_half(tmp_path: Path, start: str, function: str):
    write(tmp_path / "script.py", SCRIPT.format(start=STARTS[start], function=function))
    write(tmp_path / "in.csv", "id\n" + "1\n" * 200_000)
    process = subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        end = time.monotonic() + 60
        while not (tmp_path / "begun").exists():
            assert process.poll() is None and time.monotonic() < end, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        out, err = process.communicate(timeout=30)
        print(f"{start}, {function}: ended {time.monotonic() - begun:.2f} s after Ctrl-C")
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGINT
    assert out == b"interrupted\n" and err.rstrip().endswith(b"KeyboardInterrupt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["begun", "in.csv", "script.py"]
