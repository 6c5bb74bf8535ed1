from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from aiopipe.sums import Found, Problem, machine
from aiopipe.sums.machine import choose_backend, cores, lanes_for


def disk(root: Path, name: str, rotational: str, slaves: tuple[str, ...] = (), partition: str = "") -> str:
    """A block device as /sys shows it."""
    device = root / name
    (device / "queue").mkdir(parents=True)
    (device / "queue" / "rotational").write_text(rotational + "\n")
    (device / "slaves").mkdir()
    for slave in slaves:
        (device / "slaves" / slave).symlink_to(root / slave)
    if partition:
        (device / partition).mkdir()
        return str(device / partition)
    return str(device)


@pytest.mark.skipif(sys.platform != "linux", reason="/sys is Linux's")
def test_a_rotating_disk_is_known_also_below_a_partition_and_a_mapper_and_a_virtual_one_is_not_believed(
    tmp_path: Path,
):
    assert machine._rotates(disk(tmp_path, "sda", "1"))
    assert machine._rotates(disk(tmp_path, "sdb", "1", partition="sdb1"))
    assert not machine._rotates(disk(tmp_path, "sdc", "0"))
    assert not machine._rotates(disk(tmp_path, "vda", "1"))
    assert machine._rotates(disk(tmp_path, "dm-0", "1", ("sda",)))
    assert not machine._rotates(disk(tmp_path, "dm-1", "1", ("sdc", "vda")))
    assert not machine._rotates(str(tmp_path / "nothing"))


@pytest.mark.skipif(sys.platform != "linux", reason="mounts are read from /proc")
def test_a_network_file_system_and_a_rotating_disk_get_one_reader(tmp_path: Path, monkeypatch):
    root = os.fsencode(tmp_path)
    monkeypatch.setattr(machine, "_rotates", lambda block: False)
    monkeypatch.setattr(machine, "_file_system", lambda path: "ext4")
    assert lanes_for([root])[0] == cores()
    monkeypatch.setattr(machine, "_file_system", lambda path: "nfs4")
    assert lanes_for([root]) == (1, f"{tmp_path} is on a network file system (nfs4)")
    monkeypatch.setattr(machine, "_file_system", lambda path: "ext4")
    monkeypatch.setattr(machine, "_rotates", lambda block: True)
    assert lanes_for([root]) == (1, f"{tmp_path} is on a rotating disk")


@pytest.mark.skipif(not os.path.exists("/proc/self/mountinfo"), reason="mounts are read from /proc")
def test_the_file_system_of_proc_is_proc():
    assert machine._file_system(b"/proc/self") == "proc"


def runs(root: Path, count: int, size: int) -> list[Found | Problem]:
    (root / "file").write_bytes(b"x" * size)
    return [Found(os.fsencode(root) + b"/", [b"file"] * 1024) for _ in range(count)]


@pytest.mark.parametrize(
    ("count", "size", "lanes", "head", "quick", "expected"),
    [
        (10, 1000, 2, 0, False, ("processes", True)),
        (10, 1000, 1, 0, False, ("threads", True)),
        (2, 1000, 2, 0, False, ("threads", True)),
        (10, 100_000, 2, 0, False, ("threads", True)),
        (10, 100_000, 2, 4096, False, ("processes", True)),
        # Where workers are forked, fewer files pay, and larger ones.
        (1, 1000, 2, 0, True, ("processes", True)),
        (1, 1000, 1, 0, True, ("processes", True)),
        (1, 100_000, 2, 0, True, ("processes", False)),
        (0, 0, 2, 0, True, ("threads", True)),
    ],
)
def test_processes_are_for_what_repays_their_start_and_no_item_is_lost(
    tmp_path: Path, count: int, size: int, lanes: int, head: int, quick: bool, expected: tuple[str, bool]
):
    items = [*runs(tmp_path, count, size), Problem(b"x", "unreadable", "no")]
    backend, helps, whole = choose_backend(iter(items), lanes, head=head, quick=quick)
    assert (backend, helps) == expected
    assert list(whole) == items
