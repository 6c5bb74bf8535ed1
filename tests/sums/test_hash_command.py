from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import regular_files

AIOPIPE = [sys.executable, "-m", "aiopipe"]


def aiopipe(*args: str | bytes | Path, cwd: Path | None = None, **options) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*AIOPIPE, *args], cwd=cwd, capture_output=True, timeout=120, **options)


def native(*command: str) -> list[str]:
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here")
    return list(command)


@pytest.mark.parametrize("options", [(), ("--tag",), ("-z",), ("--tag", "-z")])
@pytest.mark.parametrize("tool", ["sha256sum", "md5sum", "sha1sum", "b2sum"])
def test_the_lines_are_those_of_coreutils_byte_for_byte(hostile: Path, tool: str, options: tuple[str, ...]):
    name = {"b2sum": "blake2b"}.get(tool, tool.removesuffix("sum"))
    relative = [os.path.relpath(path, os.fsencode(hostile)) for path in regular_files(hostile)]
    theirs = subprocess.run(
        [*native(tool), *options, "--", *[b"./" + path for path in relative]],
        cwd=hostile,
        capture_output=True,
        check=True,
    )
    ours = aiopipe("hash", "-a", name, *options, ".", cwd=hostile)
    end = b"\0" if "-z" in options else b"\n"
    assert sorted(ours.stdout.split(end)) == sorted(theirs.stdout.split(end))
    assert ours.returncode == 0
    assert b"skipped 1 fifo, 1 socket, 3 symlink" in ours.stderr


def test_sha256sum_checks_what_we_write(hostile: Path):
    command = native("sha256sum", "-c", "--strict", "--quiet")
    ours = aiopipe("hash", ".", cwd=hostile)
    check = subprocess.run(command, input=ours.stdout, cwd=hostile, capture_output=True)
    assert (check.returncode, check.stdout, check.stderr) == (0, b"", b"")


def test_the_output_file_is_left_out_of_its_own_scan(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"x")
    for _ in range(2):
        assert aiopipe("hash", "-o", "SUMS", ".", cwd=tmp_path).returncode == 0
        assert (tmp_path / "SUMS").read_bytes().count(b"\n") == 1
    with open(tmp_path / "SUMS", "wb") as redirected:
        subprocess.run([*AIOPIPE, "hash", "."], cwd=tmp_path, stdout=redirected, check=True)
    assert (tmp_path / "SUMS").read_bytes().count(b"\n") == 1
    assert sorted(os.listdir(tmp_path)) == ["SUMS", "f"]


def test_several_algorithms_are_tagged_lines(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"")
    done = aiopipe("hash", "-a", "md5,sha1", "-a", "crc32", "f", cwd=tmp_path)
    assert done.stdout == (
        b"MD5 (f) = d41d8cd98f00b204e9800998ecf8427e\n"
        b"SHA1 (f) = da39a3ee5e6b4b0d3255bfef95601890afd80709\n"
        b"CRC32 (f) = 00000000\n"
    )


def test_standard_input_and_lists_of_names(tmp_path: Path):
    (tmp_path / "a\nb").write_bytes(b"x")
    done = aiopipe("hash", "-a", "md5", "-", input=b"")
    assert done.stdout == b"d41d8cd98f00b204e9800998ecf8427e  -\n"
    done = aiopipe("hash", "-a", "md5", "--files-from", "-", "-0", input=b"a\nb\0gone\0", cwd=tmp_path)
    assert done.stdout == b"\\9dd4e461268c8034f5c8564e155c67a6  a\\nb\n"
    assert done.returncode == 1
    assert b"aiopipe: gone: vanished: no such file or directory" in done.stderr


def test_names_can_be_written_as_seen_from_another_directory(tmp_path: Path):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "f").write_bytes(b"")
    done = aiopipe("hash", "-a", "md5", "--base", "in", "in", cwd=tmp_path)
    assert done.stdout == b"d41d8cd98f00b204e9800998ecf8427e  sub/f\n"


def test_a_fifo_that_is_named_is_a_failure_and_never_a_hang(hostile: Path):
    done = aiopipe("hash", "fifo", "plain.txt", cwd=hostile)
    assert done.returncode == 1
    assert b"aiopipe: fifo: irregular: it is a FIFO" in done.stderr
    assert done.stdout.count(b"\n") == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), b"nothing to hash"),
        (("-a", "nope", "."), b"no algorithm 'nope'"),
        (("-j", "0", "."), b"--jobs '0' is no number"),
        (("--tag", "--format", "csv", "."), b"contradict"),
        (("-a", "md5,sha1", "--format", "gnu", "."), b"holds one algorithm"),
        (("--format", "sfv", "."), b"an SFV file holds CRC-32"),
        (("-z", "--format", "csv", "."), b"-z has no meaning"),
    ],
)
def test_usage_errors_say_what_next_and_exit_2(args: tuple[str, ...], message: bytes):
    done = aiopipe("hash", *args)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == b""


def test_a_missing_path_exits_1_and_a_full_or_closed_target_leaves_the_old_file(tmp_path: Path):
    (tmp_path / "SUMS").write_bytes(b"old")
    done = aiopipe("hash", "-o", "SUMS", "absent", cwd=tmp_path)
    assert done.returncode == 1
    assert (tmp_path / "SUMS").read_bytes() == b"old"
    done = aiopipe("hash", "-o", "no/such/SUMS", ".", cwd=tmp_path)
    assert (done.returncode, b"cannot be written" in done.stderr) == (1, True)
    assert os.listdir(tmp_path) == ["SUMS"]


def big_tree(root: Path) -> None:
    for number in range(3):
        with open(root / f"big{number}", "wb") as file:
            file.truncate(1 << 40)
    (root / "SUMS").write_bytes(b"old")


@pytest.mark.parametrize("backend", ["threads", "processes"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_ends_within_a_second_and_leaves_the_old_file(
    tmp_path: Path, number: signal.Signals, code: int, backend: str
):
    big_tree(tmp_path)
    run = subprocess.Popen(
        [*AIOPIPE, "hash", "--backend", backend, "-o", "SUMS", "."], cwd=tmp_path, stderr=subprocess.PIPE
    )
    wait_for(lambda: any(name.endswith(".aiopipe-tmp") for name in os.listdir(tmp_path)))
    time.sleep(0.3)
    begin = time.monotonic()
    run.send_signal(number)
    _, error = run.communicate(timeout=30)
    assert run.returncode == code
    assert time.monotonic() - begin < 3  # a second, with room for a busy machine
    assert b"Traceback" not in error
    assert (tmp_path / "SUMS").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["SUMS", "big0", "big1", "big2"]


def test_a_killed_run_leaves_the_old_file_and_its_workers_end(tmp_path: Path):
    big_tree(tmp_path)
    run = subprocess.Popen([*AIOPIPE, "hash", "--backend", "processes", "-o", "SUMS", "."], cwd=tmp_path)
    wait_for(lambda: any(name.endswith(".aiopipe-tmp") for name in os.listdir(tmp_path)))
    time.sleep(0.3)
    workers = children(run.pid)
    run.kill()
    run.wait()
    assert (tmp_path / "SUMS").read_bytes() == b"old"
    wait_for(lambda: not any(is_running(worker) for worker in workers))


def children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(each) for each in text.split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_reader_that_goes_away_ends_the_run_quietly(tmp_path: Path):
    for number in range(3000):
        (tmp_path / f"{'x' * 100}{number}").write_bytes(b"")
    run = subprocess.Popen([*AIOPIPE, "hash", "."], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdout is not None
    assert run.stderr is not None
    run.stdout.read(10)
    run.stdout.close()
    assert b"Traceback" not in run.stderr.read()
    run.stderr.close()
    run.wait(timeout=30)


def test_jsonl_and_csv_hold_every_name(hostile: Path):
    import base64
    import csv
    import io
    import json

    names = {os.path.relpath(path, os.fsencode(hostile)) for path in regular_files(hostile)}
    lines = aiopipe("hash", "--format", "jsonl", "--base", ".", ".", cwd=hostile).stdout.splitlines()
    records = [json.loads(line) for line in lines]
    read = {base64.b64decode(r["path_b64"]) if "path_b64" in r else os.fsencode(r["path"]) for r in records}
    assert read == names
    data = aiopipe("hash", "--format", "csv", "--base", ".", ".", cwd=hostile).stdout
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8", "surrogateescape"), newline="")))
    assert {os.fsencode(row["path"]) for row in rows} == names
    assert all(len(row["sha256"]) == 64 and int(row["mtime_ns"]) > 0 for row in rows)


def test_a_format_that_cannot_hold_a_name_says_so(hostile: Path):
    done = aiopipe("hash", "--format", "hashdeep", ".", cwd=hostile)
    assert done.returncode == 1
    assert done.stderr.count(b"this format cannot hold its name") == 4
    assert b"\n%%%% size,sha256,filename\n" in done.stdout


def test_help_answers_and_imports_nothing_heavy():
    code = "import sys; from aiopipe.cli import main; "
    code += "main(['--help']); main(['hash', '--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stdout.splitlines()[-1].split()
    assert not {"asyncio", "pyarrow", "duckdb", "rich", "sqlite3", "numpy", "blake3"} & set(modules)
    assert "aiopipe hash photos > SHA256SUMS" in done.stdout
