"""`--watch` in a process of its own, with real files: written slowly, moved in, changed, removed, broken; signals."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aiopipe import Read, Select, Write
from tests.cli.conftest import environment
from tests.support import tree, write

pytest.importorskip("watchfiles")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

GOOD = "id,name\n1,ada\n2,bob\n"
SLOW = """
import pathlib, time

def slow(row):
    pathlib.Path("begun").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.01)
    return row
"""


class Process:
    """A watch, with what it has said so far."""

    def __init__(self, place: Path, line: str) -> None:
        command = [sys.executable, "-m", "aiopipe", *shlex.split(line)]
        self.running = subprocess.Popen(command, cwd=place, env=environment(), stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.running.stderr is not None
        for line in self.running.stderr:
            self.lines.append(line)

    @property
    def said(self) -> str:
        return "".join(self.lines)

    def until(self, true: Callable[[], object], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert self.running.poll() is None, f"it has ended: {self.said}"
            assert time.monotonic() < end, f"it did not come to that; said so far: {self.said}"
            time.sleep(0.02)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.running.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.running.wait(timeout=60)
        self.reader.join()
        assert self.running.stderr is not None
        self.running.stderr.close()
        return code


@pytest.fixture
def start(place: Path) -> Iterator[Callable[[str], Process]]:
    made: list[Process] = []

    def begin(line: str) -> Process:
        made.append(Process(place, line))
        return made[-1]

    yield begin
    for process in made:
        if process.running.poll() is None:
            process.running.kill()
        process.wait()


@pytest.fixture
def inbox(place: Path) -> Path:
    for path in (place / "in").glob("*"):
        path.unlink()
    return place / "in"


WATCH = "pipe --watch --settle 0.3 read in then select name then write out/"


def test_the_backlog_comes_first_and_then_files_as_they_arrive(start: Callable[[str], Process], inbox: Path):
    write(inbox / "old.csv", GOOD)
    os.utime(inbox / "old.csv", (1, 1))
    out = inbox.parent / "out"
    process = start(WATCH)
    process.until((out / "old.csv").exists)
    write(inbox / "deep/new.csv", GOOD)
    process.until((out / "deep/new.csv").exists)
    assert (out / "deep/new.csv").read_text() == "name\nada\nbob\n"
    assert process.end() == 0
    assert "watched: 2 files in 2 rounds, 4 records read" in process.said


def test_a_file_that_is_written_slowly_is_processed_once_and_whole(start: Callable[[str], Process], inbox: Path):
    out = inbox.parent / "out/a.csv"
    process = start(WATCH)
    with open(inbox / "a.csv", "w") as file:
        file.write("id,name\n")
        for i in range(20):  # longer than the settle time, never as long without a change
            file.write(f"{i},n{i}\n")
            file.flush()
            time.sleep(0.05)
            assert not out.exists()
    process.until(out.exists)
    assert out.read_text() == "name\n" + "".join(f"n{i}\n" for i in range(20))
    assert process.end() == 0
    assert process.said.count("1 file: 20 records read") == 1
    assert "watched: 1 file in 1 round" in process.said


def test_a_file_moved_in_whole_need_not_settle(start: Callable[[str], Process], inbox: Path):
    """With an hour of settle time only what is older than that can be processed at all."""
    write(inbox.parent / "made.csv", GOOD)
    os.utime(inbox.parent / "made.csv", (1, 1))
    process = start(WATCH.replace("0.3", "3600"))
    write(inbox / "written.csv", GOOD)
    os.rename(inbox.parent / "made.csv", inbox / "moved.csv")
    process.until((inbox.parent / "out/moved.csv").exists)
    assert not (inbox.parent / "out/written.csv").exists()
    assert process.end() == 0


def test_a_changed_file_is_processed_again_and_an_unchanged_one_is_not(start: Callable[[str], Process], inbox: Path):
    out = inbox.parent / "out"
    write(inbox / "a.csv", GOOD)
    write(inbox / "b.csv", GOOD)
    process = start(WATCH)
    process.until(lambda: (out / "a.csv").exists() and (out / "b.csv").exists())
    before = (out / "b.csv").stat().st_ino
    write(inbox / "a.csv", "id,name\n3,eve\n")
    process.until(lambda: (out / "a.csv").read_text() == "name\neve\n")
    os.unlink(inbox / "b.csv")
    write(inbox / "c.csv", GOOD)
    process.until((out / "c.csv").exists)
    assert process.end() == 0
    assert (out / "b.csv").stat().st_ino == before  # not made again, and not removed with its input
    assert "watched: 4 files" in process.said


def test_with_prune_the_output_goes_with_its_input(start: Callable[[str], Process], inbox: Path):
    out = inbox.parent / "out"
    write(inbox / "a.csv", GOOD)
    process = start(WATCH.replace("--watch", "--watch --prune"))
    process.until((out / "a.csv").exists)
    os.unlink(inbox / "a.csv")
    process.until(lambda: not (out / "a.csv").exists())
    assert process.end() == 0


def test_a_broken_file_ends_nothing_and_is_tried_again_when_it_changes(start: Callable[[str], Process], inbox: Path):
    out = inbox.parent / "out"
    for name in "abcd":
        write(inbox / f"{name}.csv", GOOD)
    write(inbox / "broken.csv", "id,name\n1\n")
    process = start(WATCH)
    process.until(lambda: len(list(out.glob("*.csv"))) == 4)
    process.until(lambda: "broken.csv:2" in process.said)
    write(inbox / "e.csv", GOOD)
    process.until((out / "e.csv").exists)
    assert process.said.count("broken.csv:2") == 1  # not again with every round
    write(inbox / "broken.csv", GOOD)
    process.until((out / "broken.csv").exists)
    assert process.end() == 0
    assert tree(out).keys() >= {f"{name}.csv" for name in ("a", "b", "c", "d", "e", "broken")}


def test_a_file_that_stays_broken_is_told_at_the_end(start: Callable[[str], Process], inbox: Path):
    write(inbox / "broken.csv", "id,name\n1\n")
    process = start(WATCH)
    process.until(lambda: "broken.csv:2" in process.said)
    assert process.end() == 1
    assert "1 file failed, first in/broken.csv" in process.said


def test_an_error_that_names_no_file_is_narrowed_down_to_one(start: Callable[[str], Process], inbox: Path):
    """The column is missing in one file: what says so is found before any file is read."""
    out = inbox.parent / "out"
    write(inbox / "a-odd.csv", "id\n1\n")
    for name in "bcd":
        write(inbox / f"{name}.csv", GOOD)
    process = start("pipe --watch --settle 0.3 read in then filter \"name <> 'bob'\" then write out/")
    process.until(lambda: len(list(out.glob("*.csv"))) == 3)
    assert process.end() == 1
    assert "1 file failed, first in/a-odd.csv" in process.said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_a_round_lets_it_finish_what_is_in_flight(
    start: Callable[[str], Process], inbox: Path, number: signal.Signals, code: int
):
    place = inbox.parent
    (place / "slowly.py").write_text(SLOW)
    write(inbox / "a.csv", "id\n1\n")
    write(inbox / "b.csv", "id\n" + f"{1:0100}\n" * 40_000)
    process = start("pipe --watch --settle 0.3 --workers 1 read in --block 4KB then map slowly.py:slow then write out/")
    process.until((place / "begun").exists)
    process.running.send_signal(number)
    process.until(lambda: "stopping: no more is read" in process.said)
    (place / "go").touch()
    assert process.wait() == code
    assert (place / "out/a.csv").read_text() == "id\n1\n"
    assert not (place / "out/b.csv").exists() and "left for the next time" in process.said
    assert not list(place.rglob(".aiopipe-*"))


def test_an_ordinary_run_after_a_watch_finds_all_done(start: Callable[[str], Process], inbox: Path):
    write(inbox / "a.csv", GOOD)
    write(inbox / "b.csv", GOOD)
    process = start(WATCH)
    process.until(lambda: len(list((inbox.parent / "out").glob("*.csv"))) == 2)
    assert process.end() == 0
    report = (Read("in") | Select("name") | Write("out/")).run_sync()
    assert (report.unchanged, report.files) == (2, 0)


def test_a_killed_watch_leaves_nothing_half_and_the_next_goes_on(start: Callable[[str], Process], inbox: Path):
    place = inbox.parent
    (place / "slowly.py").write_text(SLOW)
    write(inbox / "a.csv", "id\n1\n")
    line = "pipe --watch --settle 0.3 read in then map slowly.py:slow then write out/"
    process = start(line)
    process.until((place / "begun").exists)
    process.running.kill()
    process.wait()
    assert not (place / "out/a.csv").exists()
    (place / "go").touch()
    process = start(line)
    process.until((place / "out/a.csv").exists)
    assert process.end() == 0


def test_an_idle_watch_uses_next_to_no_processor_time(start: Callable[[str], Process], inbox: Path):
    write(inbox / "a.csv", GOOD)
    process = start(WATCH)
    process.until((inbox.parent / "out/a.csv").exists)

    def used() -> float:
        fields = Path(f"/proc/{process.running.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    if not Path("/proc/self/stat").exists():
        pytest.skip("no /proc")
    time.sleep(0.5)
    before = used()
    time.sleep(2)
    assert used() - before < 1.0  # a busy loop would use two seconds
    assert process.end() == 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("pipe --watch read - then write out/", "watch needs files that can arrive"),
        ("pipe --watch read in then write -", "watch needs a directory to write to"),
        ("pipe --watch read in then write in/out/", "lies inside the input"),
        ("pipe --watch --settle 0 read in then write out/", "settle"),
    ],
)
def test_what_cannot_be_watched_is_refused(start: Callable[[str], Process], inbox: Path, line: str, words: str):
    process = start(line)
    assert process.wait() == 2
    assert words in process.said
