"""Async generator functions over the rows of a file: one call for each file, whatever becomes of it."""

import pytest

from aiopipe import Collect, FunctionError, Map, Read, Write
from aiopipe.errors import AiopipeError
from tests.faults.rows import CSV
from tests.support import failure, rejects, tree, write


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "in.csv", CSV)


def test_rows_handed_on_keep_their_bytes_and_changed_fields_alone_are_written_anew(tmp_path):
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


def test_a_generator_may_yield_fewer_rows_or_more(tmp_path):
    for i in range(3):
        write(tmp_path / f"in/{i}.csv", "v,text\n" + "".join(f"{j},{i}\n" for j in range(5)))

    async def some(rows):
        async for row in rows:
            for _ in range(int(row["v"]) % 3):
                yield row

    (Read(tmp_path / "in") | Map(some) | Write(f"{tmp_path}/out/")).run_sync()
    for i in range(3):
        assert (tmp_path / f"out/{i}.csv").read_text() == f"v,text\n1,{i}\n2,{i}\n2,{i}\n4,{i}\n"


def test_a_generator_that_ends_early_ends_its_file_only(tmp_path):
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
def test_a_generator_that_has_had_enough_leaves_the_next_file_whole(wanted, tmp_path):
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
def test_a_generator_that_raises_names_the_row_in_hand(error, block, tmp_path):
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


def test_a_generator_cannot_swallow_the_failure_of_its_input(tmp_path):
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
def test_a_generator_that_yields_what_it_may_not(value, reason, path):
    async def bad(rows):
        async for row in rows:
            yield value if row["v"] == "3" else row

    found = failure(Read(path) | Map(bad) | Collect())
    assert reason in str(found)
    assert "byte 15" in str(found)


def test_a_generator_is_closed_when_the_run_fails_or_is_satisfied(tmp_path):
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


def test_rejects_behind_a_generator_are_still_placed_in_the_input(tmp_path):
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
