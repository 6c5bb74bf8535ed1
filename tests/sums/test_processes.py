from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiopipe.errors import EXIT_DONE
from aiopipe.forking import can_fork
from aiopipe.sums import CacheOptions, Found, HashOptions, Walk
from aiopipe.sums.crew import Remote
from aiopipe.sums.engine import run_batches
from aiopipe.sums.machine import local_devices
from aiopipe.sums.processes import begin
from aiopipe.sums.reader import LARGE, Reader
from aiopipe.sums.runners import Work
from aiopipe.sums.schedule import Job

_where = pytest.mark.skipif(not can_fork(), reason="forks are for Linux, and for a process without other threads")


def forks(test: Callable[..., None]) -> Any:
    """A test of forks: `make test` runs these in a process of their own, for other tests leave threads behind."""
    return pytest.mark.alone(_where(test))


def tree_of(root: Path, count: int, size: int) -> dict[bytes, str]:
    root.mkdir()
    wanted = {}
    for number in range(count):
        data = b"%d" % number * (size // len(b"%d" % number))
        (root / f"{number:05}").write_bytes(data)
        wanted[os.fsencode(root / f"{number:05}")] = hashlib.sha256(data).hexdigest()
    return wanted


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is never safe")
def test_nothing_is_forked_under_a_second_thread():
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        assert not can_fork()
    finally:
        over.set()
        thread.join()


@forks
@pytest.mark.parametrize(("count", "size"), [(1500, 100), (400, 100_000), (5, LARGE + 3)])
@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_forked_workers_give_the_same_results_in_the_same_order(tmp_path: Path, count: int, size: int, jobs: int):
    wanted = tree_of(tmp_path / "tree", count, size)
    walk = Walk([os.fsencode(tmp_path / "tree")])
    options = HashOptions(jobs=jobs, backend="auto")
    found = [(each.path, each.digests[0]) for batch in run_batches(walk, options) for each in batch]
    assert found == sorted(wanted.items())


@forks
def test_workers_are_forked_before_the_cache_is_opened_and_what_they_find_is_remembered(tmp_path: Path):
    wanted = tree_of(tmp_path / "tree", 1500, 100)
    past = time.time() - 100
    for path in wanted:
        os.utime(path, (past, past))
    time.sleep(2.1)  # a digest made sooner after the change of its file is not trusted
    cache = CacheOptions(str(tmp_path / "cache.db"))
    options = HashOptions(jobs=2, backend="auto", cache=cache)
    for how in ("read", "cache"):
        walk = Walk([os.fsencode(tmp_path / "tree")])
        results = [each for batch in run_batches(walk, options) for each in batch]
        assert {each.path: each.digests[0] for each in results} == wanted
        assert {each.how for each in results} == {how}


@forks
def test_a_forked_worker_ends_when_its_input_does_and_says_nothing_of_its_parent_s(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; sys.stdout.write('once'); from aiopipe.sums.processes import begin; worker = begin()\n"
        "worker.close(at_once=False); print(worker.process.poll())\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (EXIT_DONE, "")
    # It had no work: a plain end, without a word, and what the parent had in its buffer is written once.
    assert done.stdout.startswith("once") and done.stdout.count("once") == 1


@forks
def test_a_worker_holds_no_end_of_another_s_pipes():
    first, second = begin(), begin()
    try:
        first.close(at_once=False)  # waits: for ever, had the second one kept the first one's input open
    finally:
        second.close(at_once=True)


def test_a_mapped_file_has_the_digest_of_its_bytes(tmp_path: Path):
    for size in (LARGE + 1, 2 * LARGE, 2 * LARGE + 4097):
        path = tmp_path / f"{size}"
        path.write_bytes(os.urandom(size))
        wanted = hashlib.sha256(path.read_bytes()).hexdigest()
        reader = Reader(("sha256",))
        reader.maps = True
        [result] = reader.run([os.fsencode(path)], alone=True).results
        assert result is not None and result.digests == (wanted,)


@pytest.mark.skipif(not local_devices(), reason="only files of local disks are mapped")
def test_a_mapped_file_that_is_cut_short_costs_a_worker_and_nothing_else(tmp_path: Path, monkeypatch):
    path, marker = tmp_path / "large", tmp_path / "was cut"
    path.write_bytes(b"x" * (4 * LARGE))
    if os.stat(path).st_dev not in local_devices():
        pytest.skip("the tests' directory is on no local disk")
    # What a writer does at the worst moment: between the look at the size and the reading of the first map.
    monkeypatch.setenv("AIOPIPE_TEST_CUT", str(path))
    code = (
        "import mmap, os, sys; sys.path[:] = {path!r}\n"
        "real = mmap.mmap\n"
        "def cut(fd, length, *more, **others):\n"
        "    view = real(fd, length, *more, **others)\n"
        "    if not os.path.exists({marker!r}):\n"
        "        open({marker!r}, 'w').close()\n"
        "        os.truncate(os.environ['AIOPIPE_TEST_CUT'], 1000)\n"
        "    return view\n"
        "mmap.mmap = cut\n"
        "from aiopipe.sums.worker import main; main()\n"
    )
    monkeypatch.setattr("aiopipe.sums.processes.can_fork", lambda: False)
    monkeypatch.setattr("aiopipe.sums.processes._COMMAND", code.replace("{marker!r}", repr(str(marker))))
    remote = Remote(Work(("sha256",)), lambda: False)
    try:
        remote.start(Job(0, 0, [os.fsencode(path)], False, (), True))
        [piece] = remote.finish()[0]
    finally:
        remote.close()
    assert marker.exists()
    [result] = piece.value
    assert result.digests == (hashlib.sha256(b"x" * 1000).hexdigest(),)
    assert result.size == 1000


@forks
def test_large_files_never_stand_in_the_way_of_what_is_printed(tmp_path: Path):
    """The thread that drives the workers hashes small files itself, and no large one."""
    tree_of(tmp_path / "tree", 1500, 100)
    (tmp_path / "tree" / "00001").write_bytes(b"x" * (LARGE + 1))
    seen: list[str] = []

    class Watched(Reader):
        def run(self, paths, **options):
            seen.append("large" if options.get("alone") else "small")
            return super().run(paths, **options)

    import aiopipe.sums.runners as runners

    original = runners.Reader
    runners.Reader = Watched  # type: ignore[misc]
    try:
        walk = Walk([os.fsencode(tmp_path / "tree")])
        files = sum(len(batch) for batch in run_batches(walk, HashOptions(jobs=1, backend="auto")))
    finally:
        runners.Reader = original  # type: ignore[misc]
    assert files == 1500
    assert set(seen) == {"small"}


@forks
def test_a_run_that_is_closed_early_leaves_no_forked_worker(tmp_path: Path):
    tree_of(tmp_path / "tree", 3000, 100)
    items = [Found(b"", [os.fsencode(tmp_path / "tree" / f"{n:05}") for n in range(3000)])]
    batches = run_batches(items, HashOptions(jobs=3, backend="processes"))
    next(batches)
    batches.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
