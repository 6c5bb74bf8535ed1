"""Large jobs of the command line fork their workers before there is a thread."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aiopipe import Filter, Read, Write
from tests.support import tree, write

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")

# The command line, where one byte is much, which says how many workers it has forked.
SCRIPT = """
import os, sys
from aiopipe.job import ahead
ahead._WORTH = 1
real = ahead.Remotes.fork
def noted(self, **how):
    real(self, **how)
    print("forked", *(r._process.pid for r in self._each), file=sys.stderr, flush=True)
    {then}
ahead.Remotes.fork = noted
leave = os._exit
def left(code):
    print("duckdb came up:", "_duckdb" in sys.modules, file=sys.stderr, flush=True)
    leave(code)
os._exit = left
from aiopipe.__main__ import main
main()
"""


def command(place: Path, *words: str, then: str = "pass") -> list[str]:
    into = ["pipe", "--no-progress", "--workers", "3", *words]
    script = SCRIPT.format(then=then)
    return [sys.executable, "-c", script, *into, "read", str(place / "in"), "--block", "256KiB", "then",
            "filter", "a > 4", "then", "write", f"{place}/out/"]  # fmt: skip


def pids(said: str) -> list[int]:
    [line] = [line for line in said.splitlines() if line.startswith("forked")]
    return [int(word) for word in line.split()[1:]]


def lives(pid: int) -> bool:
    """Whether a process does, other than as one whose end nobody has asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(params=["small", "large"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Many small files, which travel in groups, or two large ones, which travel in stretches that may end in quotes."""
    if request.param == "small":
        for n in range(300):
            write(tmp_path / f"in/{n:03}.csv", "a,b\n" + "".join(f"{j % 9},{n}\n" for j in range(20)))
    else:
        long = '"' + "two\nlines\n" * 2000 + '"'
        for n in range(2):
            lines = [f"{j % 9},{long if j % 20_001 == 9 else n}\n" for j in range(600_000)]
            write(tmp_path / f"in/{n:03}.csv", "a,b\n" + "".join(lines))
    (Read(str(tmp_path / "in")) | Filter("a > 4") | Write(f"{tmp_path}/clean/")).run_sync(workers=1)
    return tmp_path


@pytest.mark.parametrize("words", [(), ("--no-ledger",)])
def test_forked_workers_write_what_one_process_writes(place: Path, words: tuple[str, ...]):
    done = subprocess.run(command(place, *words), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(pids(done.stderr)) == 3
    count = len(list((place / "in").iterdir()))
    assert f"{count} files" in done.stderr
    assert tree(place / "out") == tree(place / "clean")
    assert not any(map(lives, pids(done.stderr)))
    again = subprocess.run(command(place, *words), capture_output=True, text=True, timeout=120)
    assert again.returncode == 0
    assert (f"{count} unchanged" in again.stderr or "skipped" in again.stderr) == (words == ())


def test_a_worker_asks_duckdb_for_its_parent(place: Path):
    done = subprocess.run(command(place), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "duckdb came up: False" in done.stderr
    assert tree(place / "out") == tree(place / "clean")


@pytest.mark.parametrize("victims", ["self._each[:1]", "self._each"])
def test_a_parent_whose_workers_die_asks_duckdb_itself(place: Path, victims: str):
    kill = f"[os.kill(r._process.pid, 9) for r in {victims}]"
    done = subprocess.run(command(place, then=kill), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "duckdb came up: True" in done.stderr
    assert tree(place / "out") == tree(place / "clean")


def test_a_function_of_the_user_is_not_forked(place: Path):
    write(place / "functions.py", "def same(row):\n    return row\n")
    words = command(place)
    at = words.index("filter")
    words[at : at + 2] = ["map", f"{place}/functions.py:same"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "forked" not in done.stderr


@pytest.mark.parametrize("pause", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_takes_its_workers_with_it(place: Path, number: signal.Signals, pause: float):
    process = subprocess.Popen(command(place), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    time.sleep(pause)
    process.send_signal(number)
    process.communicate(timeout=60)
    until = time.monotonic() + 20
    while any(map(lives, pids(line))) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(map(lives, pids(line)))
    if number != signal.SIGKILL:
        assert list(place.rglob(".aiopipe-*.tmp")) == []
    done = subprocess.run(command(place), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert list(place.rglob(".aiopipe-*.tmp")) == []
    assert tree(place / "out") == tree(place / "clean")


def test_a_wrong_expression_leaves_no_worker(place: Path):
    words = command(place)
    words[words.index("a > 4")] = "nothing > 4"
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "nothing" in done.stderr
    assert not any(map(lives, pids(done.stderr)))


def test_a_process_with_a_thread_is_not_forked():
    code = (
        "import threading, time; from aiopipe.forking import can_fork; print(can_fork());"
        "t = threading.Thread(target=time.sleep, args=(0.5,)); t.start(); print(can_fork()); t.join()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_a_child_has_its_pipes_and_nothing_else(tmp_path: Path):
    code = """
import os, sys
from aiopipe.forking import fork
source, to = os.pipe()
back, target = os.pipe()
secret = open(sys.argv[1], "w")

def serve():
    names = sorted(os.listdir("/proc/self/fd"), key=int)  # 3 is what lists them
    os.write(1, os.read(0, 100) + " ".join(names).encode())

child = fork(source, target, serve)
os.close(source)
os.close(target)
os.write(to, b"told: ")
print(os.read(back, 100).decode(), child.wait(), child.poll())
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "secret"], capture_output=True, text=True, check=True)
    assert done.stdout == "told: 0 1 2 3 1 1\n"
