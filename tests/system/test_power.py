"""The power is cut at any call that touches the disk: `make test-power`, with a kernel that can do it, and root.

A sample of the points; every one with AIOPIPE_FAULTS=full. See tests/faults/harness/power.py.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.power]
HOME = Path(__file__).parents[2]
FULL = os.environ.get("AIOPIPE_FAULTS") == "full"


def cut(place, variant="", job="mirror", workers=1, sample=8):
    command = [sys.executable, "-m", "tests.faults.harness.power", str(place), f"--variant={variant}", "--job", job]
    command += ["--workers", str(workers), "--sample", "0" if FULL else str(sample)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000, cwd=HOME)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    print(f"power cut at {found['points']} calls: {len(found['wrong'])} wrong")
    assert found["points"] >= 5
    return found["wrong"]


@pytest.mark.parametrize(("job", "workers"), [("mirror", 1), ("mirror", 3), ("one", 1), ("ranges", 1)])
def test_without_power_at_any_call_nothing_is_torn_and_the_next_run_heals(job, workers, tmp_path):
    assert cut(tmp_path, job=job, workers=workers) == []


@pytest.mark.parametrize("variant", ["no-sync", "in-place"])
def test_a_writer_that_does_not_wait_for_the_disk_is_found_out(variant, tmp_path):
    # What is written in place is torn for a few calls only: a sample of them might miss it.
    found = cut(tmp_path, variant, sample=0 if variant == "in-place" else 20)
    assert any("torn" in wrong for wrong in found)
