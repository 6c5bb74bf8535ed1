"""Small files that travel unread: the same outputs, ledger and errors as one by one, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import pickle
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiopipe import Filter, Map, Read, Select, Write
from aiopipe.engine import remote as remote_module
from aiopipe.engine.groups import run_group
from aiopipe.engine.remote import Remotes
from aiopipe.engine.workers import Workers
from aiopipe.errors import AiopipeError, UnitsFailedError
from aiopipe.fuse import apart, fuse
from aiopipe.job.run import run
from aiopipe.plan import make_plan
from aiopipe.storage.groups import Groups
from aiopipe.storage.opening import Input
from tests.engine.test_remote import ready
from tests.support import drive, leaves, tree, write

BODIES: list[Callable[[random.Random], bytes]] = [
    lambda chance: b"a,b\n" + b"".join(b"%d,%d\n" % (chance.randrange(9), n) for n in range(chance.randrange(40))),
    lambda chance: b"a,b\r\n1,007\r\n8,x\r\n",
    lambda chance: b"a,b\n7,no final newline",
    lambda chance: b'a,b\n8,"two\nlines"\n9,"a ""q"""\n1,""\n',
    lambda chance: b"\xef\xbb\xbfa,b\n6,bom\n",
    lambda chance: b"a,b\n",
    lambda chance: b"",
    lambda chance: b"b,a\n" + b"x,%d\n" % chance.randrange(9),
    lambda chance: b"a\n5\n",
    lambda chance: b"a,b\n4,\xc3\xa9\n",
]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five files to a group: many groups of few files."""
    monkeypatch.setattr("aiopipe.storage.read.GROUP", 5)


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What became of each group, here or in a worker process: a list where it was done whole."""
    found: list[Any] = []
    real = Workers.run_group

    async def noted(self: Workers, *arguments: Any) -> Any:
        made = await real(self, *arguments)
        found.append(made)
        return made

    monkeypatch.setattr(Workers, "run_group", noted)
    return found


def many(root: Path, count: int = 60, seed: int = 1) -> str:
    chance = random.Random(seed)
    for n in range(count):
        below = chance.choice(("", "", "sub/", "sub/deeper/"))
        write(root / f"{below}{n:03}.csv", chance.choice(BODIES)(chance))
    return str(root)


def records_of_ledger(home: Path) -> list[Any]:
    """What the ledger says, but for times, places on the disk and the run."""
    with sqlite3.connect(home / ".aiopipe/ledger.db") as connection:
        units = "SELECT path, state, number, source, why, size, xxh128, taken, given, rejected, made FROM units"
        outputs = "SELECT o.path, u.path, o.size, o.blake3 FROM outputs AS o JOIN units AS u ON u.id = o.unit"
        found = [*connection.execute(f"{units} ORDER BY path"), *connection.execute(f"{outputs} ORDER BY o.path")]
    connection.close()
    return found


def temporaries(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob(".aiopipe-*.tmp"))


@pytest.mark.parametrize("seed", range(4))
def test_groups_give_the_outputs_and_the_ledger_of_files_one_by_one(tmp_path: Path, seed: int, gone: list[Any]):
    piped = Read(many(tmp_path / "in", seed=seed), types={"a": "VARCHAR"}) | Filter("a > '4'")
    reports = []
    for name, how in (("one", apart), ("all", fuse)):
        pipeline = piped | Write(f"{tmp_path}/{name}/")
        reports.append(drive(lambda pipeline=pipeline, how=how: run(pipeline, fusing=how), within=60))  # type: ignore[misc]
    assert tree(tmp_path / "all") == tree(tmp_path / "one")
    assert records_of_ledger(tmp_path / "all") == records_of_ledger(tmp_path / "one")
    one, every = reports
    for what in ("read", "written", "filtered", "files", "rejected"):
        assert getattr(one, what) == getattr(every, what), what
    assert len(gone) == 12
    assert all(isinstance(made, list) for made in gone)
    again = (piped | Write(f"{tmp_path}/all/")).run_sync()
    assert (again.unchanged, again.files) == (60, 0)


@pytest.mark.parametrize("ledger", [True, False])
def test_worker_processes_put_the_same(tmp_path: Path, ledger: bool, gone: list[Any]):
    piped = Read(many(tmp_path / "in"), types={"a": "VARCHAR"}) | Filter("a > '4'")
    (piped | Write(f"{tmp_path}/one/")).run_sync(workers=1)
    gone.clear()
    given: list[Any] = []
    with ready(2) as remotes:
        for one in remotes._each:
            real = one.run
            one.run = lambda *a, real=real: given.append(real(*a)) or given[-1]  # type: ignore[method-assign,func-returns-value]
        pipeline = piped | Write(f"{tmp_path}/all/")
        drive(lambda: run(pipeline, workers=3, remotes=remotes, ledger=ledger), within=60)
    assert tree(tmp_path / "all") == tree(tmp_path / "one")
    if ledger:
        assert records_of_ledger(tmp_path / "all") == records_of_ledger(tmp_path / "one")
    assert given == gone
    assert all(isinstance(made, list) for made in gone)


def test_old_outputs_are_replaced_and_keep_their_permissions(tmp_path: Path):
    source = many(tmp_path / "in", 12)
    (Read(source) | Write(f"{tmp_path}/out/")).run_sync()
    some = sorted((tmp_path / "out").glob("*.csv"))[0]
    some.chmod(0o600)
    (Read(source) | Select("a") | Write(f"{tmp_path}/new/")).run_sync(keep_going=True)
    report = (Read(source) | Select("a") | Write(f"{tmp_path}/out/")).run_sync()
    assert report.files == 12
    assert tree(tmp_path / "out") == tree(tmp_path / "new")
    if os.name == "posix":
        assert some.stat().st_mode & 0o777 == 0o600


TROUBLE: dict[str, bytes] = {
    "a header with a NUL": b"a,\0b\n1,2\n",
    "a quote that is never closed": b'a,"b\n1,2\n',
    "not UTF-8": b"a,\xff\n1,2\n",
    "a record that is too short": b"a,b\n1\n",
    "gzip": b"\x1f\x8b\x08\0\0\0\0\0",
}


@pytest.mark.parametrize("what", TROUBLE)
@pytest.mark.parametrize("keep_going", [True, False])
def test_what_is_the_matter_with_a_file_is_said_as_if_it_came_alone(what: str, keep_going: bool, tmp_path: Path):
    for n in range(23):
        write(tmp_path / f"in/{n:02}.csv", b"a,b\n1,%d\n" % n)
    write(tmp_path / "in/13.csv", TROUBLE[what])
    write(tmp_path / "in/21.csv", TROUBLE[what])
    said = []
    for name, how in (("one", apart), ("all", fuse)):
        pipeline = Read(str(tmp_path / "in")) | Write(f"{tmp_path}/{name}/")
        with pytest.raises(ExceptionGroup if not keep_going else UnitsFailedError) as caught:
            drive(lambda p=pipeline, how=how: run(p, fusing=how, keep_going=keep_going), within=60)  # type: ignore[misc]
        said.append([str(error) for error in leaves(caught.value)])
    assert said[0] == said[1]
    assert len(said[0]) == (2 if keep_going else 1)
    assert "13.csv" in said[0][0]
    assert temporaries(tmp_path) == []
    done = tree(tmp_path / "all")
    if keep_going:
        assert done == tree(tmp_path / "one")
        assert len(done) == 21
    assert {f"{n:02}.csv" for n in range(10)} <= done.keys() <= {f"{n:02}.csv" for n in range(13)} | done.keys()


def test_rejects_of_groups_are_those_of_files_one_by_one(tmp_path: Path, gone: list[Any]):
    for n in range(23):
        write(tmp_path / f"in/{n:02}.csv", b"a,b\n1,%d\n" % n + (b"2\n3,3,3\n4,4\n" if n % 4 == 1 else b""))
    for name, how in (("one", apart), ("all", fuse)):
        pipeline = Read(str(tmp_path / "in")) | Write(f"{tmp_path}/{name}/")
        drive(lambda p=pipeline, n=name, h=how: run(p, fusing=h, rejects=f"{tmp_path}/{n}.csv"), within=60)  # type: ignore[misc]
    assert (tmp_path / "all.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert tree(tmp_path / "all") == tree(tmp_path / "one")
    assert records_of_ledger(tmp_path / "all") == records_of_ledger(tmp_path / "one")
    assert all(isinstance(made, list) for made in gone)


def test_a_file_that_goes_between_finding_and_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = tmp_path / "in"
    for n in range(12):
        write(source / f"{n:02}.csv", b"a,b\n1,%d\n" % n)
    real = Groups.begin

    def begin(self: Groups, inputs: Any) -> Any:
        (source / "07.csv").unlink(missing_ok=True)
        return real(self, inputs)

    monkeypatch.setattr(Groups, "begin", begin)
    with pytest.raises(UnitsFailedError) as caught:
        (Read(str(source)) | Write(f"{tmp_path}/out/")).run_sync(keep_going=True)
    [error] = leaves(caught.value)
    assert "07.csv" in str(error) and "No such file" in str(error)
    assert len(tree(tmp_path / "out")) == 11
    assert temporaries(tmp_path) == []


def failing(tmp_path: Path) -> Any:
    """A run that fails early, while groups behind the fault have been put already."""
    for n in range(200):
        write(tmp_path / f"in/{n:03}.csv", b"a,b\n1,%d\n" % n if n != 7 else b"a,b\n1\n")
    return Read(str(tmp_path / "in")) | Write(f"{tmp_path}/out/")


@pytest.mark.parametrize("remote", [True, False])
def test_a_run_that_fails_leaves_nothing_of_groups_that_never_arrived(tmp_path: Path, remote: bool):
    pipeline = failing(tmp_path)
    with ready(1 if remote else 0) as remotes, pytest.raises(ExceptionGroup) as caught:
        drive(lambda: run(pipeline, workers=2, remotes=remotes), within=60)
    [error] = leaves(caught.value)
    assert isinstance(error, AiopipeError) and "007.csv" in str(error)
    assert temporaries(tmp_path) == []


def test_without_the_sweep_something_would_be_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The broken variant: the tests before this one do see it."""

    async def nothing(self: Workers, nodes: Any) -> None:
        pass

    monkeypatch.setattr(Workers, "sweep", nothing)
    with pytest.raises(ExceptionGroup):
        failing(tmp_path).run_sync(workers=2)
    left = temporaries(tmp_path)
    assert left
    for name in left:
        (tmp_path / name).unlink()


def test_cancelled_at_any_moment_nothing_is_left(tmp_path: Path):
    source = many(tmp_path / "in", 150)
    pipeline = Read(source, types={"a": "VARCHAR"}) | Filter("a > '4'") | Write(f"{tmp_path}/out/")
    pipeline.run_sync()
    whole = tree(tmp_path / "out")

    async def cut(pause: float) -> bool:
        task = asyncio.create_task(pipeline.run(force=True))
        await asyncio.sleep(pause)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return True
        return False

    cancelled = 0
    for pause in (0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15):
        cancelled += drive(lambda pause=pause: cut(pause), within=60)  # type: ignore[misc]
        assert temporaries(tmp_path) == [], pause
        assert tree(tmp_path / "out") == whole
    assert cancelled


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_worker_that_is_killed_with_a_group_in_hand_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    piped = Read(many(tmp_path / "in"), types={"a": "VARCHAR"}) | Filter("a > '4'")
    (piped | Write(f"{tmp_path}/one/")).run_sync(workers=1)
    real, calls, given = remote_module.receive, list[int](), list[Any]()

    def receive(source: Any) -> Any:  # in this process: an answer comes
        calls.append(1)
        if len(calls) == 3:
            for one in remotes._each:
                os.kill(one._process.pid, signal.SIGKILL)
            raise EOFError
        given.append(real(source))
        return given[-1]

    with ready(1) as remotes:
        monkeypatch.setattr(remote_module, "receive", receive)
        pipeline = piped | Write(f"{tmp_path}/all/")
        drive(lambda: run(pipeline, workers=2, remotes=remotes), within=60)
    assert len(given) == 2
    assert tree(tmp_path / "all") == tree(tmp_path / "one")
    assert records_of_ledger(tmp_path / "all") == records_of_ledger(tmp_path / "one")
    assert temporaries(tmp_path) == []


def _group(tmp_path: Path) -> tuple[Any, Any]:
    """A hop, and a group for it."""
    source = Read(many(tmp_path / "in", 40), types={"a": "VARCHAR"})
    plan = make_plan((source | Filter("a > '4'") | Write(f"{tmp_path}/out/")).stages)

    async def typed_plan() -> Any:
        from aiopipe.job.run import typed

        pools = Workers(1)
        try:
            return await typed(plan, pools)
        finally:
            await pools.aclose()

    node = next(n for n in fuse(drive(typed_plan, within=60)) if n.shape == "hop")
    inputs = [Input(file, source.dialect_of(file)) for file in source.files()]
    return node, Groups(hashed=True, retries=0).begin(inputs)


@pytest.mark.skipif(os.name != "posix", reason="POSIX")
def test_a_worker_whose_parent_goes_removes_what_it_cannot_hand_over(tmp_path: Path):
    node, group = _group(tmp_path)
    remotes = Remotes(1)
    remotes.start()
    try:
        (one,) = remotes._each
        until = time.monotonic() + 30
        while not one.ready:
            assert time.monotonic() < until
            time.sleep(0.01)
        seen: list[int] = []
        watched = threading.Thread(target=lambda: _watch(tmp_path / "out", one, seen))
        watched.start()
        one._from.close()  # as the kernel does for a parent that was killed
        remote_module.send(one._to, (1, pickle.dumps(node), group, 0))
        one._to.close()
        one._process.wait(timeout=30)
        watched.join()
        assert max(seen) > 0, "it had put nothing"
        assert temporaries(tmp_path) == []
    finally:
        remotes.close()


def _watch(place: Path, one: Any, seen: list[int]) -> None:
    seen.append(0)
    while one._process.poll() is None:
        seen.append(len(temporaries(place)) if place.exists() else 0)


def test_a_hop_that_cannot_put_a_file_leaves_none_of_the_group(tmp_path: Path):
    node, group = _group(tmp_path)
    write(tmp_path / "out/sub/deeper", "a file stands where a directory should be")
    error = run_group(node, group)
    assert isinstance(error, AiopipeError)
    assert "a file stands where a directory should be" in str(error.hint)
    assert temporaries(tmp_path) == []


def test_a_pipeline_with_a_function_of_the_user_reads_here(tmp_path: Path, gone: list[Any]):
    source = many(tmp_path / "in", 10)
    (Read(source) | Map(lambda row: row) | Write(f"{tmp_path}/out/")).run_sync()
    (Read(source) | Select("a") | Write(f"{tmp_path}/out.jsonl")).run_sync(rejects=f"{tmp_path}/rejects.csv")
    assert gone == []


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """Workers end with their test."""
    yield
    assert [t.name for t in threading.enumerate() if t.name.startswith("aiopipe-remote")] == []
