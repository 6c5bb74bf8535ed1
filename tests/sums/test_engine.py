from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from aiopipe.errors import InputError, UsageError, WorkerError
from aiopipe.forking import can_fork
from aiopipe.sums import HashOptions, Walk, WalkOptions, find_files, hash_batches, hash_files
from aiopipe.sums.engine import run_batches
from aiopipe.sums.lanes import Lanes
from aiopipe.sums.reader import LARGE
from aiopipe.sums.runners import Local
from aiopipe.sums.schedule import Job

from .conftest import regular_files


def small_tree(root: Path, count: int = 300) -> None:
    for number in range(count):
        folder = root / f"{number % 7}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:04}").write_bytes(b"%d" % number * (number % 50))


def expected(root: Path) -> dict[bytes, str]:
    return {path: hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest() for path in regular_files(root)}


async def collect(*args, **options):
    return [result async for result in hash_files(*args, **options)]


@pytest.mark.parametrize("backend", ["threads", "processes"])
@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_the_same_results_in_the_same_order_for_any_number_of_lanes(hostile: Path, backend: str, jobs: int):
    results = asyncio.run(collect(hostile, backend=backend, jobs=jobs))
    assert {result.path: result.digests[0] for result in results} == expected(hostile)
    walked = [run.prefix + name for run in Walk([os.fsencode(hostile)]) for name in run.names]
    assert [result.path for result in results] == walked


def test_large_files_among_small_ones_keep_their_place(tmp_path: Path):
    small_tree(tmp_path, 60)
    for name in ("0/aaa", "3/0005x", "6/zzz"):
        (tmp_path / name).write_bytes(os.urandom(LARGE + 5))
    results = asyncio.run(collect(tmp_path, jobs=3))
    assert {result.path: result.digests[0] for result in results} == expected(tmp_path)
    walked = [run.prefix + name for run in Walk([os.fsencode(tmp_path)]) for name in run.names]
    assert [result.path for result in results] == walked


def test_without_a_loop_it_is_the_same(hostile: Path):
    items = Walk([os.fsencode(hostile)])
    results = [result for batch in run_batches(items, HashOptions(jobs=2)) for result in batch]
    assert {result.path: result.digests[0] for result in results} == expected(hostile)


def test_several_roots_and_files_that_were_named_keep_their_order(tmp_path: Path):
    small_tree(tmp_path / "tree", 20)
    (tmp_path / "b").write_bytes(b"b")
    (tmp_path / "a").write_bytes(b"a")
    results = asyncio.run(collect([tmp_path / "b", tmp_path / "tree", tmp_path / "a"]))
    assert results[0].path.endswith(b"/b")
    assert results[-1].path.endswith(b"/a")
    assert len(results) == 22


def test_failures_are_results_in_their_place(tmp_path: Path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(b"x")
    walk = list(Walk([os.fsencode(tmp_path)]))
    (tmp_path / "b").unlink()
    results = asyncio.run(collect(walk))
    assert [result.status for result in results] == ["ok", "vanished", "ok"]


def test_nothing_is_nothing(tmp_path: Path):
    assert asyncio.run(collect(tmp_path)) == []
    assert asyncio.run(collect([])) == []


def test_options_that_make_no_sense_are_refused_before_anything_starts(tmp_path: Path):
    for options in ({"jobs": -1}, {"backend": "fork"}, {"algorithms": ()}, {"algorithms": "sha257"}):
        with pytest.raises(UsageError):
            asyncio.run(collect(tmp_path, **options))
    with pytest.raises(InputError):
        asyncio.run(collect(tmp_path / "absent"))
    with pytest.raises(UsageError):
        asyncio.run(collect(7))


def test_one_algorithm_named_twice_counts_once(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"")
    [result] = asyncio.run(collect(tmp_path, ("md5", "SHA-256", "md5")))
    assert [len(digest) for digest in result.digests] == [32, 64]


def test_leaving_early_ends_its_threads(tmp_path: Path):
    small_tree(tmp_path)
    with open(tmp_path / "0" / "0000", "wb") as file:
        file.truncate(1 << 40)

    async def first_only() -> float:
        async with aclosing(hash_files(tmp_path / "1", jobs=2)) as results:
            async for result in results:
                assert result.ok
                break
        async with aclosing(hash_files(tmp_path / "0", jobs=2)) as results:
            waiting = asyncio.ensure_future(anext(results))
            await asyncio.sleep(0.3)
            begin = time.monotonic()
            waiting.cancel()
            await asyncio.wait([waiting])
        return time.monotonic() - begin

    assert asyncio.run(first_only()) < 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("aiopipe-hash")]


def test_closing_the_plain_generator_ends_its_threads(tmp_path: Path):
    small_tree(tmp_path)
    batches = run_batches(Walk([os.fsencode(tmp_path)]), HashOptions(jobs=2))
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("aiopipe-hash")]


def test_the_loop_turns_while_files_are_hashed(tmp_path: Path):
    """Other tasks get their turn between batches; no time is measured, only that they are not starved."""
    small_tree(tmp_path, 2000)

    async def main() -> tuple[int, int]:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(turn())
        files = len(await collect(tmp_path, jobs=2))
        task.cancel()
        return files, turns

    files, turns = asyncio.run(main())
    assert files == 2000
    assert turns > 10


def test_walking_happens_off_the_loop(tmp_path: Path):
    small_tree(tmp_path, 10)
    where = []

    class Watched(Walk):
        def __iter__(self):
            for item in super().__iter__():
                where.append(threading.current_thread())
                yield item

    assert len(asyncio.run(collect(Watched([os.fsencode(tmp_path)])))) == 10
    assert threading.main_thread() not in where


def test_an_error_in_the_stream_of_paths_arrives_and_nothing_is_left():
    def broken():
        raise RuntimeError("the caller's own")
        yield

    with pytest.raises(RuntimeError, match="the caller's own"):
        list(run_batches(broken(), HashOptions()))


def remote(monkeypatch, deaths: int):
    """A runner whose first workers are dead before they have done anything."""
    from aiopipe.sums.crew import Remote
    from aiopipe.sums.runners import Work

    spawned = []
    real = Remote._begin

    def begin(self):
        worker = real(self)
        if len(spawned) < deaths:
            worker.process.kill()
            worker.process.wait()
        spawned.append(worker.process)
        return worker

    monkeypatch.setattr(Remote, "_begin", begin)
    return Remote(Work(("sha256",)), lambda: False), spawned


def jobs_over(root: Path) -> list[Job]:
    paths = regular_files(root)
    return [Job(0, start, paths[start : start + 50], False, (), False) for start in range(0, len(paths), 50)]


FORKS = [
    pytest.param(True, marks=[pytest.mark.alone, pytest.mark.skipif(not can_fork(), reason="no forks here")]),
    False,
]


@pytest.mark.parametrize("forks", FORKS)
def test_a_worker_that_is_killed_is_replaced_and_every_file_is_hashed(tmp_path: Path, monkeypatch, forks: bool):
    monkeypatch.setattr("aiopipe.sums.processes.can_fork", lambda: forks)
    small_tree(tmp_path, 100)
    runner, spawned = remote(monkeypatch, 1)
    first, second = jobs_over(tmp_path)
    runner.start(first)
    runner.start(second)
    results = [result for _ in range(2) for piece in runner.finish()[0] for result in piece.value]
    runner.close()
    assert {result.path: result.digests[0] for result in results} == expected(tmp_path)
    assert len(spawned) == 2
    assert all(worker.poll() is not None for worker in spawned)


def test_workers_that_keep_dying_are_an_error_that_names_the_file(tmp_path: Path, monkeypatch):
    small_tree(tmp_path, 5)
    runner, spawned = remote(monkeypatch, 2)
    runner.start(jobs_over(tmp_path)[0])
    with pytest.raises(WorkerError, match=r"two worker processes ended while hashing .*/0/0000"):
        runner.finish()
    runner.close()
    assert all(worker.poll() is not None for worker in spawned)


def test_batches_are_the_same_results_many_at_a_time(tmp_path: Path):
    small_tree(tmp_path)

    async def batches():
        return [batch async for batch in hash_batches(tmp_path, walk=WalkOptions(exclude=("0/",)))]

    found = asyncio.run(batches())
    assert sum(len(batch) for batch in found) == len([path for path in regular_files(tmp_path) if b"/0/" not in path])


def test_finding_and_hashing_are_two_steps_of_one_stream(tmp_path: Path):
    small_tree(tmp_path)
    results = asyncio.run(collect(find_files(tmp_path, WalkOptions(exclude=("0/",)))))
    wanted = {path: digest for path, digest in expected(tmp_path).items() if b"/0/" not in path}
    assert {result.path: result.digests[0] for result in results} == wanted


def test_an_asynchronous_source_may_name_files_in_any_way_and_its_order_is_kept(tmp_path: Path):
    small_tree(tmp_path, 30)
    paths = [Path(os.fsdecode(path)) for path in regular_files(tmp_path)]

    async def source():
        yield paths[0]
        await asyncio.sleep(0.01)
        yield [str(path) for path in paths[1:20]]
        yield [os.fsencode(path) for path in paths[20:]]

    results = asyncio.run(collect(source(), jobs=3))
    assert [Path(result.name) for result in results] == paths


def test_a_source_that_fails_or_that_is_left_waiting_leaves_nothing_behind(tmp_path: Path):
    small_tree(tmp_path, 3)
    closed = []

    async def broken():
        yield tmp_path / "0" / "0000"
        raise RuntimeError("upstream")

    async def endless():
        try:
            yield tmp_path / "0" / "0000"
            await asyncio.sleep(3600)
        finally:
            closed.append(True)

    with pytest.raises(RuntimeError, match="upstream"):
        asyncio.run(collect(broken()))

    async def one() -> None:
        async with aclosing(hash_files(endless())) as results:
            async for result in results:
                assert result.ok
                break

    asyncio.run(one())
    assert closed == [True]


def test_cancelled_while_it_starts_it_leaves_no_thread(tmp_path: Path):
    small_tree(tmp_path, 3)

    async def main(turns: int) -> None:
        task = asyncio.ensure_future(collect(tmp_path, jobs=3))
        for _ in range(turns):
            await asyncio.sleep(0.0002)
        task.cancel()
        await asyncio.wait([task])

    for turns in range(12):
        asyncio.run(main(turns))
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("aiopipe-hash")]


def test_cancelled_at_its_very_end_it_leaves_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small_tree(tmp_path, 3)
    stop = Lanes.stop

    async def main() -> None:
        task = asyncio.ensure_future(collect(tmp_path, jobs=3))

        def cancelled(self: Lanes) -> None:
            task.cancel()
            stop(self)

        monkeypatch.setattr(Lanes, "stop", cancelled)
        await asyncio.wait([task])
        assert task.cancelled()

    monkeypatch.setattr(Local, "close", lambda self: time.sleep(0.05))
    asyncio.run(main())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("aiopipe-hash")]


def test_a_directory_that_is_not_there_is_an_error_of_finding(tmp_path: Path):
    async def main() -> None:
        async for _ in find_files(tmp_path / "absent"):
            pass

    with pytest.raises(InputError):
        asyncio.run(main())
