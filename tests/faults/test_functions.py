"""A user's function that goes wrong costs its row, is named with place and reason, and never more."""

import asyncio
import contextvars
import sys
import threading
import time

import pytest

from aiopipe import Collect, Find, From, FunctionError, Map, Read, UsageError, WorkerError, Write
from aiopipe.errors import AiopipeError
from tests.faults import functions
from tests.support import drive, failure, leaves, rejects, tree, write

ROWS = [b"1,a\n", b"2,b\n", b"3,c\n", b"4,d\n"]
CSV = b"v,text\n" + b"".join(ROWS)


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "in.csv", CSV)


def asynchronous(function):
    async def call(row):
        await asyncio.sleep(0)
        return function(row)

    return call


def maps(function):
    """The function in every placement that needs no other process."""
    return [
        Map(function),
        Map(function, concurrency=2),
        Map(function, thread_sensitive=True),
        Map(asynchronous(function)),
        Map(asynchronous(function), concurrency=1),
    ]


def raises(error):
    def function(row):
        if row["v"] == "3":
            raise error
        return row

    return function


ERRORS = [ValueError("three\nis bad"), StopIteration("x"), TimeoutError(), SystemExit(3), KeyError("k"), MemoryError()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_a_function_that_raises_is_named_with_row_and_line_of_code(error, path, tmp_path):
    for stage in maps(raises(error)):
        found = failure(Read(path) | stage | Write(f"{tmp_path}/out.csv"))
        assert isinstance(found, FunctionError)
        assert str(found).startswith(f"{path}:4 (record 3, byte 15): map: ")
        assert type(error).__name__ in str(found) or "StopIteration" in str(found)
        assert "test_functions.py:" in str(found)
        assert "--rejects" in str(found)
        assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_rows_whose_function_raised_can_be_set_aside(error, path, tmp_path):
    for stage in maps(raises(error)):
        pipeline = Read(path) | stage | Write(f"{tmp_path}/out.csv")
        report = pipeline.run_sync(rejects=str(tmp_path / "rejects.csv"))
        assert report.balanced
        assert (tmp_path / "out.csv").read_bytes() == CSV.replace(b"3,c\n", b"")
        [row] = rejects(tmp_path / "rejects.csv")
        assert row["raw"] == b"3,c\n"
        assert (row["line"], row["record"], row["byte"], row["stage"]) == ("4", "3", "15", "map")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "returned NoneType, not a row"),
        ("text", "returned str, not a row"),
        ([1], "returned list, not a row"),
        ({"v": "3"}, "returned a row that lacks text"),
        ({"v": "3", "text": "c", "more": "m"}, "returned a row that adds more"),
        ({"v": "3", "text": [1]}, "gave 'text' a list"),
        ({"v": "3", "text": b"c"}, "gave 'text' a bytes"),
        ({"v": "3", "text": "\udcff"}, "lone surrogate"),
    ],
)
def test_a_function_that_returns_what_it_may_not(value, reason, path, tmp_path):
    for stage in maps(lambda row: value if row["v"] == "3" else row):
        found = failure(Read(path) | stage | Collect())
        assert str(found).startswith(f"{path}:4 (record 3, byte 15): map: the function {reason}") or reason in str(
            found
        )
        assert found.hint
        report = (Read(path) | stage | Collect()).run_sync(rejects=str(tmp_path / "rejects.csv"))
        assert [r["v"] for r in report.items] == ["1", "2", "4"]
        assert [r["raw"] for r in rejects(tmp_path / "rejects.csv")] == [b"3,c\n"]


def test_numbers_and_truth_become_text_as_sql_writes_it(path):
    values = {"v": 7, "text": 1.5, "n": None, "t": True, "f": False}

    async def each(rows):
        async for _ in rows:
            yield dict(values)

    for stage in [*maps(lambda row: dict(values)), Map(each)]:
        report = (Read(path) | stage | Collect()).run_sync()
        assert report.items[0] == {"v": "7", "text": "1.5", "n": "", "t": "true", "f": "false"}


def test_columns_that_differ_from_one_part_of_a_file_to_the_next_are_an_error(tmp_path):
    """The function decides by what it has seen: the first rows have one set of columns, later ones another."""
    path = write(tmp_path / "in.csv", "v\n" + "1\n" * 500 + "2\n" * 500)
    found = failure(
        Read(path, block=100) | Map(lambda r: r if r["v"] == "1" else {"w": r["v"]}) | Write(f"{tmp_path}/out/")
    )
    assert "columns" in str(found)
    assert tree(tmp_path / "out") == {}


def test_a_function_that_cannot_be_sent_to_a_process_is_refused_before_anything_is_read(path):
    for bad in (lambda row: row, raises(ValueError())):
        found = failure(Read(path) | Map(bad, placement="process") | Collect())
        assert isinstance(found, UsageError)
        assert "cannot be sent to another process" in str(found)
        assert "top of a module" in str(found)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing", "names no function"),
        ("no.such.module:f", "cannot import no.such.module"),
        ("nowhere.py:f", "no file nowhere.py"),
        ("tests.faults.functions:shuot", "did you mean shout?"),
        ("tests.faults.functions:os", "is no function"),
    ],
)
def test_a_function_that_cannot_be_found_is_named(name, reason):
    with pytest.raises(UsageError) as caught:
        Map(name)
    assert reason in str(caught.value)
    assert caught.value.hint


def test_a_module_that_fails_to_import_says_so(tmp_path):
    write(tmp_path / "broken_functions.py", "1 / 0\n")
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        Map(f"{tmp_path}/broken_functions.py:f")
    sys.path.remove(str(tmp_path))


def test_what_cannot_be_is_refused_at_once():
    """Timeouts where nothing could end the call; an async function in a thread; nonsense."""
    for options in (
        {"timeout": 5},
        {"timeout": 5, "concurrency": 2},
        {"placement": "loop"},
        {"placement": "process", "concurrency": 2},
        {"concurrency": 0},
        {"placement": "moon"},
    ):
        with pytest.raises(UsageError) as caught:
            Map(functions.same, **options)
        assert caught.value.hint
    for options in ({"placement": "thread"}, {"placement": "process"}):
        with pytest.raises(UsageError):
            Map(functions.ashout, **options)
    for options in ({"timeout": 5}, {"concurrency": 5}):
        with pytest.raises(UsageError, match="generator"):
            Map(functions.twice, **options)


def test_a_coroutine_that_hangs_is_ended_by_its_timeout(path, tmp_path):
    ended = []

    async def hang(row):
        if row["v"] == "3":
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(row["v"])
        return row

    pipeline = Read(path) | Map(hang, timeout=0.05) | Collect()
    found = failure(pipeline)
    assert isinstance(found, WorkerError)
    assert str(found).startswith(f"{path}:4 (record 3, byte 15): map: TimeoutError: no answer within 0.05 s")
    report = pipeline.run_sync(rejects=str(tmp_path / "rejects.csv"))
    assert [r["v"] for r in report.items] == ["1", "2", "4"]
    assert ended == ["3", "3"]


def test_a_function_that_cancels_itself_costs_its_row_only(path, tmp_path):
    async def suicidal(row):
        if row["v"] == "3":
            asyncio.current_task().cancel()
            await asyncio.sleep(0)
        return row

    pipeline = Read(path) | Map(suicidal) | Collect()
    assert "CancelledError" in str(failure(pipeline))
    report = pipeline.run_sync(rejects=str(tmp_path / "rejects.csv"))
    assert [r["v"] for r in report.items] == ["1", "2", "4"]


DEATHS = {
    "exits": "ended by itself with exit code 9",
    "kills": "was killed by SIGKILL",
    "segfaults": "was killed by SIGSEGV",
}
HANGS = ["sleeps", "regex", "waits", "swallows"]


@pytest.mark.parametrize("name", DEATHS)
def test_a_function_that_takes_its_process_with_it_costs_its_row_only(name, path, tmp_path):
    function = getattr(functions, name)
    pipeline = Read(path) | Map(function, placement="process") | Collect()
    found = failure(pipeline, workers=1)
    assert isinstance(found, WorkerError)
    assert str(found).startswith(f"{path}:4 (record 3, byte 15): map: the worker process {DEATHS[name]}")
    report = pipeline.run_sync(rejects=str(tmp_path / "rejects.csv"), workers=1)
    assert [r["v"] for r in report.items] == ["1", "2", "4"]
    assert report.balanced
    [row] = rejects(tmp_path / "rejects.csv")
    assert (row["raw"], row["line"], row["record"], row["byte"]) == (b"3,c\n", "4", "3", "15")


@pytest.mark.parametrize("name", HANGS)
def test_a_function_that_hangs_in_a_process_is_ended_by_its_timeout(name, path, tmp_path):
    """In Python, in C, waiting for a lock, or deaf to exceptions."""
    function = getattr(functions, name)
    pipeline = Read(path) | Map(function, placement="process", timeout=0.2) | Collect()
    report = pipeline.run_sync(rejects=str(tmp_path / "rejects.csv"), workers=1)
    assert [r["v"] for r in report.items] == ["1", "2", "4"]
    [row] = rejects(tmp_path / "rejects.csv")
    assert row["raw"] == b"3,c\n"
    assert "answer within 0.2 s" in row["reason"]


def test_a_hanging_worker_does_not_outlive_a_cancelled_run(path):
    async def main():
        stage = Map(functions.regex, placement="process")
        running = asyncio.create_task((Read(path) | stage | Collect()).run(workers=1))
        await asyncio.sleep(0.8)
        begun = time.monotonic()
        running.cancel()
        await asyncio.wait([running])
        assert time.monotonic() - begun < 10

    drive(main)


def test_a_result_that_cannot_leave_its_process_is_shown(tmp_path):
    for i in range(5):
        write(tmp_path / f"{i}.csv", CSV)
    found = failure(Find(tmp_path) | Map(functions.gives_what_does_not_pickle, placement="process") | Collect())
    assert isinstance(found, FunctionError)
    assert "gives_what_does_not_pickle" in str(found)
    assert "cannot be sent from one process to another" in str(found)
    assert "placement='thread'" in str(found)


@pytest.mark.parametrize("content", ["", "\n", "v,text\n"])
def test_a_function_is_never_called_for_a_file_without_records(content, tmp_path):
    path = write(tmp_path / "in/a.csv", content)
    for stage in maps(lambda row: 1 / 0):
        (Read(path, block=1) | stage | Write(f"{tmp_path}/out/")).run_sync()
        assert (tmp_path / "out/a.csv").read_text() == content.lstrip("\n")


def test_columns_of_the_same_name_are_refused_behind_what_came_before_them(tmp_path):
    """The calls for the first file are still under way when the second one turns out to be of no use."""
    write(tmp_path / "in/1.csv", CSV)
    write(tmp_path / "in/2.csv", "v,v\n1,2\n")

    async def slow(row):
        await asyncio.sleep(0.02)
        return row

    error = failure(Read(tmp_path / "in", block=1) | Map(slow) | Write(f"{tmp_path}/out/"))
    assert "2.csv: map: column 'v' stands 2 times" in str(error)
    assert tree(tmp_path / "out") == {"1.csv": CSV}


def test_items_that_a_function_refuses_are_shown():
    def refuse(value):
        if value == 3:
            raise ValueError("three")
        return value

    for stage in maps(refuse):
        found = failure(From(range(5)) | stage | Collect())
        assert isinstance(found, FunctionError)
        assert "ValueError: three" in str(found)
        assert str(found).count("for 3") == 1


def test_no_more_calls_than_concurrency_are_ever_in_flight():
    flying, peak = 0, 0

    async def call(value):
        nonlocal flying, peak
        flying += 1
        peak = max(peak, flying)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        flying -= 1
        return value

    report = drive(lambda: (From(range(500), size=7) | Map(call, concurrency=5) | Collect()).run())
    assert report.items == list(range(500))
    assert peak == 5


def test_blocking_calls_run_in_as_many_threads_as_were_asked_for():
    """Three calls wait for each other; with fewer threads none would come back."""
    barrier = threading.Barrier(3)

    def meet(value):
        barrier.wait(10)
        return value

    report = (From(range(6)) | Map(meet, concurrency=3) | Collect()).run_sync()
    assert report.items == list(range(6))


@pytest.mark.parametrize("ordered", [True, False])
def test_calls_that_finish_out_of_order_leave_in_order_unless_told_otherwise(ordered):
    """The first call waits for the last one."""

    async def main():
        last = asyncio.Event()

        async def call(value):
            if value == 0:
                await last.wait()
            elif value == 3:
                last.set()
            return value

        stage = Map(call, concurrency=4, ordered=ordered)
        return await (From(range(4), size=1) | stage | Collect()).run()

    items = drive(main).items
    assert sorted(items) == [0, 1, 2, 3]
    assert (items == [0, 1, 2, 3]) is ordered


def test_a_result_does_not_wait_for_the_next_item_to_come():
    """A live source: it gives its second item only when the first one's result has arrived."""

    async def main():
        arrived = asyncio.Event()

        async def live():
            yield 1
            await arrived.wait()
            yield 2

        async def call(value):
            return value

        class Live:
            def __aiter__(self):
                return live()

        async with (From(Live(), size=1) | Map(call)).stream() as rows:
            got = []
            async for value in rows:
                got.append(value)
                arrived.set()
        return got

    assert drive(main) == [1, 2]


def test_thread_sensitive_calls_share_asgirefs_one_thread():
    """Even those of two stages."""
    seen = set()

    def call(value):
        seen.add(threading.get_ident())
        return value

    async def main():
        from asgiref.sync import sync_to_async

        stage = Map(call, thread_sensitive=True)
        await (From(range(3000), size=10) | stage | stage | Collect()).run(workers=4)
        seen.add(await sync_to_async(threading.get_ident, thread_sensitive=True)())

    drive(main)
    assert len(seen) == 1


def test_context_variables_reach_functions_in_every_placement(path):
    variable = contextvars.ContextVar("variable", default="unset")

    def function(row):
        return {**row, "text": variable.get()}

    for stage in maps(function):

        async def main(stage=stage):
            variable.set("set")
            return await (Read(path) | stage | Collect()).run()

        assert [r["text"] for r in drive(main).items] == ["set"] * 4


class TestGenerators:
    """Async generator functions over the rows of a file."""

    def test_rows_handed_on_keep_their_bytes_and_changed_fields_alone_are_written_anew(self, tmp_path):
        data = b'v,text\r\n007,"plain"\r\n1.10," a "\n2,"b ""c"""'
        path = write(tmp_path / "in/a.csv", data)

        async def touch(rows):
            async for row in rows:
                if row["v"] == "1.10":
                    row["text"] = "x,y"
                yield row

        (Read(path) | Map(touch) | Write(f"{tmp_path}/out/")).run_sync()
        written = (tmp_path / "out/a.csv").read_bytes()
        assert written.startswith(b'v,text\r\n007,"plain"\r\n1.10,"x,y"')
        assert written.endswith(b'2,"b ""c"""')

    def test_a_generator_may_yield_fewer_rows_or_more(self, tmp_path):
        for i in range(3):
            write(tmp_path / f"in/{i}.csv", "v,text\n" + "".join(f"{j},{i}\n" for j in range(5)))

        async def some(rows):
            async for row in rows:
                for _ in range(int(row["v"]) % 3):
                    yield row

        (Read(tmp_path / "in") | Map(some) | Write(f"{tmp_path}/out/")).run_sync()
        for i in range(3):
            assert (tmp_path / f"out/{i}.csv").read_text() == f"v,text\n1,{i}\n2,{i}\n2,{i}\n4,{i}\n"

    def test_a_generator_that_ends_early_ends_its_file_only(self, tmp_path):
        for i in range(3):
            write(tmp_path / f"in/{i}.csv", "v\n" + "".join(f"{i}{j}\n" for j in range(3000)))

        async def first(rows):
            async for row in rows:
                yield row
                return

        report = (Read(tmp_path / "in", block=100) | Map(first) | Write(f"{tmp_path}/out/")).run_sync()
        assert report.read == 9000
        assert tree(tmp_path / "out") == {f"{i}.csv": b"v\n%d0\n" % i for i in range(3)}

    @pytest.mark.parametrize("wanted", range(6))
    def test_a_generator_that_has_had_enough_leaves_the_next_file_whole(self, wanted, tmp_path):
        """Also where the rest of its file stood in the batch in hand."""
        data = {f"{i}.csv": "v\n" + "".join(f"{i}{j}\n" for j in range(5)) for i in range(3)}
        for name, text in data.items():
            write(tmp_path / "in" / name, text)

        async def some(rows):
            left = wanted
            async for row in rows:
                if not left and row["v"][0] == "1":
                    return
                left -= 1
                yield row

        report = (Read(tmp_path / "in") | Map(some) | Write(f"{tmp_path}/out/")).run_sync()
        assert report.balanced
        short = "v\n" + "".join(f"1{j}\n" for j in range(min(wanted, 5)))
        assert tree(tmp_path / "out") == {n: t.encode() for n, t in (data | {"1.csv": short}).items()}

    @pytest.mark.parametrize("error", [ValueError("three"), SystemExit(3)], ids=["ValueError", "SystemExit"])
    @pytest.mark.parametrize("block", [8, 1 << 20])
    def test_a_generator_that_raises_names_the_row_in_hand(self, error, block, tmp_path):
        path = write(tmp_path / "in/a.csv", CSV)

        async def fail(rows):
            async for row in rows:
                if row["v"] == "3":
                    raise error
                yield row

        found = failure(Read(path, block=block) | Map(fail) | Write(f"{tmp_path}/out/"))
        assert isinstance(found, FunctionError)
        assert type(error).__name__ in str(found)
        assert "byte 15" in str(found)
        assert tree(tmp_path / "out") == {}

    def test_a_generator_cannot_swallow_the_failure_of_its_input(self, tmp_path):
        path = write(tmp_path / "in/a.csv", b"v,text\n" + b"1,a\n" * 3000 + b"2\n")

        async def deaf(rows):
            try:
                async for row in rows:
                    yield row
            except Exception:
                yield {"v": "made", "text": "up"}

        found = failure(Read(path, block=100) | Map(deaf) | Write(f"{tmp_path}/out/"))
        assert isinstance(found, AiopipeError)
        assert "1 field, header has 2" in str(found)
        assert tree(tmp_path / "out") == {}

    @pytest.mark.parametrize(
        ("value", "reason"), [("text", "yielded str, not a row"), ({"w": "1"}, "yielded columns w, before v, text")]
    )
    def test_a_generator_that_yields_what_it_may_not(self, value, reason, path):
        async def bad(rows):
            async for row in rows:
                yield value if row["v"] == "3" else row

        found = failure(Read(path) | Map(bad) | Collect())
        assert reason in str(found)
        assert "byte 15" in str(found)

    def test_a_generator_is_closed_when_the_run_fails_or_is_satisfied(self, tmp_path):
        from aiopipe import Head

        path = write(tmp_path / "in.csv", "v\n" + "1\n" * 5000)
        closed = []

        async def each(rows):
            try:
                async for row in rows:
                    yield row
            finally:
                closed.append(True)

        assert (Read(path, block=64) | Map(each) | Head(1) | Collect()).run_sync().written == 1
        failure(Read(path, block=64) | Map(each) | Map(lambda row: 1 / 0) | Collect())
        assert closed == [True, True]

    def test_rejects_behind_a_generator_are_still_placed_in_the_input(self, tmp_path):
        from aiopipe import Filter

        rows = [f"{i}\n" for i in range(1000)]
        path = write(tmp_path / "in.csv", "v\n" + "".join(rows))

        async def each(rows):
            async for row in rows:
                if int(row["v"]) % 2:
                    yield {"v": "odd"} if row["v"] == "901" else row

        pipeline = Read(path, block=50, types={"v": "BIGINT"}) | Map(each) | Filter("v > 0") | Collect()
        pipeline.run_sync(rejects=str(tmp_path / "rejects.csv"))
        [row] = rejects(tmp_path / "rejects.csv")
        assert (row["line"], row["record"], row["byte"]) == ("903", "902", str(2 + sum(map(len, rows[:901]))))
        assert row["raw"] == b"901\n"


def test_every_cause_is_in_one_group(path):
    """Nobody has to guess: `except*` finds it."""
    with pytest.raises(ExceptionGroup) as caught:
        (Read(path) | Map(functions.picky) | Collect()).run_sync()
    [error] = leaves(caught.value)
    assert isinstance(error, FunctionError)
    assert any("in picky" in note for note in error.__notes__)
