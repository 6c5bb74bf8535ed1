"""The command in a process of its own: signals, pipes that break or fill up, what is imported."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Done, environment

Shell = Callable[..., Done]
posix = pytest.mark.skipif(os.name == "nt", reason="signals and descriptors of POSIX")

# Tells that it has begun, then takes its time: the test knows that the signal meets it at work.
SLOW = """
import pathlib, time

def slow(row):
    pathlib.Path("begun").touch()
    if not pathlib.Path("hurry").exists():
        time.sleep(0.3)
    return row
"""


@pytest.fixture
def start(place: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a command; whatever still runs at the end of the test is killed."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(line: str, **more: object) -> subprocess.Popen[bytes]:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        command = [sys.executable, "-m", "aiopipe", *shlex.split(line)]
        process = subprocess.Popen(command, env=environment(), **streams)  # type: ignore[call-overload]
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def left_behind(place: Path) -> list[str]:
    return [str(p) for p in place.rglob(".aiopipe-*")]


@pytest.fixture
def slow(place: Path) -> Path:
    """A function that takes its time, and records for it: two files."""
    (place / "slowly.py").write_text(SLOW)
    for name in "ab":
        (place / f"in/{name}.csv").write_text("id\n" + "".join(f"{i}\n" for i in range(20)))
    return place


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("placement", ["thread", "process"])
def test_the_first_signal_finishes_what_is_in_flight(
    start: Callable[..., subprocess.Popen[bytes]], slow: Path, number: signal.Signals, code: int, placement: str
):
    # Small blocks, one worker: most of the input is not read yet when the signal comes.
    big = slow / "in/c.csv"
    big.write_text("id\n" + f"{1:0100}\n" * 20_000)
    process = start(
        f"pipe --workers 1 read in --block 4KB then map slowly.py:slow --placement {placement} then write out/"
    )
    until((slow / "begun").exists)
    process.send_signal(number)
    (slow / "hurry").touch()
    _, err = process.communicate(timeout=120)
    assert process.returncode == code
    assert b"stopping: no more is read" in err
    assert b"interrupted" in err
    assert (slow / "out/a.csv").read_bytes() == (slow / "in/a.csv").read_bytes()
    assert not (slow / "out/c.csv").exists()
    assert left_behind(slow) == []


@posix
@pytest.mark.parametrize("placement", ["thread", "process"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_cancels_without_waiting_for_the_batch(
    start: Callable[..., subprocess.Popen[bytes]], slow: Path, placement: str, number: signal.Signals, code: int
):
    (slow / "in/a.csv").write_text("id\n" + "1\n" * 10_000)  # fifty minutes of work
    process = start(f"pipe read in then map slowly.py:slow --placement {placement} then write out/")
    until((slow / "begun").exists)
    process.send_signal(number)
    time.sleep(0.3)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert b"cancelled; nothing half was left behind" in err
    assert list(slow.glob("out/[!.]*")) == []
    assert left_behind(slow) == []


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_does_not_end_within_the_shutdown_timeout_is_cancelled(
    start: Callable[..., subprocess.Popen[bytes]], slow: Path, number: signal.Signals, code: int
):
    (slow / "in/a.csv").write_text("id\n" + "1\n" * 10_000)  # fifty minutes of work
    process = start("pipe --shutdown-timeout 200ms read in then map slowly.py:slow then write out/")
    until((slow / "begun").exists)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert b"did not end within 0.2 s" in err
    assert b"run it again" in err
    assert list(slow.glob("out/[!.]*")) == []
    assert left_behind(slow) == []


@posix
def test_the_third_signal_leaves_a_function_that_never_returns(
    start: Callable[..., subprocess.Popen[bytes]], place: Path
):
    (place / "never.py").write_text(
        "import pathlib, time\ndef never(row):\n    pathlib.Path('begun').touch()\n    time.sleep(3600)\n"
    )
    process = start("pipe read in then map never.py:never then write out/")
    until((place / "begun").exists)
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"left at once" in err


@posix
def test_a_run_waiting_for_standard_input_ends_at_the_first_signal(start: Callable[..., subprocess.Popen[bytes]]):
    process = start("pipe read - then write -", stdin=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"a,b\n1,2\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"a,b\n"  # what has come is not held back until more comes
    assert process.stdout.readline() == b"1,2\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert process.stdout.read() == b""


@posix
def test_a_reader_that_stands_still_does_not_hold_a_run_that_is_cancelled(
    start: Callable[..., subprocess.Popen[bytes]], place: Path
):
    (place / "big.csv").write_text("id\n" + "123456789\n" * 200_000)
    process = start("pipe read big.csv then write -")
    assert process.stdout is not None
    process.stdout.read(1)  # it writes, and nobody reads on
    time.sleep(0.3)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    assert process.wait(timeout=30) == 130


@posix
def test_a_broken_pipe_ends_the_run_quietly(start: Callable[..., subprocess.Popen[bytes]], place: Path):
    (place / "big.csv").write_text("id\n" + "123456789\n" * 200_000)
    process = start("pipe read big.csv then write -")
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == b"id\n"
    process.stdout.close()
    assert process.wait(timeout=30) == 141
    assert process.stderr.read() == b""
    process.stdout = None


@posix
def test_a_pipe_that_does_not_block_gets_every_byte(start: Callable[..., subprocess.Popen[bytes]], place: Path):
    content = b"id\n" + b"123456789\n" * 100_000
    (place / "big.csv").write_bytes(content)
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        process = start("pipe read big.csv then write -", stdout=writer)
    finally:
        os.close(writer)
    time.sleep(0.8)  # the pipe is full by now
    with open(reader, "rb") as file:
        assert file.read() == content
    assert process.wait(timeout=30) == 0


@posix
@pytest.mark.parametrize(("closed", "message"), [(0, b"standard input is closed"), (1, b"standard output is closed")])
def test_a_closed_stream_is_an_error_with_a_name(place: Path, closed: int, message: bytes):
    line = f"{shlex.quote(sys.executable)} -m aiopipe pipe read - then write - {closed}<&-"
    done = subprocess.run(line, shell=True, capture_output=True, input=b"a\n1\n", env=environment(), timeout=60)
    assert done.returncode == 1
    assert message in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_behind_standard_output_is_an_error_with_a_name(
    start: Callable[..., subprocess.Popen[bytes]], place: Path
):
    with open("/dev/full", "wb") as full:
        process = start("pipe read in/a.csv then write -", stdout=full)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"cannot write to standard output: No space left on device" in err
    assert b"Traceback" not in err


HEAVY = ("pyarrow", "duckdb", "rich", "numpy", "asyncio", "aiofiles", "aiocsv", "asgiref", "tomllib")


@pytest.mark.parametrize("line", ["--help", "--version", "nonsense"])
def test_the_first_help_imports_nothing_heavy(line: str):
    code = f"""
import sys
sys.argv = ["aiopipe", {line!r}]
from aiopipe.__main__ import main
try:
    main()
finally:
    print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=60)
    assert done.stderr.splitlines()[-1] == "[]", done.stderr


def test_a_pipeline_without_map_or_process_needs_no_rich(shell: Shell, place: Path):
    code = "import sys, aiopipe.cli as c; c.main(sys.argv[1:]); sys.exit('rich' in sys.modules)"
    line = [sys.executable, "-c", code, *["pipe", "read", "in", "then", "write", "out/"]]
    assert subprocess.run(line, capture_output=True, env=environment(), timeout=60).returncode == 0


@posix
def test_a_terminal_gets_a_line_that_moves(start: Callable[..., subprocess.Popen[bytes]], slow: Path):
    import pty

    parent, child = pty.openpty()
    try:
        process = start("pipe read in/a.csv then map slowly.py:slow --concurrency 4 then write out/", stderr=child)
    finally:
        os.close(child)
    seen = b""
    with contextlib.suppress(OSError):  # Linux says EIO when the other end has gone
        while data := os.read(parent, 1 << 16):
            seen += data
    os.close(parent)
    assert process.wait(timeout=60) == 0
    assert b"records/s" in seen and b"\x1b[" in seen
    assert b"20 records read = 20 written" in seen
