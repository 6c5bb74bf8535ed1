"""Runs into a table, killed and run again: the rows of a run that never was disturbed, and notes that are true."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.harness import seccomp

pytestmark = pytest.mark.skipif(not seccomp.available(), reason="the harness needs Linux")
FULL = os.environ.get("AIOPIPE_FAULTS") == "full"
HOME = Path(__file__).parents[2]


def wrong(place, *options):
    command = [sys.executable, "-m", "tests.faults.harness.tables", str(place), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=6000 if FULL else 300, cwd=HOME)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    print(f"{found['points']} kills, {len(found['wrong'])} wrong")
    assert found["points"] >= (1 if "--variant" in options else 5)
    return found["wrong"]


def test_tables_of_killed_runs_sweeps_come_to_the_same_rows(tmp_path):
    """200 seeds in full."""
    assert wrong(tmp_path, "--seeds", "200" if FULL else "6") == []


def test_notes_in_a_transaction_of_their_own_are_found_out(tmp_path):
    assert wrong(tmp_path, "--seeds", "4", "--variant", "two-transactions") != []
