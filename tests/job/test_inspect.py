"""why, status and verify: what the ledger says, in sentences that are true."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aiopipe import Filter, InputError, Read, Write
from aiopipe.cli import group
from aiopipe.job.inspect import status, verify, why
from tests.support import failure, tree, write


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a.csv", "b.csv", "sub/c.csv"):
        write(tmp_path / "in" / name, "v\n" + "".join(f"{i}\n" for i in range(5)))
    monkeypatch.chdir(tmp_path)
    (Read("in") | Filter("v > 2") | Write("out/")).run_sync()
    return tmp_path


def aiopipe(*words: str) -> Result:
    return CliRunner().invoke(group, list(words), standalone_mode=False)


def test_a_file_that_is_done_is_up_to_date_by_its_input_and_by_its_output(place: Path) -> None:
    for answer in (why("out/sub/c.csv"), why("in/sub/c.csv", "out"), why(str(place / "in/sub/c.csv"), "out/")):
        assert answer.up_to_date
        assert "c.csv: up to date: " in str(answer)
        assert "because: new" in str(answer)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda: write(Path("in/a.csv"), "v\n1\n"), "input changed: size 12 -> 4"),
        (lambda: Path("out/a.csv").write_text("v\n"), "output damaged: {place}/out/a.csv, size 6 -> 2"),
        (lambda: Path("out/a.csv").unlink(), "output missing: {place}/out/a.csv"),
        (lambda: Path("in/a.csv").unlink(), "input cannot be read: No such file or directory"),
    ],
)
def test_what_has_changed_since_is_said_before_the_next_run(change, sentence, place: Path) -> None:
    change()
    done = aiopipe("why", str(place / "out/a.csv"))
    assert done.return_value == 1
    assert f"will be done: {sentence.format(place=place)}" in done.output


def test_a_pipeline_that_changed_while_a_run_failed_is_named(place: Path) -> None:
    write(place / "in/b.csv", "v\n" + "9\n" * 5)
    write(place / "in/a.csv", "v\n1,2\n")
    failure(Read("in", types={"v": "BIGINT"}) | Filter("v > 3") | Write("out/"))
    answer = str(why("out/a.csv"))
    assert "will be done: it failed: 2 fields, header has 1" in answer or "did not finish" in answer
    assert "pipeline changed: " in answer
    assert "filter.where 'v > 2' -> 'v > 3'" in answer


def test_a_path_that_is_not_on_record_is_told_so(place: Path) -> None:
    write(place / "in/new.csv", "v\n1\n")
    assert "new: no run into that directory has read it" in str(why("in/new.csv", "out"))
    with pytest.raises(InputError, match="knows nothing of"):
        why("out/nothing.csv")
    with pytest.raises(InputError, match="no directory above"):
        why("in/a.csv")
    with pytest.raises(InputError, match="has no ledger"):
        status(str(place / "in"))


def test_status_counts_units_and_names_failures(place: Path) -> None:
    write(place / "in/b.csv", "v\n1\n1,2\n")
    write(place / "in/d.csv", "v\n1\n1,2\n")
    (Read("in") | Filter("v > 2") | Write("out/")).run_sync(rejects="rejects.csv")
    found = status("out")
    assert (found.done, found.failed, found.running, found.rejected) == (4, 0, 0, 2)
    failure(Read("in") | Filter("v > 2") | Write("out/"))
    found = status("out")
    assert found.done < 4
    data = json.loads(aiopipe("status", "out", "--json").output)
    assert data["last_run"]["outcome"] == "failed"
    assert data["units"]["failed"] == found.failed
    assert data["running"] is None


def test_status_may_be_asked_while_a_run_is_on(place: Path) -> None:
    script = (
        "import sys, time; from aiopipe import *\n"
        "def slow(row):\n    print('on', flush=True); time.sleep(60); return row\n"
        "(Read('in') | slow | Write('out/')).run_sync(force=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=place)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"on\n"
        found = status("out")
        deadline = time.monotonic() + 20
        while not found.running and time.monotonic() < deadline:  # rows of units begun come within 50 ms
            found = status("out")
        assert found.running == 3
        assert found.holder is not None
        assert found.holder["pid"] == process.pid
        assert f"process {process.pid}" in str(why("out/a.csv"))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    found = status("out")
    assert (found.running, found.unfinished) == (0, 3)
    assert "killed" in str(found)


def test_verify_finds_what_a_signature_does_not_show(place: Path) -> None:
    """A byte that rots leaves size and times as they are: only reading tells."""
    assert verify("out").problems == []
    path = place / "out/a.csv"
    status_ = path.stat()
    data = path.read_bytes()
    with open(path, "r+b") as file:
        file.write(data[:-2] + b"9\n")
    os.utime(path, ns=(status_.st_atime_ns, status_.st_mtime_ns))
    (place / "out/b.csv").unlink()
    before = tree(place / "in")
    done = aiopipe("verify", "out")
    assert done.return_value == 1
    assert "out/a.csv: other bytes (BLAKE3 " in done.output
    assert "out/b.csv: No such file" in done.output
    assert "output damaged" in str(why("out/a.csv"))
    report = (Read("in") | Filter("v > 2") | Write("out/")).run_sync()
    assert (report.files, report.unchanged) == (2, 1)
    assert path.read_bytes() == data
    assert verify("out").problems == []
    assert tree(place / "in") == before


def test_the_commands_have_help() -> None:
    for word in ("why", "status", "verify"):
        assert aiopipe(word, "--help").exit_code == 0
