from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from aiopipe.errors import InputError, OutputError, UsageError
from aiopipe.sums import CacheOptions, hash_files
from aiopipe.sums.cache import CacheWriter, duration

from .conftest import regular_files
from .test_hash_command import AIOPIPE, aiopipe, wait_for


def tree(root: Path, count: int = 40) -> Path:
    for number in range(count):
        (root / "t" / str(number % 4)).mkdir(parents=True, exist_ok=True)
        (root / "t" / str(number % 4) / str(number)).write_bytes(b"%d" % number)
    return root / "t"


def age(cache: Path, seconds: float) -> None:
    """As if everything in the cache had been hashed later (or earlier, below zero) than it was."""
    with sqlite3.connect(cache) as connection:
        connection.execute("UPDATE digests SET hashed_at_ns = hashed_at_ns + ?", (int(seconds * 1e9),))
    connection.close()


def run(root: Path, cache: Path, algorithms=("sha256",), **options):
    backend = options.pop("backend", "threads")

    async def main():
        found = hash_files(root, algorithms, cache=CacheOptions(str(cache), **options), backend=backend)
        return [result async for result in found]

    return asyncio.run(main())


def hows(results) -> set[str]:
    return {result.how for result in results}


@pytest.mark.parametrize("backend", ["threads", "processes"])
@pytest.mark.parametrize("algorithms", [("sha256",), ("md5", "sha256")])
def test_what_is_unchanged_is_not_read_and_has_the_same_digests(tmp_path: Path, backend, algorithms):
    root, cache = tree(tmp_path), tmp_path / "c.db"
    first = run(root, cache, algorithms, backend=backend)
    age(cache, 10)
    second = run(root, cache, algorithms, backend=backend)
    assert (hows(first), hows(second)) == ({"read"}, {"cache"})
    assert [(each.path, each.digests, each.signature) for each in first] == [
        (each.path, each.digests, each.signature) for each in second
    ]


def test_a_file_changed_within_two_seconds_of_its_hashing_is_read_again(tmp_path: Path):
    root, cache = tree(tmp_path), tmp_path / "c.db"
    run(root, cache)
    assert hows(run(root, cache)) == {"read"}


def test_only_what_changed_is_read(tmp_path: Path):
    root, cache = tree(tmp_path), tmp_path / "c.db"
    run(root, cache)
    age(cache, 10)
    (root / "0" / "0").write_bytes(b"other")
    (root / "1" / "new").write_bytes(b"new")
    (root / "2" / "2").unlink()
    results = run(root, cache)
    read = {os.path.basename(each.path) for each in results if each.how == "read"}
    assert read == {b"0", b"new"}
    assert {each.path: each.digests[0] for each in results} == {
        path: hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest() for path in regular_files(root)
    }


@pytest.mark.parametrize(
    ("key", "change", "expected"),
    [
        ("ctime", "chmod", "read"),
        ("mtime", "chmod", "cache"),
        ("size+mtime", "chmod", "cache"),
        ("ctime", "edit, times put back", "read"),
        ("mtime", "edit, times put back", "cache"),
        ("mtime", "replaced, times put back", "read"),
        ("size+mtime", "replaced, times put back", "cache"),
        ("size+mtime", "touched", "read"),
        ("size+mtime", "grown, times put back", "read"),
    ],
)
def test_the_key_says_what_counts_as_a_change(tmp_path: Path, key: str, change: str, expected: str):
    (tmp_path / "t").mkdir()
    path, cache = tmp_path / "t" / "f", tmp_path / "c.db"
    path.write_bytes(b"before")
    old = path.stat()
    run(tmp_path / "t", cache, key=key)
    age(cache, 10)
    if change == "chmod":
        path.chmod(0o600)
    elif change == "touched":
        os.utime(path)
    elif change.startswith("replaced"):
        (tmp_path / "other").write_bytes(b"after!")
        os.utime(tmp_path / "other", ns=(old.st_atime_ns, old.st_mtime_ns))
        (tmp_path / "other").replace(path)
    else:
        path.write_bytes(b"after!" if change.startswith("edit") else b"longer than before")
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    time.sleep(0.03)
    assert hows(run(tmp_path / "t", cache, key=key)) == {expected}


def test_each_algorithm_is_remembered_by_itself(tmp_path: Path):
    root, cache = tree(tmp_path), tmp_path / "c.db"
    run(root, cache, ("md5",))
    age(cache, 10)
    assert hows(run(root, cache, ("sha256",))) == {"read"}
    age(cache, 10)
    for algorithms in (("md5",), ("sha256",), ("sha256", "md5")):
        assert hows(run(root, cache, algorithms)) == {"cache"}


def test_old_digests_are_made_again_and_a_changed_one_is_bit_rot(tmp_path: Path):
    root, cache = tree(tmp_path), tmp_path / "c.db"
    run(root, cache)
    age(cache, -100)
    with sqlite3.connect(cache) as connection:  # files older than the rows, as they are in life
        connection.execute("UPDATE digests SET digest = 'f00d' WHERE name = ?", (b"7",))
    connection.close()
    old = time.time_ns() - 10**12
    for path in regular_files(root):
        os.utime(path, ns=(old, old))
    with sqlite3.connect(cache) as connection:
        for path in regular_files(root):
            status = os.stat(path)
            connection.execute(
                "UPDATE digests SET mtime_ns = ?, ctime_ns = ?, hashed_at_ns = ? WHERE ino = ?",
                (status.st_mtime_ns, status.st_ctime_ns, status.st_ctime_ns + 5 * 10**9, status.st_ino),
            )
    connection.close()
    assert hows(run(root, cache)) == {"cache"}
    age(cache, -1)
    results = run(root, cache, rehash_older=-10)
    assert {os.path.basename(each.path) for each in results if each.how == "rot"} == {b"7"}
    assert hows(results) == {"read", "rot"}


def remembered_names(cache: Path) -> set[bytes]:
    connection = sqlite3.connect(cache)
    try:
        return {
            directory + b"/" + name for directory, name in connection.execute("SELECT directory, name FROM digests")
        }
    finally:
        connection.close()


def test_rehash_reads_everything_again_and_finds_bit_rot(tmp_path: Path):
    root, cache = tree(tmp_path), tmp_path / "c.db"
    first = aiopipe("hash", "--cache", cache, root, cwd=tmp_path)
    age(cache, 10)
    with sqlite3.connect(cache) as connection:
        connection.execute("UPDATE digests SET digest = 'f00d' WHERE name = ?", (b"7",))
    connection.close()
    believed = aiopipe("hash", "--cache", cache, root, cwd=tmp_path)
    assert (believed.returncode, believed.stdout.count(b"f00d")) == (0, 1)
    again = aiopipe("hash", "--cache", cache, "--rehash", root, cwd=tmp_path)
    assert (again.returncode, again.stdout) == (1, first.stdout)
    assert again.stderr.count(b"bit rot: other bytes under the same size and times") == 1


def test_prune_forgets_what_is_gone_below_the_paths_and_nothing_else(tmp_path: Path):
    cache = tmp_path / "c.db"
    for name in ("a/x", "a/y", "a/sub/z", "a b/x", "b/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    assert aiopipe("hash", "--cache", cache, ".", cwd=tmp_path).returncode == 0
    assert len(remembered_names(cache)) == 5
    for name in ("a/y", "a/sub/z", "a b/x", "b/x"):
        (tmp_path / name).unlink()
    (tmp_path / "a" / "sub").rmdir()
    done = aiopipe("hash", "-v", "--cache", cache, "--prune", "a", cwd=tmp_path)
    assert b"aiopipe: 2 files forgotten" in done.stderr
    left = {os.path.relpath(name, os.fsencode(tmp_path)) for name in remembered_names(cache)}
    assert left == {b"a/x", b"a b/x", b"b/x"}
    assert aiopipe("hash", "--cache", cache, "--prune", ".", cwd=tmp_path).returncode == 0
    assert {os.path.basename(name) for name in remembered_names(cache)} == {b"x"}


@pytest.mark.parametrize("option", [["--rehash"], ["--prune"], ["--rehash-older", "1d"]])
def test_options_of_a_cache_without_one_are_refused(tmp_path: Path, option: list[str]):
    done = aiopipe("hash", *option, ".", cwd=tmp_path)
    assert (done.returncode, b"without --cache" in done.stderr) == (2, True)


def test_a_fifo_in_the_place_of_a_remembered_file_never_hangs(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"x")
    cache = tmp_path / "c.db"
    run(tmp_path / "f", cache)
    age(cache, 10)
    (tmp_path / "f").unlink()
    os.mkfifo(tmp_path / "f")
    [result] = run(tmp_path / "f", cache)
    assert result.status == "irregular"


def test_the_command_leaves_the_cache_out_and_says_what_is_wrong_with_another_file(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"x")
    first = aiopipe("hash", "--cache", "c.db", ".", cwd=tmp_path)
    assert first.stdout.count(b"\n") == 1
    age(tmp_path / "c.db", 10)
    assert aiopipe("hash", "--cache", "c.db", ".", cwd=tmp_path).stdout == first.stdout
    (tmp_path / "text").write_bytes(b"no database at all" * 100)
    with pytest.raises(InputError, match="no cache of aiopipe"):
        CacheWriter(CacheOptions(str(tmp_path / "text")))
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    done = aiopipe("hash", "--cache", "other.db", "f", cwd=tmp_path)
    assert (done.returncode, b"another program's database" in done.stderr) == (1, True)
    with pytest.raises(OutputError, match="cannot be opened"):
        CacheWriter(CacheOptions(str(tmp_path / "no" / "such" / "c.db")))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_killed_continues_from_its_cache(tmp_path: Path, number: signal.Signals):
    """The sparse giant never ends; what was hashed beside it is remembered though it was never printed."""
    root, cache = tree(tmp_path, 400), tmp_path / "c.db"
    with open(root / "0" / "+giant", "wb") as file:
        file.truncate(1 << 42)
    for number_ in range(12):  # these come and go a second apart, so that commits happen
        (root / "1" / f"big{number_}").write_bytes(bytes([number_]) * 9_000_000)
    run_ = subprocess.Popen(
        [*AIOPIPE, "hash", "-a", "md5", "-j", "2", "--cache", str(cache), str(root)],
        # A shell has its background jobs ignore Ctrl-C, and what they start inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    count = "SELECT count(*) FROM digests"

    def remembered() -> int:
        if not cache.exists():
            return 0
        connection = sqlite3.connect(cache)
        try:
            return connection.execute(count).fetchone()[0]
        except sqlite3.OperationalError:
            return 0
        finally:
            connection.close()

    time.sleep(1.3)
    (root / "3" / "late").write_bytes(b"late")
    try:
        if number == signal.SIGKILL:
            wait_for(lambda: remembered() > 0)
    finally:
        run_.send_signal(number)
    try:
        run_.wait(timeout=30)
    finally:
        run_.kill()  # or it would read the giant for days
    left = remembered()
    assert left > 0
    (root / "0" / "+giant").unlink()
    age(cache, 10)
    results = run(root, cache, ("md5",))
    assert sum(each.how == "cache" for each in results) == left


@pytest.mark.parametrize("bad", ["", "soon", "-3d", "3y"])
def test_a_duration_is_a_number_and_a_unit(bad: str):
    with pytest.raises(UsageError, match="no duration"):
        duration(bad)
