from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiopipe.sums import twins
from aiopipe.sums.reader import BLOCK, TINY
from aiopipe.sums.twins import Sizes, Twins, family, family_size

WHOLE = 1 << 20

pytestmark = pytest.mark.skipif(not hasattr(os, "readv"), reason="files are compared where the clock is known: Linux")


@pytest.fixture(autouse=True)
def old(monkeypatch):
    """The files of a test count as older than they are: what changed a moment ago is not judged."""
    monkeypatch.setattr(twins, "RECENT_NS", -(10**12))


def written(folder: Path, *contents: bytes) -> list[bytes]:
    paths = [os.fsencode(folder / f"{number:03}") for number in range(len(contents))]
    for path, data in zip(paths, contents, strict=True):
        with open(path, "wb") as file:
            file.write(data)
    return paths


def classes(paths: list[bytes], size: int, *names: str):
    """What is said of one family: a digest and the places of the members."""
    [found] = Twins(names).run([family(size, paths)]).results
    return found is not False and [(digest, [member[0] for member in members]) for digest, members in found]


@pytest.mark.parametrize("size", [1, TINY - 1, TINY, TINY + 1, BLOCK, BLOCK + 1, 3 * BLOCK - 5, WHOLE])
@pytest.mark.parametrize("differs_at", [0, -1])
def test_files_are_the_same_when_every_byte_is(tmp_path: Path, size: int, differs_at: int):
    data = os.urandom(size)
    other = bytearray(data)
    other[differs_at] ^= 1
    assert classes(written(tmp_path, data, data, bytes(other), data), size) == [("", [0, 1, 3])]


def test_large_files_that_begin_alike_are_handed_back_to_be_hashed(tmp_path: Path):
    size = WHOLE + 1
    paths = written(tmp_path, b"a" * size, b"a" * (size - 1) + b"b", b"b" * size)
    assert classes(paths, size) == [(None, [0, 1])]


def test_what_differs_from_the_first_but_may_be_the_same_as_another_is_handed_back(tmp_path: Path):
    head = b"h" * (TINY + 1)
    paths = written(tmp_path, head + b"1", head + b"2", head + b"1", head + b"2", head + b"3")
    assert classes(paths, TINY + 2) == [("", [0, 2]), (None, [1, 3, 4])]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.sampled_from([b"aa", b"ab", b"ba", b"bb", *(b"%02d" % each for each in range(60))]), max_size=60))
def test_a_family_falls_into_its_contents_however_many_are_open_at_a_time(tmp_path: Path, contents: list[bytes]):
    plain: dict[bytes, list[int]] = {}
    for place, data in enumerate(contents):
        plain.setdefault(data, []).append(place)
    wanted = [("", places) for places in plain.values() if len(places) > 1]
    before = len(os.listdir("/proc/self/fd"))
    assert classes(written(tmp_path, *contents), 2) == wanted
    assert len(os.listdir("/proc/self/fd")) == before


def test_names_of_one_inode_are_not_read_twice(tmp_path: Path, monkeypatch):
    size = TINY + 1
    paths = written(tmp_path, b"x" * size)
    for number in range(3):
        os.link(paths[0], paths[0] + b"%d" % number)
        paths.append(paths[0] + b"%d" % number)
    monkeypatch.setattr(os, "readv", None)
    assert classes(paths, size) == []


@pytest.mark.parametrize("size", [4, TINY + 4, BLOCK + 4])
def test_a_class_has_its_digest_and_the_versions_of_its_members(tmp_path: Path, size: int):
    import hashlib

    paths = written(tmp_path, b"x" * size, b"x" * size)
    [[(digest, members)]] = Twins(("sha256",)).run([family(size, paths)]).results
    assert digest == hashlib.sha256(b"x" * size).hexdigest()
    stats = [os.stat(path) for path in paths]
    assert members == [(n, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev) for n, s in enumerate(stats)]


@pytest.mark.parametrize("odd", ["grown", "cut", "gone", "fifo", "symlink", "recent", "elsewhere", "collision"])
@pytest.mark.parametrize("size", [4, TINY + 4])
def test_nothing_is_said_of_a_family_with_something_odd_in_it(tmp_path: Path, odd: str, size: int, monkeypatch):
    paths = written(tmp_path, b"x" * size, b"x" * size, b"y" * size)
    last = Path(os.fsdecode(paths[2]))
    if odd == "grown":
        last.write_bytes(b"y" * (size + 1))
    elif odd == "cut":
        last.write_bytes(b"y")
    elif odd == "recent":
        monkeypatch.setattr(twins, "RECENT_NS", 10**12)
    elif odd == "elsewhere":
        monkeypatch.setattr(twins, "local_devices", frozenset)
    elif odd != "collision":
        last.unlink()
    if odd == "fifo":
        os.mkfifo(last)
    elif odd == "symlink":
        last.symlink_to(os.fsdecode(paths[0]))
    reader = Twins()
    if odd == "collision":
        reader._quick = lambda data: 0
    if odd in ("grown", "cut") and size > TINY:
        return  # of these only the beginning is read, and it is like no other
    assert reader.run([family(size, paths)]).results == [False]


def test_a_file_that_changes_while_it_is_compared_is_odd(tmp_path: Path, monkeypatch):
    size = BLOCK
    paths = written(tmp_path, b"x" * size, b"x" * size)
    filled = twins._filled

    def meddling(fd: int, view: memoryview) -> bool:
        answer = filled(fd, view)
        os.utime(paths[0])
        return answer

    monkeypatch.setattr(twins, "_filled", meddling)
    assert classes(paths, size) is False


def test_a_clock_that_was_set_back_makes_everything_odd(tmp_path: Path, monkeypatch):
    times = iter([10**18, 10**18 - 10**12])
    paths = written(tmp_path, b"x", b"x")
    monkeypatch.setattr(twins.time, "time_ns", lambda: next(times))
    assert classes(paths, 1) is False


def test_families_that_there_is_no_time_for_are_left_over(tmp_path: Path):
    paths = written(tmp_path, b"x", b"x")
    assert len(Twins().run([family(1, paths)] * 5, seconds=-1).results) == 1


def test_a_family_is_measured_by_what_is_read_of_it():
    assert family_size(family(10, [b"a", b"b", b"c"])) == 30
    assert family_size(family(1 << 40, [b"a", b"b"])) == 2 * TINY


def test_a_path_without_a_size_is_minus_one_and_the_others_have_theirs(tmp_path: Path):
    paths = [*written(tmp_path, b"four"), os.fsencode(tmp_path / "nowhere")]
    assert Sizes().run(paths).results == [4, -1]
    (tmp_path / "link").symlink_to("000")
    link = [os.fsencode(tmp_path / "link")]
    assert Sizes().run(link, follow=True).results == [4]
    assert Sizes().run(link).results != [4]
