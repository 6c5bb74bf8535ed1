"""Disturbed at any call that touches the disk, and run again: the bytes of a run that never was disturbed.

A sample of the points here, with some of each kind of call; every point with `make test-faults-full`, which sets
AIOPIPE_FAULTS=full. The sample is another one every day: a test that fails prints its seed, and AIOPIPE_SEED gives the
same one again. What is done, and what must hold, stands in tests/faults/harness/sweep.py.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import pytest

from tests.faults.harness import seccomp

pytestmark = pytest.mark.skipif(not seccomp.available(), reason="Linux 5.19 holds calls back, others do not")
FULL = os.environ.get("AIOPIPE_FAULTS") == "full"
SEED = os.environ.get("AIOPIPE_SEED") or date.today().isoformat()
HOME = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path):
    """A directory in memory, where there is one: these tests are about the order of calls, not about a disk."""
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="aiopipe-faults-", dir=memory if memory.is_dir() else tmp_path))
    yield root
    shutil.rmtree(root)


def swept(place, *faults, job="mirror", workers=1, sample=0, variant="", needs=2, seed=SEED):
    command = [sys.executable, "-m", "tests.faults.harness.sweep", str(place), "--job", job]
    command += ["--workers", str(workers), "--seed", seed, "--sample", "0" if FULL else str(sample)]
    command += [f"--variant={variant}", *(f"--fault={f}" for f in faults)]
    print(f"AIOPIPE_SEED={seed}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000 if FULL else 120, cwd=HOME)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    for name, one in found.items():
        print(f"{name}: {one['points']} points, {len(one['wrong'])} wrong, exit codes {one['ends']}")
        assert one["points"] >= needs
    return [f"{name} {wrong}" for name, one in found.items() for wrong in one["wrong"]]


@pytest.mark.parametrize(
    ("job", "workers"),
    [("mirror", 1), ("mirror", 3), ("one", 3), ("ranges", 1), ("ranges", 3), ("resumed", 2), ("replay", 1)],
)
def test_a_run_killed_before_any_of_its_calls_is_as_good_as_new_after_the_next_one(job, workers, place):
    assert swept(place, "kill", job=job, workers=workers, sample=10, needs=6) == []


@pytest.mark.parametrize(("job", "workers"), [("mirror", 1), ("one", 3), ("ranges", 2), ("resumed", 1), ("replay", 1)])
def test_any_call_that_fails_ends_in_words_and_is_mended_by_the_next_run(job, workers, place):
    """A full or broken disk, a read-only one, too many open files, interrupted calls, writes cut short."""
    faults = ["enospc", "eio", "eintr", "emfile", "erofs", "short"]
    assert swept(place, *faults, job=job, workers=workers, sample=3) == []


@pytest.mark.parametrize(("job", "workers"), [("mirror", 1), ("mirror", 3), ("one", 1), ("ranges", 3), ("replay", 1)])
def test_an_output_has_its_name_only_when_its_bytes_are_on_a_slow_disk(job, workers, place):
    assert swept(place, "slow", job=job, workers=workers) == []


def test_real_runs_killed_at_random_moments_come_to_the_same_end(place):
    """Threads, worker processes, any stages; 200 seeds in full."""
    seeds = ["--seeds", "200"] if FULL else ["--first", "17", "--seeds", "3"]
    command = [sys.executable, "-m", "tests.faults.harness.kills", str(place), *seeds]
    done = subprocess.run(command, capture_output=True, text=True, timeout=6000 if FULL else 300, cwd=HOME)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    print(f"{found['points']} runs killed")
    assert found["wrong"] == []
    assert found["points"] >= 3


def test_of_a_large_file_no_more_is_done_again_than_what_came_after_the_last_range(place):
    """Any stages that remember nothing; 100 seeds in full."""
    seeds = ["--seeds", "100"] if FULL else ["--first", "3", "--seeds", "3"]
    command = [sys.executable, "-m", "tests.faults.harness.ranges", str(place), *seeds]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000 if FULL else 120, cwd=HOME)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    print(f"{found['points']} runs killed, {found['spared']:,} records not done again")
    assert found["wrong"] == []
    assert found["points"] >= 3
    assert found["spared"]


def test_a_range_that_is_noted_before_its_bytes_are_on_the_disk_is_found_out(place):
    wrong = swept(place, "slow", job="ranges", variant="early-range")
    assert any("its bytes are not synced" in one for one in wrong)


def test_a_writer_that_writes_in_place_is_found_out(place):
    # Of the calls of such a run every fifth is the moment; of those that this seed gives, every second.
    assert any("torn" in wrong for wrong in swept(place, "kill", variant="in-place", sample=10, seed="170"))


def test_a_writer_that_does_not_sync_is_found_out(place):
    assert any("bytes are not synced" in wrong for wrong in swept(place, "slow", variant="no-sync"))
