"""Promise 3: a final path is absent, the old complete file or the new complete one, whatever the disk does."""

import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aiopipe import Filter, Map, OutputError, Read, Write
from aiopipe.errors import AiopipeError
from tests.support import failure, leaves, tree, write

CALLS = ["write", "fsync", "replace", "open", "close"]


@pytest.fixture
def inputs(tmp_path):
    """Small files that travel together, and one that takes several blocks."""
    for i in range(4):
        write(tmp_path / f"in/{i}.csv", "id\n" + f"{i}\n" * 10)
    write(tmp_path / "in/large.csv", "id\n" + "".join(f"{i}\n" for i in range(2000)))
    return tmp_path / "in"


class Failing:
    """Makes the k-th call of an os function that touches an output fail, as a full or broken disk does."""

    def __init__(self, monkeypatch, name, k, code):
        self.name, self.count, self.k, self.code = name, 0, k, code
        self.real, self.ours = getattr(os, name), set()
        self.open = os.open
        if name != "open":
            monkeypatch.setattr(os, "open", self.noting)
        monkeypatch.setattr(os, name, self.call)

    def noting(self, path, flags, *rest, **named):
        fd = self.open(path, flags, *rest, **named)
        (self.ours.add if flags & os.O_WRONLY else self.ours.discard)(fd)
        return fd

    def call(self, first, *rest, **named):
        concerned = first in self.ours if isinstance(first, int) else ".aiopipe-" in str(first)
        if concerned:
            self.count += 1
            if self.count == self.k:
                if self.name == "close":
                    self.real(first)  # the system closes it and reports what went wrong before
                raise OSError(self.code, os.strerror(self.code))
        return self.real(first, *rest, **named)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("to", ["out/", "out/all.csv"])
def test_a_failing_disk_leaves_old_files_or_new_ones_at_every_call(name, to, inputs, tmp_path, monkeypatch):
    """Each call in turn, until the run gets by without reaching the k-th one."""
    (tmp_path / "clean").mkdir()
    pipeline = Read(inputs, block=4000) | Filter("id >= 0")
    (pipeline | Write(f"{tmp_path}/clean/" if to == "out/" else f"{tmp_path}/clean/all.csv")).run_sync()
    new = tree(tmp_path / "clean")
    for k in range(1, 40):
        for path in new:
            write(tmp_path / "out" / path, "old")
        with monkeypatch.context() as patch:
            failing = Failing(patch, name, k, errno.ENOSPC)
            run = pipeline | Write(f"{tmp_path}/{to}")
            if failing_at_all(run, failing, k):
                break
        after = tree(tmp_path / "out")
        assert after.keys() == new.keys()  # and so no temporary is left
        assert all(data in (b"old", new[path]) for path, data in after.items())
        assert b"old" in after.values()
    else:
        raise AssertionError("the run never came to its end")
    assert k > 1
    assert tree(tmp_path / "out") == new


def failing_at_all(run, failing, k):
    """Run it; True when it did not get as far as the failing call, and so ended well."""
    try:
        run.run_sync()
    except BaseException as group:
        [error] = leaves(group)
        assert isinstance(error, OutputError), repr(error)
        assert "No space left on device" in str(error)
        assert "free some space" in str(error)
        assert failing.count >= k
        return False
    assert failing.count < k
    return True


@pytest.mark.parametrize(("to", "k"), [("out.csv", 1), ("out/", 2)])  # into out/, they are written at the end
def test_a_full_disk_under_the_rejects_file_ends_the_run(to, k, tmp_path, monkeypatch):
    path = write(tmp_path / "in.csv", "id\n" + "1,2\n" * 5000)
    write(tmp_path / "rejects.csv", "old")
    Failing(monkeypatch, "write", k, errno.ENOSPC)
    error = failure(Read(path, block=500) | Write(f"{tmp_path}/{to}"), rejects=str(tmp_path / "rejects.csv"))
    assert isinstance(error, AiopipeError)
    assert "No space left" in str(error)
    assert (tmp_path / "rejects.csv").read_text() == "old"


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("to", ["", "all.csv"])
def test_a_disk_that_is_really_full(to, inputs, tmp_path):
    """A file system of 400 KiB, with old outputs on it, and more to write than there is room for."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount")
    try:
        write(inputs / "zz.csv", "id\n" + "123456789\n" * 100_000)
        for name in ("zz.csv", "all.csv"):
            write(disk / name, "old")
        error = failure(Read(inputs, block=4000) | Write(f"{disk}/{to}"))
        assert isinstance(error, OutputError)
        assert "No space left on device" in str(error)
        after = tree(disk)
        assert after["zz.csv"] == after["all.csv"] == b"old"
        for name in after.keys() - {"zz.csv", "all.csv"}:
            assert after[name] == (inputs / name).read_bytes()
        assert list(disk.rglob(".aiopipe-*")) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# Imports once, then forks a victim for every line it is sent: a victim lives for milliseconds.
VICTIMS = """
import os, sys
from aiopipe import Filter, Map, Read, Write
from tests.faults.functions import same
import aiopipe.job.run, aiopipe.sql, aiopipe.stages.write, aiopipe.storage.read, asgiref.sync, duckdb
root, to = sys.argv[1:]
for _ in sys.stdin:
    victim = os.fork()
    if not victim:
        (Read(f"{root}/in", block=4096) | Filter("id >= 0") | Map(same) | Write(f"{root}/{to}")).run_sync()
        os._exit(7)
    print(victim, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1]), flush=True)
"""


@pytest.mark.parametrize("to", ["out/", "out/all.csv"])
def test_a_run_killed_at_any_moment_leaves_only_complete_outputs(to, tmp_path):
    """SIGKILL after a random while, again and again over what the last victim left; then one run to the end."""
    for i in range(30):
        write(tmp_path / f"in/{i:02}.csv", "id\n" + "".join(f"{j}\n" for j in range(200 * i)))
    (tmp_path / "clean").mkdir()
    clean = Read(tmp_path / "in") | Filter("id >= 0") | Map(lambda row: row)
    (clean | Write(f"{tmp_path}/clean/" if to == "out/" else f"{tmp_path}/clean/all.csv")).run_sync()
    new = tree(tmp_path / "clean")
    chance, killed = random.Random(to), 0
    command = [sys.executable, "-c", VICTIMS, str(tmp_path), to]
    home = Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=home) as parent:

        def victim(lives):
            parent.stdin.write("one more\n")
            parent.stdin.flush()
            pid = int(parent.stdout.readline())
            if lives is not None:
                time.sleep(lives)
                with contextlib.suppress(ProcessLookupError):  # it was quicker
                    os.kill(pid, signal.SIGKILL)
            return int(parent.stdout.readline())

        assert victim(None) == 7
        begun = time.monotonic()
        assert victim(None) == 7
        whole = time.monotonic() - begun
        for path in new:
            write(tmp_path / "out" / path, "old")
        for _ in range(10):
            killed += victim(chance.uniform(0, 0.8 * whole)) == -signal.SIGKILL
            visible = {p: d for p, d in tree(tmp_path / "out").items() if ".aiopipe-" not in p}
            assert visible.keys() == new.keys()
            assert all(data in (b"old", new[path]) for path, data in visible.items())
        assert killed > 2
        assert victim(None) == 7
        parent.stdin.close()
    after = tree(tmp_path / "out")
    assert {p: d for p, d in after.items() if ".aiopipe-" not in p} == new
    for left in (tmp_path / "out").glob(".aiopipe-*"):
        left.unlink()  # what a killed process could not remove
