"""Order, backpressure, and every way a run can end."""

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from aiopipe import Collect, Filter, From, Head, Map, Read, UsageError, Write
from aiopipe.fuse import apart, fuse
from aiopipe.job.run import run
from aiopipe.stage import Pipeline
from tests.conftest import open_files
from tests.engine.pieces import Call, Gather, Numbers, Planned, Through, forever
from tests.support import drive, leaves, tree, write


def test_parcels_keep_their_order_when_workers_finish_out_of_order():
    """The first parcel's worker waits for the second one's."""
    second = threading.Event()

    def work(values):
        if values == [0]:
            assert second.wait(10)
        elif values == [1]:
            second.set()
        return values

    sink = Gather()
    drive(lambda: (Numbers(6) | Call(work) | sink).run(workers=2))
    assert sink.values == [0, 1, 2, 3, 4, 5]


def test_unordered_parcels_leave_as_they_finish():
    """The first parcel's worker waits until the second parcel has reached the sink."""
    arrived = threading.Event()

    def work(values):
        if values == [0]:
            assert arrived.wait(10)
        return values

    async def each(parcel):
        if parcel.values == [1]:
            arrived.set()

    sink = Gather(each)
    nodes = [Numbers(4), Call(work, ordered=False), Through(), sink]
    drive(lambda: Pipeline(tuple(nodes)).run(workers=2))
    assert sorted(sink.values) == [0, 1, 2, 3]
    assert sink.values.index(1) < sink.values.index(0)


@pytest.mark.parametrize("fusing", [fuse, apart])
def test_a_slow_sink_stops_the_source(fusing):
    """However much the source has to give, only what the channels and the workers hold is ever in flight."""
    source = Numbers()

    async def main():
        reached = asyncio.Event()

        async def each(parcel):
            reached.set()
            await forever()

        pipeline = source | Call() | Through() | Gather(each)
        running = asyncio.create_task(run(pipeline, workers=2, fusing=fusing))
        await reached.wait()
        given = -1
        while given != source.seen["given"]:  # until nothing moves any more
            given = source.seen["given"]
            await asyncio.sleep(0.05)
        assert given < 30
        running.cancel()
        await asyncio.wait([running])

    drive(main)
    assert source.seen["closed"]


def test_bytes_in_flight_follow_the_memory_setting(tmp_path):
    """A sink that takes nothing: what the source has read stays under the budget."""
    path = write(tmp_path / "in.csv", "id,text\n" + "".join(f"{i},{'x' * 1000}\n" for i in range(60_000)))

    async def main():
        reached = asyncio.Event()

        async def each(parcel):
            reached.set()
            await forever()

        running = asyncio.create_task((Read(path) | Gather(each)).run(memory="16MB"))
        await reached.wait()
        before = -1
        while before != (now := _read_so_far(path)):
            before = now
            await asyncio.sleep(0.1)
        assert now < 16_000_000
        running.cancel()
        await asyncio.wait([running])

    drive(main)


def _read_so_far(path):
    for fd, target in open_files().items():
        if target == path:
            return os.lseek(fd, 0, os.SEEK_CUR)
    raise AssertionError("the file is not open")


def test_a_satisfied_head_closes_its_file_at_once(tmp_path):
    """While the sink still has the records in its hands."""
    path = write(tmp_path / "in.csv", "id\n" + "1\n" * 100_000)

    async def main():
        async def each(parcel):
            async with asyncio.timeout(10):
                while path in open_files().values():  # noqa: ASYNC110 - the system sends no event for it
                    await asyncio.sleep(0.01)

        sink = Gather(each)
        report = await (Read(path, block=4096) | Head(2) | sink).run()
        assert report.written == 2
        assert report.bytes_read < 100_000

    drive(main)


@pytest.mark.parametrize("fusing", [fuse, apart])
@pytest.mark.parametrize("where", ["source", "hop", "flow", "sink"])
def test_the_failure_of_any_node_ends_all_the_others(where, fusing):
    async def fail(parcel):
        if where == "sink" and parcel.values == [3]:
            raise Planned("sink")

    def work(values):
        if where == "hop" and values == [3]:
            raise Planned("hop")
        return values

    source = Numbers(fails_at=3 if where == "source" else -1)
    before, after = Through(), Through(fails_at=3 if where == "flow" else -1)
    sink = Gather(fail)
    pipeline = source | before | Call(work) | after | sink
    with pytest.raises(ExceptionGroup) as caught:
        drive(lambda: run(pipeline, workers=2, fusing=fusing))
    assert [str(e) for e in leaves(caught.value)] == [where]
    assert source.seen["closed"]
    assert before.seen["closed"]
    assert after.seen["closed"]
    assert sink.values == [0, 1, 2]  # what stood before the fault has arrived, and nothing after it


def test_the_first_of_two_faults_ends_the_run_whoever_is_quicker():
    """The source fails while the parcel before the fault is still in the hands of a worker that fails too."""
    source_failed = threading.Event()

    class Slow(Numbers):
        async def open(self, context):
            yield (await anext(aiter(super().open(context))))
            source_failed.set()
            raise Planned("source")

    def work(values):
        assert source_failed.wait(10)
        raise Planned("hop")

    with pytest.raises(ExceptionGroup) as caught:
        drive(lambda: (Slow() | Call(work) | Gather()).run())
    assert [str(e) for e in leaves(caught.value)] == ["hop"]


def test_a_failed_run_leaves_the_callers_task_uncancelled():
    """A TaskGroup that the caller opens afterwards must not see a cancellation that nobody asked for."""

    async def main():
        with pytest.raises(ExceptionGroup):
            await (Numbers(fails_at=2) | Gather()).run()
        assert asyncio.current_task().cancelling() == 0

    drive(main)


def test_a_stage_that_swallows_its_inputs_failure_does_not_make_a_success_of_it():
    with pytest.raises(ExceptionGroup) as caught:
        drive(lambda: (Numbers(fails_at=2) | Through(swallows=True) | Gather()).run())
    assert [str(e) for e in leaves(caught.value)] == ["source"]


def test_what_a_head_does_not_want_cannot_fail_it(tmp_path):
    """The second file is no CSV at all; it is read ahead, and nobody asks for it."""
    write(tmp_path / "in/1.csv", "id\n1\n2\n")
    write(tmp_path / "in/2.csv", b"\0\0\0")
    for _ in range(10):
        report = drive(lambda: (Read(tmp_path / "in", block=4) | Head(1) | Collect()).run())
        assert report.items == [{"id": "1"}]


@pytest.mark.parametrize("seed", range(12))
def test_a_run_cancelled_at_any_moment_leaves_nothing(seed, tmp_path):
    """Whatever it was doing; the fixtures look for what is left. Outputs are complete or absent."""
    for i in range(5):
        write(tmp_path / f"in/{i}.csv", "id,name\n" + "".join(f"{j},n{j}\n" for j in range(3000 * i)))
    whole = tree(tmp_path / "in")

    async def double(row):
        await asyncio.sleep(0)
        return row

    async def main():
        pipeline = Read(tmp_path / "in", block=4096) | Filter("id >= 0") | Map(double, concurrency=4)
        to = Write(f"{tmp_path}/out/" if seed % 2 else f"{tmp_path}/out.csv")
        running = asyncio.create_task((pipeline | to).run(rejects=str(tmp_path / "rejects.csv")))
        await asyncio.sleep(0.002 * seed**2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    drive(main)
    done = tree(tmp_path / "out") if (tmp_path / "out").exists() else {}
    assert all(whole[name] == data for name, data in done.items())


def test_cancelling_twice_still_ends_everything(tmp_path):
    """An impatient caller cancels again while the first cancellation is being worked off."""
    path = write(tmp_path / "in.csv", "id\n" + "1\n" * 2_000_000)

    async def main():
        running = asyncio.create_task((Read(path, block=4096) | Write(f"{tmp_path}/out.csv")).run())
        await asyncio.sleep(0.05)
        while not running.done():
            running.cancel()
            await asyncio.sleep(0)
        assert running.cancelled()

    drive(main)
    assert not (tmp_path / "out.csv").exists()


def test_two_pipelines_in_one_loop_do_not_meet(tmp_path):
    """Even if they are one and the same object."""
    for i in range(20):
        write(tmp_path / f"in/{i}.csv", f"id\n{i}\n")

    async def main():
        pipeline = Read(tmp_path / "in", block=16) | Filter("id >= 0") | Collect()
        return await asyncio.gather(*(pipeline.run() for _ in range(3)))

    for report in drive(main):
        assert report.files == 20
        assert report.written == 20
        assert report.balanced


def test_the_stop_event_finishes_what_is_in_flight(tmp_path):
    """Files that were read to their end have outputs; the one in hand has none, and its old output stays."""
    for name in "abc":
        write(tmp_path / f"in/{name}.csv", "id\n" + f"{name}\n" * 2000)
    write(tmp_path / "out/b.csv", "old")

    async def main():
        stop = asyncio.Event()

        def stop_in_b(row):
            if row["id"] == "b":
                loop.call_soon_threadsafe(stop.set)
            return row

        loop = asyncio.get_running_loop()
        return await (Read(tmp_path / "in", block=64) | Map(stop_in_b) | Write(f"{tmp_path}/out/")).run(stop=stop)

    report = drive(main)
    assert report.interrupted
    assert report.balanced
    assert tree(tmp_path / "out") == {"a.csv": (tmp_path / "in/a.csv").read_bytes(), "b.csv": b"old"}


def test_a_stopped_run_leaves_a_single_output_as_it_was(tmp_path):
    write(tmp_path / "out.csv", "old")
    path = write(tmp_path / "in.csv", "id\n" + "1\n" * 5000)

    async def main():
        stop = asyncio.Event()
        stop.set()
        return await (Read(path, block=64) | Write(f"{tmp_path}/out.csv")).run(stop=stop)

    assert drive(main).interrupted
    assert tree(tmp_path)["out.csv"] == b"old"


def test_a_stopped_generator_never_makes_half_a_file_visible(tmp_path):
    """The function cannot tell the end of its file from the end of the run; the writer can."""
    path = write(tmp_path / "in.csv", "id\n" + "1\n" * 5000)

    async def main():
        stop = asyncio.Event()

        async def each(rows):
            async for row in rows:
                stop.set()
                yield row

        return await (Read(path, block=64) | Map(each) | Write(f"{tmp_path}/out/")).run(stop=stop)

    assert drive(main).interrupted
    assert tree(tmp_path / "out") == {}


def test_run_sync_inside_a_running_loop_says_what_to_write():
    async def main():
        with pytest.raises(UsageError, match="await"):
            (From([1]) | Collect()).run_sync()

    drive(main)


def test_run_sync_works_inside_a_thread_of_an_async_program():
    """A plain thread and asgiref's."""

    async def main():
        from asgiref.sync import sync_to_async

        pipeline = From(range(5)) | Map(str) | Collect()
        wanted = ["0", "1", "2", "3", "4"]
        assert (await asyncio.to_thread(pipeline.run_sync)).items == wanted
        assert (await sync_to_async(pipeline.run_sync)()).items == wanted
        with ThreadPoolExecutor(1) as pool:
            loop = asyncio.get_running_loop()
            assert (await loop.run_in_executor(pool, pipeline.run_sync)).items == wanted

    drive(main)


INTERRUPTED = """if True:
    import os, signal, sys, threading, time
    from aiopipe import Map, Read, Write
    def work(row):
        if not begun.is_set():
            begun.set()
        time.sleep(0.002)
        return row
    def interrupt():
        begun.wait()
        os.kill(os.getpid(), signal.SIGINT)
    begun = threading.Event()
    threading.Thread(target=interrupt).start()
    try:
        (Read(sys.argv[1]) | Map(work) | Write(sys.argv[2])).run_sync()
    except KeyboardInterrupt:
        print([t.name for t in threading.enumerate() if "aiopipe" in t.name], os.listdir(os.path.dirname(sys.argv[2])))
"""


def test_an_interrupted_run_sync_leaves_nothing_behind_its_callers_back(tmp_path):
    """Ctrl-C reaches the main thread, the loop is in another one: it must be told, and waited for."""
    path = write(tmp_path / "in/in.csv", "id\n" + "1\n" * 20_000)
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-c", INTERRUPTED, path, f"{tmp_path}/out/out.csv"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[] []\n", done.stderr
