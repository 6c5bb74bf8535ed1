"""With keep_going, a file that fails leaves nothing new, says why, and lets every other file be made."""

import asyncio
import errno
import functools
import json
import os

import pytest

from aiopipe import Dedupe, Derive, Filter, FunctionError, Head, InputError, Map, Read, RecordError, Skip, Write
from aiopipe.errors import ChangedError, UnitsFailedError, UsageError, WorkerError
from aiopipe.fuse import apart, fuse
from aiopipe.job.run import run
from tests.faults import functions
from tests.support import failure, leaves, shown, tree, write

GOOD = {f"{i}.csv": b"v,text\n" + b"".join(b"%d,%d\n" % (j, i) for j in range(1, 3 + 5 * i)) for i in range(8)}
LARGE = b"v,text\n" + b"".join(b"%d,large\n" % j for j in range(2000))
BAD = {
    "2b.csv": (b"v,text\n1,a\n2\n3,c\n", RecordError, "2b.csv:3 (record 2, byte 11)"),
    "4b.csv": (b"v,text\n1,a\n2,b,c\n3,c\n4\n", RecordError, "4b.csv:3 (record 2, byte 11)"),
    "5b.csv": (b'v,"text\n1,a\n', RecordError, "a quote in the header is never closed"),
    "5c.csv": (LARGE + b"bad\n", RecordError, "5c.csv:2002 (record 2001"),
    "5d.csv": (LARGE[:100] + b"bad\n" + LARGE[100:], RecordError, "5d.csv:"),
    "5e.csv": (b'v,"text\n' + LARGE, RecordError, "never closed"),
    "6b.csv": (b"\x1f\x8bpacked", RecordError, "compressed"),
}


@pytest.fixture
def place(tmp_path):
    for name, data in GOOD.items():
        write(tmp_path / "in" / name, data)
    write(tmp_path / "in/4a.csv", LARGE)
    for name, (data, _, _) in BAD.items():
        write(tmp_path / "in" / name, data)
        write(tmp_path / "out" / name, "old")
    return tmp_path


def ended(stages, **job):
    """The group that a run ends with."""
    with pytest.raises(UnitsFailedError) as caught:
        asyncio.run(run(functools.reduce(lambda a, b: a | b, stages), keep_going=True, **job))
    return caught.value


async def async_same(row):
    await asyncio.sleep(0)
    return row


async def handed_on(rows):
    async for row in rows:
        yield row


MIDDLES = {
    "nothing": [],
    "filter": [Filter("v >= 0")],
    "function": [Map(functions.same)],
    "calls": [Map(async_same, concurrency=3)],
    "generator": [Map(handed_on)],
    "memory": [Dedupe(per_file=True), Skip(0, per_file=True), Head(5000, per_file=True)],
    "chain": [Filter("v >= 0"), Map(async_same), Map(functions.same), Map(handed_on), Derive(w="v"), Filter("w >= 0")],
}


@pytest.mark.parametrize("middle", MIDDLES)
@pytest.mark.parametrize(("workers", "fusing", "block"), [(1, fuse, 4000), (4, apart, 400), (2, fuse, 1 << 20)])
def test_bad_files_fail_with_their_places_and_all_others_are_made(middle, workers, fusing, block, place):
    source = Read(place / "in", block=block, types={"v": "BIGINT"})
    stages = [source, *MIDDLES[middle], Write(f"{place}/out/")]
    group = ended(stages, workers=workers, fusing=fusing)
    wrong = list(leaves(group))
    assert len(wrong) == len(BAD)
    for (name, (_, kind, words)), error in zip(BAD.items(), wrong, strict=True):
        assert isinstance(error, kind)
        assert name in str(error)
        assert words in str(error)
    report = group.report
    assert {p.name for p in (place / "in").iterdir()} == tree(place / "out").keys()
    assert [f.path for f in report.failed] == [f"{place}/in/{name}" for name in BAD]
    assert report.outputs == len(GOOD) + 1
    assert report.read + report.added == report.written + report.filtered + report.rejected + report.unfinished
    assert report.written == sum(d.count(b"\n") - 1 for d in [*GOOD.values(), LARGE])
    after = tree(place / "out")
    assert after.keys() == {p.name for p in (place / "in").iterdir()}
    for name, data in after.items():
        if name in BAD:
            assert data == b"old"
        elif middle == "chain":
            assert data.startswith(b"v,text,w\n")
        else:
            assert data == (GOOD | {"4a.csv": LARGE})[name]


@pytest.mark.parametrize("middle", MIDDLES)
def test_a_run_whose_files_are_all_good_ends_as_always(middle, place):
    for name in BAD:
        (place / "in" / name).unlink()
    pipeline = Read(place / "in", types={"v": "BIGINT"})
    for stage in MIDDLES[middle]:
        pipeline = pipeline | stage
    assert (pipeline | Write(f"{place}/out/")).run_sync(keep_going=True).failed == []


def picky(row):
    if row["v"] == "7" and row["text"] == "3":
        raise ValueError("seven")
    return row


async def async_picky(row):
    return picky(row)


async def picky_rows(rows):
    async for row in rows:
        yield picky(row)


@pytest.mark.parametrize("stage", [Map(picky), Map(picky, concurrency=3), Map(async_picky), Map(picky_rows),
                                   Map(picky, placement="process")], ids=shown)  # fmt: skip
def test_a_function_that_raises_fails_its_file_with_its_own_traceback(stage, place):
    for name in BAD:
        (place / "in" / name).unlink()
    group = ended([Read(place / "in", block=4000), stage, Write(f"{place}/out/")], workers=2)
    [error] = leaves(group)
    assert isinstance(error, FunctionError)
    assert "3.csv:8 (record 7, byte" in str(error) or stage.call is picky_rows
    assert "ValueError: seven" in str(error)
    assert "in picky" in "".join(error.__notes__)
    assert "3.csv" not in tree(place / "out")
    assert tree(place / "out").keys() >= (GOOD.keys() | {"4a.csv"}) - {"3.csv"}


def test_columns_that_change_within_a_file_fail_that_file(place):
    def changing(row):
        return row if row["v"] != "1500" else {"v": "1"}

    for name in BAD:
        (place / "in" / name).unlink()
    for stage in (Map(changing), Map(functions.same)):
        if stage.call is functions.same:
            break
        group = ended([Read(place / "in", block=1000), stage, Write(f"{place}/out/")])
        [error] = leaves(group)
        assert "column" in str(error) or "lacks" in str(error)
        assert "4a.csv" not in tree(place / "out")
        assert tree(place / "out").keys() >= GOOD.keys()


def test_a_file_that_cannot_be_read_fails_alone(place, monkeypatch):
    real = os.open

    def refuse(path, *rest, **named):
        if str(path).endswith(("in/3.csv", "in/4a.csv")):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *rest, **named)

    for name in BAD:
        (place / "in" / name).unlink()
    monkeypatch.setattr(os, "open", refuse)
    wrong = list(leaves(ended([Read(place / "in", block=4000), Write(f"{place}/out/")])))
    assert [type(e) for e in wrong] == [InputError, InputError]
    assert ["3.csv" in str(wrong[0]), "4a.csv" in str(wrong[1])] == [True, True]
    assert GOOD.keys() - tree(place / "out").keys() == {"3.csv"}


@pytest.mark.parametrize(("times", "retries", "ends_well"), [(1, 1, True), (1, 0, False), (3, 2, False), (2, 2, True)])
def test_input_that_changes_while_it_is_read_is_read_again_and_then_fails(
    times, retries, ends_well, place, monkeypatch
):
    changes = 0
    real = os.read

    def meddle(fd, count):
        nonlocal changes
        data = real(fd, count)
        if os.readlink(f"/proc/self/fd/{fd}").endswith("in/3.csv") and changes < times:
            changes += 1
            os.utime(place / "in/3.csv", ns=(changes, changes))
        return data

    for name in BAD:
        (place / "in" / name).unlink()
    monkeypatch.setattr(os, "read", meddle)
    stages = [Read(place / "in"), Write(f"{place}/out/")]
    if ends_well:
        (stages[0] | stages[1]).run_sync(retries=retries)
        assert tree(place / "out").keys() >= GOOD.keys()
    else:
        [error] = leaves(ended(stages, retries=retries))
        assert isinstance(error, ChangedError)
        assert GOOD.keys() - tree(place / "out").keys() == {"3.csv"}
    assert changes == times if ends_well else changes == retries + 1


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_record_that_kills_its_worker_is_tried_again_as_often_as_asked_and_then_fails_its_file(retries, place):
    for name in BAD:
        (place / "in" / name).unlink()
    write(place / "in/5.csv", b"v,text\n1,5\n9999,5\n2,5\n")
    log = place / "calls"
    stage = Map(functools.partial(functions.logs_and_dies, str(log)), placement="process")
    group = ended([Read(place / "in"), stage, Write(f"{place}/out/")], workers=2, retries=retries)
    [error] = list(leaves(group))
    assert isinstance(error, WorkerError)
    assert "5.csv:3 (record 2, byte 11)" in str(error)
    assert "was killed by SIGKILL" in str(error)
    assert log.read_text().splitlines().count("9999") == retries + 1
    assert GOOD.keys() - tree(place / "out").keys() == {"5.csv"}


def test_a_worker_that_is_killed_once_costs_nothing_but_time(place):
    for name in BAD:
        (place / "in" / name).unlink()
    mark = write(place / "mark", "")
    stage = Map(functools.partial(functions.dies_once, mark), placement="process")
    report = (Read(place / "in") | stage | Write(f"{place}/out/")).run_sync(workers=2)
    assert not os.path.exists(mark)
    assert report.outputs == len(GOOD) + 1
    assert {n: d for n, d in tree(place / "out").items() if n in GOOD} == GOOD


def test_the_command_line_tells_of_each_file_and_ends_with_1(place, capsys):
    from aiopipe.cli import main

    arguments = ["pipe", "--keep-going", "--report", f"{place}/report.json", "read", f"{place}/in"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["aiopipe", *arguments, "then", "write", f"{place}/out/"])
        assert main() == 1
    said = capsys.readouterr().err
    for name, (_, _, words) in BAD.items():
        assert name in said
        assert words in said
    assert "7 files failed and left no new output; 9 outputs made of the others" in said
    assert "Traceback" not in said
    found = json.loads((place / "report.json").read_text())
    assert [f["path"] for f in found["failed"]] == [f"{place}/in/{name}" for name in BAD]


def test_wrong_usage_ends_the_run_all_the_same(place):
    error = failure(Read(place / "in") | Map(functions.same) | Write(f"{place}/out.csv"), keep_going=True)
    assert isinstance(error, UsageError)
    assert "stand alone" in str(error)
    for stage in (Head(3), Skip(1), Dedupe()):
        error = failure(Read(place / "in") | stage | Write(f"{place}/out/"), keep_going=True)
        assert isinstance(error, UsageError)
    assert isinstance(failure(Read(place / "in") | Write(f"{place}/out/"), retries=-1), UsageError)


def test_without_keep_going_the_first_bad_file_ends_the_run(place):
    error = failure(Read(place / "in", block=4000) | Write(f"{place}/out/"))
    assert "2b.csv:3 (record 2, byte 11)" in str(error)
    assert "7.csv" not in tree(place / "out")
