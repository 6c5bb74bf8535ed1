"""Temporaries of killed runs without a ledger go with the next run that writes beside them; those of live ones stay."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aiopipe import Read, Write, held
from aiopipe.cli import main
from aiopipe.storage.write import Temporary, temporary_of
from aiopipe.sums.output import AtomicFile
from tests.support import write

pytestmark = pytest.mark.skipif(not held.may_hold(), reason="no flock here")

WRITER = """
import sys, time
from aiopipe.storage.write import Temporary
from aiopipe.sums.output import AtomicFile
place = sys.argv[1]
one = Temporary(place + "/out.csv", alone=True)
one.write(b"half")
two = AtomicFile(place.encode() + b"/SUMS")
two.__enter__().write(b"half")
print("ready", flush=True)
time.sleep(60)
"""


def temporaries(place: Path) -> list[str]:
    return sorted(n for n in os.listdir(place) if n.startswith(".") and n.endswith("tmp"))


@pytest.fixture
def writer(tmp_path: Path):
    """A process in the midst of writing two files."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def runs(place: Path) -> None:
    """Whoever writes one file in that directory."""
    source = write(place / "in/a.csv", "id\n1\n")
    (Read(source) | Write(f"{place}/other.csv")).run_sync()


def hashes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["hash", write(place / "in/a.csv", "id\n1\n"), "-o", f"{place}/other.sums"]) == 0


@pytest.mark.parametrize("by", ["a run", "a hash"])
def test_what_a_killed_writer_left_is_gone_after_the_next_one(by: str, writer, tmp_path: Path, monkeypatch):
    assert len(temporaries(tmp_path)) == 2
    runs(tmp_path)
    assert len(temporaries(tmp_path)) == 2, "its writer lives"
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    runs(tmp_path) if by == "a run" else hashes(tmp_path, monkeypatch)
    assert temporaries(tmp_path) == []


def test_rejects_and_reports_sweep_their_directory_as_well(writer, tmp_path: Path):
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    source = write(tmp_path / "in/a.csv", "id\n1\n")
    (Read(source) | Write(f"{tmp_path}/out/")).run_sync(report=f"{tmp_path}/report.json")
    assert temporaries(tmp_path) == []


def test_no_other_file_is_taken_for_one(tmp_path: Path):
    strangers = [".aiopipe-1", ".x.tmp", ".x.4711.aiopipe-tmp", ".x.held.tmp", "y.held.tmp", ".held", "notes"]
    for name in strangers:
        write(tmp_path / name, "x")
    odd = {".link.held.aiopipe-tmp", ".fifo.held.aiopipe-tmp"}
    os.symlink(tmp_path / "notes", tmp_path / ".link.held.aiopipe-tmp")
    os.mkfifo(tmp_path / ".fifo.held.aiopipe-tmp")
    held.sweep(str(tmp_path))
    assert {*strangers, *odd} == set(os.listdir(tmp_path))
    os.unlink(tmp_path / ".aiopipe-1")


def test_a_file_is_held_until_it_has_its_name(tmp_path: Path, monkeypatch):
    real, swept = os.replace, []

    def replace(source, target):
        held.sweep(str(tmp_path))
        swept.append(os.path.exists(source))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    one = Temporary(f"{tmp_path}/out.csv", alone=True)
    assert temporary_of(os.path.basename(one.path)) is not None
    one.write(b"whole")
    one.commit()
    with AtomicFile(os.fsencode(tmp_path / "SUMS")) as file:
        file.write(b"whole")
    assert swept == [True, True]
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "SUMS").read_bytes() == b"whole"


def test_one_that_a_sweep_takes_before_it_is_held_is_made_again(tmp_path: Path, monkeypatch):
    real, taken = held.hold, []

    def hold(fd, path):
        if not taken:
            taken.append(path)
            held.sweep(str(tmp_path))
        return real(fd, path)

    monkeypatch.setattr(held, "hold", hold)
    one = Temporary(f"{tmp_path}/out.csv", alone=True)
    assert one.path != taken[0]
    one.write(b"whole")
    one.commit()
    assert (tmp_path / "out.csv").read_bytes() == b"whole"
    assert temporaries(tmp_path) == []


def test_a_file_system_without_locks_has_plain_ones(tmp_path: Path, monkeypatch):
    import errno

    def refuse(fd, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    one = Temporary(f"{tmp_path}/out.csv", alone=True)
    assert held.HELD not in one.path
    one.write(b"whole")
    one.commit()
    with AtomicFile(os.fsencode(tmp_path / "SUMS")) as file:
        assert temporaries(tmp_path) and not any(held.HELD in n for n in temporaries(tmp_path))
        file.write(b"whole")
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "SUMS").read_bytes() == b"whole"
    assert temporaries(tmp_path) == []
