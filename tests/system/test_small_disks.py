"""Disks that are too small, have no room for names, or may only be read: words, old outputs, and a cure."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.system
AIOPIPE = [sys.executable, "-m", "aiopipe", "pipe"]


@pytest.fixture
def mounted(tmp_path):
    """A file system in memory with these options; as a function, so that a test may choose them."""
    assert os.geteuid() == 0, "root is needed, to mount a small disk"
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
        return place

    yield mount
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def inputs(tmp_path):
    """Twelve files of 200 KB, and one of 600 KB."""
    into = tmp_path / "in"
    into.mkdir()
    for i in range(12):
        (into / f"{i:02}.csv").write_text("id,text\n" + f"{i},{'x' * 90}\n" * 2000)
    (into / "zz.csv").write_text("id,text\n" + f"z,{'x' * 90}\n" * 6000)
    return into


def run(inputs, target, *options, code):
    command = [*AIOPIPE, *options, "read", str(inputs), "--block", "100KB", "then", "write", f"{target}/"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    return done.stderr


def outputs(place):
    return {p.name: p.read_bytes() for p in place.rglob("*.csv")}


def temporaries(place):
    return list(place.rglob(".aiopipe-*"))


def whole(inputs, place, old):
    """Every visible output is old or complete."""
    for name, data in outputs(place).items():
        assert data in (old.get(name), (inputs / name).read_bytes()), name


@pytest.mark.parametrize(
    ("options", "cure"), [("size=1m", "size=20m"), ("size=20m,nr_inodes=5", "size=20m,nr_inodes=500")]
)
@pytest.mark.parametrize("workers", ["1", "3"])
def test_a_disk_without_room_for_bytes_or_names(options, cure, workers, mounted, inputs):
    place = mounted(options)
    old = {"zz.csv": b"yesterday\n"}
    (place / "zz.csv").write_bytes(old["zz.csv"])
    said = run(inputs, place, "--workers", workers, code=1)
    assert "No space left on device" in said
    assert str(place) in said
    assert "next: " in said
    assert "Traceback" not in said
    assert outputs(place)["zz.csv"] == old["zz.csv"]
    whole(inputs, place, old)
    assert temporaries(place) == []
    subprocess.run(["mount", "-o", f"remount,{cure}", str(place)], check=True)
    run(inputs, place, "--workers", workers, code=0)
    assert outputs(place) == outputs(inputs)
    assert temporaries(place) == []


def test_a_disk_that_may_only_be_read(mounted, inputs):
    place = mounted("size=20m")
    (place / "zz.csv").write_text("yesterday\n")
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    said = run(inputs, place, code=1)
    assert "Read-only file system" in said
    assert "next: " in said
    assert "Traceback" not in said
    assert outputs(place) == {"zz.csv": b"yesterday\n"}
    subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
    run(inputs, place, code=0)
    assert outputs(place) == outputs(inputs)


def test_a_destination_on_another_disk_gets_its_temporaries_there(mounted, inputs, tmp_path):
    place = mounted("size=20m")
    assert place.stat().st_dev != inputs.stat().st_dev
    run(inputs, place / "deep/out", code=0)
    assert outputs(place) == outputs(inputs)
    (tmp_path / "link").symlink_to(place)
    run(inputs, tmp_path / "link/through", code=0)
    assert outputs(place / "through") == outputs(inputs)
