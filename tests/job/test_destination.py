"""One writer at a time, and nothing of a killed run left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aiopipe import InputError, LockedError, Map, Read, Write
from aiopipe.job.destination import lock_path
from aiopipe.job.ledger import Ledger, open_ledger
from aiopipe.job.lock import Lock, holder_of
from aiopipe.job.operations import begin_units
from tests.support import failure, tree, write

HELD = """
import sys, time
from aiopipe.job.destination import Destination
from aiopipe.storage.write import Temporary
destination = Destination(sys.argv[1], [sys.argv[2]])
Temporary(sys.argv[1] + "/sub/x.csv").write(b"half")
Temporary(sys.argv[2]).write(b"half")
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write(tmp_path / "in/a.csv", "v\n1\n")
    (tmp_path / "elsewhere").mkdir()
    return tmp_path


def holder(place: Path) -> subprocess.Popen[bytes]:
    """Another process in the middle of a run into out/, with temporaries there and beside its rejects file."""
    argv = [sys.executable, "-c", HELD, str(place / "out"), str(place / "elsewhere/rejects.csv")]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def temporaries(place: Path) -> list[str]:
    return sorted(p.relative_to(place).as_posix() for p in place.rglob(".aiopipe-*"))


def test_a_second_run_is_told_who_holds_the_destination(place: Path) -> None:
    process = holder(place)
    try:
        error = failure(Read(place / "in") | Write(f"{place}/out/"))
        assert isinstance(error, LockedError)
        assert f"{place}/out/ is being written by process {process.pid} on " in str(error)
        assert ", since 20" in str(error)
        assert error.hint
        assert error.exit_code == 1
        assert not (place / "out/a.csv").exists()
        assert len(temporaries(place)) == 2  # the other run's: it lives
    finally:
        ended(process)
    assert (Read(place / "in") | Write(f"{place}/out/")).run_sync().files == 1
    assert temporaries(place) == []


def test_two_runs_of_one_program_keep_out_of_each_others_way(place: Path) -> None:
    inside, outside = threading.Event(), threading.Event()

    def wait(row: dict[str, str]) -> dict[str, str]:
        inside.set()
        assert outside.wait(20)
        return row

    first = threading.Thread(target=lambda: (Read(place / "in") | Map(wait) | Write(f"{place}/out/")).run_sync())
    first.start()
    try:
        assert inside.wait(20)
        error = failure(Read(place / "in") | Write(f"{place}/out/"))
        assert isinstance(error, LockedError)
        assert f"process {os.getpid()}" in str(error)
        (Read(place / "in") | Write(f"{place}/other/")).run_sync()
    finally:
        outside.set()
        first.join()
    assert tree(place / "out") == {"a.csv": b"v\n1\n"}


def test_a_killed_run_leaves_no_lock_and_its_temporaries_go_with_the_next_run(place: Path) -> None:
    ended(holder(place))
    assert len(temporaries(place)) == 2
    # Not ours to remove: names like ours of a run that is not on record, and of a user.
    strangers = [write(place / f"out/{n}", "x") for n in (".aiopipe-1-00000000-0.tmp", ".aiopipe-notes", "x.tmp")]
    assert holder_of(lock_path(f"{place}/out")) is None
    (Read(place / "in") | Write(f"{place}/out/")).run_sync()
    assert temporaries(place) == ["out/.aiopipe-1-00000000-0.tmp", "out/.aiopipe-notes"]
    for path in strangers:
        os.unlink(path)


def test_a_run_into_another_directory_touches_nothing_of_a_killed_one(place: Path) -> None:
    ended(holder(place))
    (Read(place / "in") | Write(f"{place}/other/")).run_sync(rejects=f"{place}/elsewhere/rejects.csv")
    assert len(temporaries(place)) == 2
    (Read(place / "in") | Write(f"{place}/out/")).run_sync()


def test_the_holder_is_known_while_it_holds(place: Path) -> None:
    path = str(place / "lock")
    assert holder_of(path) is None
    lock = Lock(path, "out/")
    try:
        found = holder_of(path)
        assert found is not None
        assert found["pid"] == os.getpid()
        with pytest.raises(LockedError):
            Lock(path, "out/")
    finally:
        lock.close()
    assert holder_of(path) is None


def test_asking_who_holds_the_lock_keeps_nobody_out(place: Path) -> None:
    path = str(place / "lock")
    asked = threading.Event()

    def ask() -> None:
        while not asked.is_set():
            assert (holder_of(path) or {"pid": None})["pid"] in (None, os.getpid())

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(50):
            Lock(path, "out/").close()
    finally:
        asked.set()
        asking.join()


def test_a_lock_whose_text_is_torn_still_holds(place: Path) -> None:
    path = str(place / "lock")
    lock = Lock(path, "out/")
    try:
        Path(path).write_text(json.dumps({"pid": 1})[:4])
        with pytest.raises(LockedError, match="another run"):
            Lock(path, "out/")
    finally:
        lock.close()


@pytest.mark.parametrize("harm", [b"", b"no database at all, but long enough to be looked at" * 40])
def test_a_ledger_that_is_none_is_told(harm: bytes, place: Path) -> None:
    (Read(place / "in") | Write(f"{place}/out/")).run_sync()
    (place / "out/.aiopipe/ledger.db").write_bytes(harm)
    if not harm:  # empty: a new one, and everything is done again
        assert (Read(place / "in") | Write(f"{place}/out/")).run_sync().files == 1
        return
    error = failure(Read(place / "in") | Write(f"{place}/out/"))
    assert "ledger" in str(error)
    assert "remove .aiopipe/" in str(error)
    assert holder_of(lock_path(f"{place}/out")) is None


def test_a_ledger_writes_in_order_and_together(tmp_path: Path) -> None:
    (tmp_path / ".aiopipe").mkdir()
    ledger = Ledger(str(tmp_path))
    seen: list[int] = []
    for i in range(100):
        ledger.submit(lambda c, i=i: seen.append(i))
    assert ledger.ask(lambda c: c.in_transaction)
    assert seen == list(range(100))
    ledger.close()


def test_an_operation_that_fails_undoes_its_company_and_is_told_to_all(tmp_path: Path) -> None:
    (tmp_path / ".aiopipe").mkdir()
    ledger = Ledger(str(tmp_path))
    row = {"path": b"a", "start": -1, "stop": -1, "run": 1, "number": 0, "pipeline": 1, "source": b"", "why": "new"}
    ledger.submit(begin_units([row]))
    number = ledger.submit(lambda c: c.execute("INSERT INTO nowhere VALUES (1)"))
    with pytest.raises(Exception, match="cannot write the ledger"):
        ledger.wait(number)
    with pytest.raises(Exception, match="cannot write the ledger"):
        ledger.submit(begin_units([row]))
    with pytest.raises(Exception, match="cannot write the ledger"):
        ledger.close()
    reader = open_ledger(str(tmp_path))
    assert list(reader.units()) == []
    reader.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals")
def test_killed_at_random_moments_and_run_again_the_outputs_are_the_same(tmp_path: Path) -> None:
    """A short version of the sweeps: kill, look, run on, until it is done."""
    for i in range(60):
        write(tmp_path / f"in/{i:02}.csv", "v\n" + f"{i}\n" * 50)
    (Read(tmp_path / "in") | Write(f"{tmp_path}/clean/")).run_sync()
    script = (
        "import sys; from aiopipe import *; from aiopipe.storage import read; read.GROUP = 4;"
        "print('begun', flush=True); (Read(sys.argv[1]) | Write(sys.argv[2])).run_sync()"
    )
    kills = 0
    for pause in (0.05, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2, 0.25, 0.3, 0.4):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "in"), f"{tmp_path}/out/"], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(pause)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        process.stdout.close()
        check(tmp_path / "out", tree(tmp_path / "clean"))
    (Read(tmp_path / "in") | Write(f"{tmp_path}/out/")).run_sync()
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")
    assert kills


def check(out: Path, clean: dict[str, bytes]) -> None:
    """Outputs are absent or complete, and each row that says done is right."""
    if not (out / ".aiopipe/ledger.db").exists():
        return
    found = {n: d for n, d in tree(out).items() if not n.startswith(".aiopipe-")}
    assert found.items() <= clean.items()
    try:
        ledger = open_ledger(str(out))
    except InputError:  # killed before it had any table
        assert found == {}
        return
    for unit in ledger.units():
        if unit.state == "done":
            assert all(os.fsdecode(o.path) in found for o in unit.outputs)
    ledger.close()
