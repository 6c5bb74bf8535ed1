"""System tests fail, and never skip, where the system lacks what they need: `make test-system` says so."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def strace() -> str:
    found = shutil.which("strace")
    assert found, "strace is needed: apt-get install strace"
    return found


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for 256 KiB."""
    assert os.geteuid() == 0, "root is needed, to mount a small disk"
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)
