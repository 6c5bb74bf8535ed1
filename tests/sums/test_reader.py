from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from aiopipe.sums import reader
from aiopipe.sums.machine import local_devices
from aiopipe.sums.reader import LARGE, SMALL, TINY, Reader

from .conftest import regular_files


def one(path: Path, *algorithms: str, **options):
    [result] = Reader(algorithms or ("sha256",)).run([os.fsencode(path)], **{"alone": True, **options}).results
    return result


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, SMALL, SMALL + 1, LARGE, LARGE + 1])
def test_a_digest_is_that_of_hashlib_at_every_size_where_the_path_through_the_code_changes(tmp_path: Path, size: int):
    data = os.urandom(size)
    (tmp_path / "f").write_bytes(data)
    result = one(tmp_path / "f", "sha256", "md5")
    assert result.digests == (hashlib.sha256(data).hexdigest(), hashlib.md5(data).hexdigest())
    assert (result.status, result.size) == ("ok", size)


def test_every_file_of_a_hostile_tree_has_the_digest_of_its_bytes(hostile: Path):
    paths = regular_files(hostile)
    results = Reader(("sha1",)).run(paths, alone=True, seconds=60).results
    for path, result in zip(paths, results, strict=True):
        with open(path, "rb") as file:
            assert result.digests == (hashlib.sha1(file.read()).hexdigest(),)


def test_a_large_file_is_handed_back_unless_it_is_alone(tmp_path: Path):
    with open(tmp_path / "big", "wb") as file:
        file.truncate(LARGE + 1)
    (tmp_path / "small").write_bytes(b"x")
    paths = [os.fsencode(tmp_path / "big"), os.fsencode(tmp_path / "small")]
    big, small = Reader(("md5",)).run(paths).results
    assert big is None
    assert small.ok


def test_a_fifo_and_a_socket_never_hang_and_say_what_they_are(hostile: Path):
    assert (one(hostile / "fifo").status, one(hostile / "fifo").reason) == ("irregular", "it is a FIFO")
    assert one(hostile / "socket").status == "irregular"
    assert one(hostile / "sub").reason == "it is a directory"
    assert one(Path("/dev/null")).reason == "it is a device"


def test_a_symlink_is_refused_unless_asked_for(hostile: Path):
    assert one(hostile / "to file").status == "irregular"
    assert one(hostile / "to file", follow=True).ok
    assert one(hostile / "dangling", follow=True).status == "vanished"


def test_a_file_that_is_gone_is_a_result(tmp_path: Path):
    assert one(tmp_path / "gone").status == "vanished"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_a_result(tmp_path: Path):
    (tmp_path / "closed").write_bytes(b"x")
    (tmp_path / "closed").chmod(0)
    assert one(tmp_path / "closed").status == "unreadable"


def test_hard_links_are_read_once(tmp_path: Path):
    (tmp_path / "a").write_bytes(os.urandom(100_000))
    os.link(tmp_path / "a", tmp_path / "b")
    counted: list[int] = []
    reader = Reader(("sha256",), on_bytes=counted.append)
    first, second = reader.run([os.fsencode(tmp_path / "a"), os.fsencode(tmp_path / "b")]).results
    assert first.digests == second.digests
    assert (first.how, second.how) == ("read", "link")
    assert sum(counted) == 100_000


def test_a_hard_link_changed_meanwhile_is_read_again(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"before")
    os.link(tmp_path / "a", tmp_path / "b")
    reader = Reader(("sha256",))
    reader.run([os.fsencode(tmp_path / "a")])
    (tmp_path / "a").write_bytes(b"after!")
    [result] = reader.run([os.fsencode(tmp_path / "b")]).results
    assert result.digests == (hashlib.sha256(b"after!").hexdigest(),)


class Meddler:
    """Reads like `os.read`, and changes the file after so many reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, change, times: int) -> None:
        self.left = times
        for name in ("read", "pread", "readv"):
            monkeypatch.setattr(os, name, self.wrap(getattr(os, name), change))

    def wrap(self, real, change):
        def meddling(fd, *size):
            got = real(fd, *size)
            if self.left:
                self.left -= 1
                change()
            return got

        return meddling


@pytest.mark.parametrize("size", [10, 300_000, 3_000_000])
@pytest.mark.parametrize("kind", ["rewritten", "grown", "shrunk", "touched back"])
def test_a_file_changed_once_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch, size: int, kind: str):
    path = tmp_path / "f"
    path.write_bytes(b"a" * size)
    old = path.stat()

    def change() -> None:
        if kind == "rewritten":
            path.write_bytes(b"b" * size)
        elif kind == "grown":
            with path.open("ab") as file:
                file.write(b"more")
        elif kind == "shrunk":
            os.truncate(path, size // 2)
        else:
            path.write_bytes(b"c" * size)
            os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))

    Meddler(monkeypatch, change, 1)
    result = one(path)
    assert result.ok
    assert result.digests == (hashlib.sha256(path.read_bytes()).hexdigest(),)


@pytest.mark.parametrize("size", [10, 300_000, 3_000_000])
def test_a_file_changed_all_the_while_is_unstable(tmp_path: Path, monkeypatch, size: int):
    path = tmp_path / "f"
    path.write_bytes(b"a" * size)
    time.sleep(0.03)

    def change() -> None:
        with path.open("r+b") as file:
            file.write(os.urandom(4))

    Meddler(monkeypatch, change, 1000)
    assert one(path).status == "unstable"


def test_a_file_that_grows_for_ever_is_given_up(tmp_path: Path, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(b"a" * 300_000)

    def grow() -> None:
        with path.open("ab") as file:
            file.write(b"x" * 300_000)

    Meddler(monkeypatch, grow, 1000)
    assert one(path).status == "unstable"
    assert path.stat().st_size < 100_000_000


def settled(path: Path) -> None:
    """Wait until the file's last change is no longer recent, as that of most files is not."""
    while time.time_ns() - path.stat().st_ctime_ns < 250_000_000:
        time.sleep(0.01)


def listed(path: Path, *algorithms: str):
    """As a file that a walk found: the quickest way through the code."""
    [result] = Reader(algorithms or ("sha256",)).run([os.fsencode(path)]).results
    return result


@pytest.mark.parametrize("size", [1, TINY, TINY + 1, SMALL, SMALL + 1])
def test_a_listed_file_has_the_digest_and_the_signature_that_a_named_one_has(tmp_path: Path, size: int):
    (tmp_path / "f").write_bytes(os.urandom(size))
    settled(tmp_path / "f")
    assert listed(tmp_path / "f", "sha256", "md5") == one(tmp_path / "f", "sha256", "md5")


@pytest.mark.parametrize("kind", ["rewritten", "grown", "shrunk", "touched back"])
def test_a_listed_file_changed_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch, kind: str):
    path = tmp_path / "f"
    path.write_bytes(b"a" * 100)
    old = path.stat()
    settled(path)

    def change() -> None:
        if kind == "grown":
            with path.open("ab") as file:
                file.write(b"more")
        elif kind == "shrunk":
            os.truncate(path, 50)
        else:
            path.write_bytes(b"b" * 100)
            if kind == "touched back":
                os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))

    meddler = Meddler(monkeypatch, change, 1)
    result = listed(path)
    assert meddler.left == 0
    assert (result.status, result.digests) == ("ok", (hashlib.sha256(path.read_bytes()).hexdigest(),))


@pytest.mark.skipif(not local_devices(), reason="the quickest way is taken on Linux alone")
def test_one_look_is_enough_only_where_times_are_fine_and_this_machine_s_own(tmp_path: Path, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(b"a" * 100)
    settled(path)
    looks = []
    real = os.fstat
    monkeypatch.setattr(os, "fstat", lambda fd: looks.append(fd) or real(fd))
    assert listed(path).ok and len(looks) == 1
    monkeypatch.setattr(reader, "local_devices", frozenset)  # a file system whose clock is another's
    looks.clear()
    assert listed(path).ok and len(looks) == 2


@pytest.mark.skipif(not local_devices(), reason="the quickest way is taken on Linux alone")
def test_a_clock_that_was_set_back_makes_it_look_twice(tmp_path: Path, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(b"a" * 100)
    settled(path)
    looks = []
    real = os.fstat
    now = time.time_ns
    back = iter([0, *[3600 * 10**9] * 1000])
    monkeypatch.setattr(os, "fstat", lambda fd: looks.append(fd) or real(fd))
    monkeypatch.setattr(time, "time_ns", lambda: now() - next(back))
    assert listed(path).ok and len(looks) == 3


@pytest.mark.skipif(not local_devices(), reason="the quickest way is taken on Linux alone")
def test_a_pipe_that_took_the_place_of_a_listed_file_never_hangs_and_one_that_was_named_loses_nothing(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    assert listed(tmp_path / "pipe").status == "irregular"
    keep = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        os.write(keep, b"meant for others")
        assert one(tmp_path / "pipe").status == "irregular"
        assert os.read(keep, 100) == b"meant for others"
        assert listed(tmp_path / "pipe").status == "irregular"
    finally:
        os.close(keep)


def test_a_change_within_the_same_clock_tick_is_caught(tmp_path: Path):
    """A file changed just now is read only once a further change would show in its times."""
    path = tmp_path / "f"
    for _ in range(20):
        path.write_bytes(b"first ")
        result = one(path)
        path.write_bytes(b"second")
        assert result.signature.ctime_ns < path.stat().st_ctime_ns
        assert result.digests == (hashlib.sha256(b"first ").hexdigest(),)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says that a write is in progress")
def test_a_real_writer_beside_a_real_reader_never_gets_a_false_digest(tmp_path: Path):
    path = tmp_path / "f"
    size = 2_000_000
    path.write_bytes(b"\0" * size)
    over = threading.Event()

    def write() -> None:
        with path.open("r+b") as file:
            fill = 0
            while not over.is_set():
                fill = (fill + 1) % 256
                file.seek(0)
                file.write(bytes([fill]) * size)
                file.flush()

    whole = {hashlib.sha256(bytes([fill]) * size).hexdigest() for fill in range(256)}
    thread = threading.Thread(target=write)
    thread.start()
    try:
        results = [one(path) for _ in range(40)]
    finally:
        over.set()
        thread.join()
    assert {result.status for result in results} <= {"ok", "unstable"}
    assert all(result.digests[0] in whole for result in results if result.ok)
    assert any(result.status == "unstable" for result in results)


def test_a_run_ends_when_its_time_is_up(tmp_path: Path):
    paths = []
    for number in range(10):
        (tmp_path / str(number)).write_bytes(b"x")
        paths.append(os.fsencode(tmp_path / str(number)))
    time.sleep(0.03)
    assert len(Reader(("md5",)).run(paths, seconds=0).results) == 1


def test_a_stopped_reader_leaves_a_large_file_at_its_next_block(tmp_path: Path):
    with open(tmp_path / "big", "wb") as file:
        file.truncate(1 << 40)
    time.sleep(0.03)
    begin = time.monotonic()
    reader = Reader(("md5",), stopped=lambda: time.monotonic() > begin + 0.05)
    assert reader.run([os.fsencode(tmp_path / "big")], alone=True).results == []
    assert time.monotonic() - begin < 5


def test_a_file_of_proc_is_what_it_says_now():
    path = Path("/proc/version")
    if not path.exists():
        pytest.skip("no /proc here")
    result = one(path)
    assert result.digests == (hashlib.sha256(path.read_bytes()).hexdigest(),)
