"""What blocks free is there for the next."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aiopipe.memory import keep_freed_memory

FAULTS = """
import resource
from aiopipe.codec.dialect import Dialect
from aiopipe.codec.index import index
from aiopipe.memory import keep_freed_memory
data = b"2013,1,1,517\\n" * 80_000
keep_freed_memory()
for _ in range(5): index(data, Dialect(), 4)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20): index(data, Dialect(), 4)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 20)
"""


def test_block_after_block_is_indexed_without_asking_the_kernel_for_memory():
    told = subprocess.run(
        [sys.executable, "-c", "from aiopipe.memory import *; print(keep_freed_memory())"],
        capture_output=True,
    )
    if told.stdout.strip() != b"True":
        pytest.skip("this C library cannot be told")
    run = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, check=True)
    assert int(run.stdout) < 50


def test_elsewhere_it_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert keep_freed_memory() is False
