"""Outputs are whole or absent: on a full disk, and in the order of the system calls."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system
FLIGHTS = Path(__file__).parents[2] / "sample_data" / "flights"
AIOPIPE = [sys.executable, "-m", "aiopipe", "pipe"]


def entries(place: Path) -> set[str]:
    """The files below a place; the ledger's own are no outputs."""
    return {p.name for p in place.rglob("*") if p.is_file() and p.parent.name != ".aiopipe"}


@pytest.mark.parametrize("target", ["out.csv", "out/"])
def test_a_full_disk_fails_and_leaves_whole_outputs_only(small_disk: Path, target: str) -> None:
    (small_disk / "out.csv").write_text("yesterday\n")
    command = [*AIOPIPE, "read", str(FLIGHTS), "then", "write", f"{small_disk}/{target}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert (small_disk / "out.csv").read_text() == "yesterday\n"
    for name in entries(small_disk) - {"out.csv"}:
        assert (small_disk / "out" / name).read_bytes() == (FLIGHTS / name).read_bytes()


def test_a_full_standard_output_is_an_error() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*AIOPIPE, "read", str(FLIGHTS), "then", "write", "-"], stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert done.returncode == 1
    assert b"No space left on device" in done.stderr


def test_an_output_is_on_the_disk_before_it_has_its_name(tmp_path: Path, strace: str) -> None:
    log = tmp_path / "calls"
    source = FLIGHTS / "2013-01-01.csv"
    calls = "trace=fsync,fdatasync,rename,renameat,renameat2,link,linkat,openat"
    command = [strace, "-f", "-y", "-o", str(log), "-e", calls, *AIOPIPE]
    subprocess.run(
        [*command, "read", str(source), "then", "write", str(tmp_path / "out.csv")], check=True, capture_output=True
    )
    order = [line for line in log.read_text().splitlines() if str(tmp_path) in line]
    renamed = next(i for i, c in enumerate(order) if re.search(r"\b(rename|link)\w*\(", c) and "out.csv" in c)
    synced = [i for i, c in enumerate(order) if re.search(r"\bf(data)?sync\(", c)]
    assert any(i < renamed and ".aiopipe" in order[i] for i in synced), order
    assert any(i > renamed and order[i].split("<")[1].startswith(f"{tmp_path}>") for i in synced), order
    assert not any("openat(" in c and "out.csv" in c and "O_WRONLY" in c and ".aiopipe" not in c for c in order)
