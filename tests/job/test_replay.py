"""Records that were set aside run again, alone; what passes stands where a run over everything would have put it."""

import asyncio
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from aiopipe import Collect, Derive, Filter, Head, InputError, Map, Read, Select, Tee, UsageError, Write
from aiopipe.errors import AiopipeError, FunctionError, OutputError
from aiopipe.job.inspect import status, verify, why
from aiopipe.job.ledger import open_ledger
from aiopipe.job.rejects import COLUMNS, row_of
from aiopipe.job.replay import Replayed
from aiopipe.model import Reject
from aiopipe.stage import Pipeline
from tests.support import leaves, rejects, tree, write

CALLS: list[str] = []


def strict(row: dict[str, str]) -> dict[str, str]:
    if int(row["id"]) % 3 == 0:
        raise ValueError("a third")
    return {**row, "text": row["text"].upper()}


def lenient(row: dict[str, str]) -> dict[str, str]:
    CALLS.append(row["id"])
    return {**row, "text": row["text"].upper()}


def half(row: dict[str, str]) -> dict[str, str]:
    if int(row["id"]) % 2 == 0:
        raise ValueError("even")
    return {**row, "text": row["text"].upper()}


async def astrict(row: dict[str, str]) -> dict[str, str]:
    await asyncio.sleep(0)
    return strict(row)


async def alenient(row: dict[str, str]) -> dict[str, str]:
    await asyncio.sleep(0)
    return lenient(row)


def chain(source: Read, stages: Any, sink: Write) -> Pipeline:
    pipeline: Any = source
    for stage in stages:
        pipeline = pipeline | stage
    made: Pipeline = pipeline | sink
    return made


def replayed(pipeline: Pipeline, file: Path | str, **options: Any) -> Replayed:
    return asyncio.run(pipeline.replay(str(file), **options))


def refused(pipeline: Pipeline, file: Path | str, **options: Any) -> AiopipeError:
    """What a replay ends with."""
    with pytest.raises((AiopipeError, ExceptionGroup)) as caught:
        replayed(pipeline, file, **options)
    [only] = leaves(caught.value)
    assert isinstance(only, AiopipeError)
    assert only.hint
    return only


def rewrite(path: Path, rows: list[dict[str, Any]]) -> None:
    """A rejects file with these rows, as `rejects` gives them."""
    import csv

    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in rows:
            text = row_of(Reject(None, _Nowhere, "", "", row["raw"]))  # type: ignore[arg-type]
            writer.writerow({**row, "raw": text["raw"], "raw_encoding": text["raw_encoding"]})


class _Nowhere:
    path = ""
    line = record = byte = None


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name, count in (("a.csv", 10), ("sub/b.csv", 3), ("c.csv", 0)):
        write(tmp_path / "in" / name, "id,text\n" + "".join(f"{j},t{j}\n" for j in range(count)))
    return tmp_path


def job(place: Path, *stages: Any, to: str = "out/", **options: Any) -> Pipeline:
    return chain(Read(place / "in", types={"id": "BIGINT"}), stages, Write(f"{place}/{to}", **options))


# A run, and its replay with the mended functions, over trees of any kind.

MIDDLES: dict[str, tuple[list[Any], list[Any]]] = {
    "function": ([Map(strict)], [Map(lenient)]),
    "filters around": (
        [Filter("id % 4 <> 1"), Map(strict), Filter("id % 5 <> 2")],
        [Filter("id % 4 <> 1"), Map(lenient), Filter("id % 5 <> 2")],
    ),
    "in the loop": (
        [Filter("id % 4 <> 1"), Map(astrict, concurrency=3), Derive(more="id + 1")],
        [Filter("id % 4 <> 1"), Map(alenient, concurrency=3), Derive(more="id + 1")],
    ),
    "twice": ([Map(strict), Map(half), Select("text", "id")], [Map(lenient), Map(half), Select("text", "id")]),
    "malformed only": ([Filter("id % 4 <> 1")], [Filter("id % 4 <> 1")]),
}


class Tree:
    """Random files with random records, some of them malformed; `mended` is what a malformed one becomes."""

    def __init__(self, root: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.end = self.chance.choice(["\n", "\r\n"])
        self.mends: dict[bytes, bytes] = {}
        self.whole: dict[str, list[str]] = {}
        for i in range(self.chance.randint(1, 6)):
            name = self.chance.choice(["", "sub/", "d/e/"]) + f"{i}.csv"
            count = self.chance.choice([0, 1, 2, 7, 40, 400])
            lines = [self.line(j) for j in range(count)]
            if self.chance.random() < 0.3:  # no final line end
                lines[-1:] = [line.removesuffix(self.end) for line in lines[-1:]]
            self.whole[name] = lines
        self.write(root / "in", mended=False)
        self.write(root / "mended", mended=True)

    def line(self, number: int) -> str:
        some = self.chance
        word = some.choice(["t", '"q,x"', f'"two{self.end}lines"', '"d""q"', "ü", "", " lead"])
        good = f"{number},{word}{self.end}"
        if some.random() < 0.1:
            self.mends[f"{number}!{self.end}".encode()] = good.encode()
            return f"{number}!{self.end}"
        return good

    def write(self, root: Path, *, mended: bool) -> None:
        for name, lines in self.whole.items():
            text = "".join(self.mends.get(x.encode(), x.encode()).decode() if mended else x for x in lines)
            write(root / name, f"id,text{self.end}{text}")


@pytest.mark.parametrize("middle", MIDDLES)
@pytest.mark.parametrize("style", [None, "jsonl", "tsv"])
@pytest.mark.parametrize("seed", range(4))
def test_a_replay_gives_the_bytes_of_a_run_over_everything(middle: str, style: str | None, seed: int, tmp_path: Path):
    before, now = MIDDLES[middle]
    made = Tree(tmp_path, seed)
    block = made.chance.choice([64, 1000, 1 << 20])
    source = Read(tmp_path / "in", types={"id": "BIGINT"}, block=block)
    bad, sink = tmp_path / "bad.csv", Write(f"{tmp_path}/out/", format=style)
    chain(source, before, sink).run_sync(rejects=str(bad), workers=made.chance.choice([1, 3]), memory="4MB")
    rows = rejects(bad)
    mend = made.chance.random() < 0.7
    if mend:  # mended with its line end, and without
        rewrite(bad, [{**r, "raw": made.mends.get(r["raw"], r["raw"])} for r in rows])
    done = replayed(chain(source, now, sink), bad)
    assert done.records == len(rows)
    fresh = chain(
        Read(tmp_path / ("mended" if mend else "in"), types={"id": "BIGINT"}),
        now,
        Write(f"{tmp_path}/fresh/", format=style),
    )
    fresh.run_sync(rejects=str(tmp_path / "left.csv"))
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")
    left = rejects(tmp_path / "left.csv")
    assert done.left == len(left)
    same = ("record", "stage", "reason", "raw")
    assert [[r[k] for k in same] for r in rejects(bad)] == [[r[k] for k in same] for r in left]
    assert verify(f"{tmp_path}/out").problems == []
    # Once more there is nothing to do, and nothing is done twice.
    again = replayed(chain(source, now, sink), bad)
    assert (again.written, again.outputs, again.left) == (0, 0, len(left))
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_only_the_rejected_records_run(place: Path):
    bad = place / "bad.csv"
    job(place, Map(strict)).run_sync(rejects=str(bad))
    CALLS.clear()
    done = replayed(job(place, Map(lenient)), bad)
    assert sorted(CALLS) == ["0", "0", "3", "6", "9"]  # in threads: each is a chunk by itself
    assert (done.records, done.written, done.filtered, done.rejected, done.outputs, done.left) == (5, 5, 0, 0, 2, 0)
    assert str(done) == "5 records replayed = 5 written + 0 filtered + 0 rejected\n2 outputs replaced"
    assert (place / "out/a.csv").read_text() == "id,text\n" + "".join(f"{j},T{j}\n" for j in range(10))
    assert bad.read_text() == ",".join(COLUMNS) + "\n"


def test_the_ledger_tells_of_the_replay_and_the_unchanged_pipeline_has_nothing_to_do(place: Path):
    bad = place / "bad.csv"
    pipeline = job(place, Filter("id >= 0"))
    write(place / "in/a.csv", "id,text\n1,a\n2\n3,c\n")
    then = time.time() - 60
    os.utime(place / "in/a.csv", (then, then))
    pipeline.run_sync(rejects=str(bad))
    rewrite(bad, [{**row, "raw": b"2,b"} for row in rejects(bad)])
    assert replayed(pipeline, bad).written == 1
    assert (place / "out/a.csv").read_text() == "id,text\n1,a\n2,b\n3,c\n"
    ledger = open_ledger(f"{place}/out")
    [unit] = [u for u in ledger.units() if str(u.key) == "a.csv"]
    ledger.close()
    assert (unit.state, unit.taken, unit.given, unit.rejected) == ("done", 3, 3, 0)
    assert "1 record that had been set aside passed in a replay" in str(why(f"{place}/out/a.csv"))
    assert status(f"{place}/out").rejected == 0
    assert pipeline.run_sync().unchanged == 3  # without --rejects as well
    assert (place / "out/a.csv").read_text() == "id,text\n1,a\n2,b\n3,c\n"


def test_another_pipeline_does_the_files_anew_after_a_replay_with_a_mended_function(place: Path):
    bad = place / "bad.csv"
    job(place, Map(strict)).run_sync(rejects=str(bad))
    replayed(job(place, Map(lenient)), bad)
    after = tree(place / "out")
    assert job(place, Map(lenient)).run_sync().unchanged == 0
    assert tree(place / "out") == after


def test_what_is_rejected_again_stays_with_its_place_and_the_new_reason(place: Path):
    bad = place / "bad.csv"
    job(place, Map(strict)).run_sync(rejects=str(bad))
    before = rejects(bad)
    done = replayed(job(place, Map(half)), bad)
    assert (done.written, done.rejected, done.left) == (2, 3, 3)
    left = rejects(bad)
    assert [r["raw"] for r in left] == [b"0,t0\n", b"6,t6\n", b"0,t0\n"]
    assert all(r["reason"].startswith("ValueError: even") for r in left)
    keys = ("path", "line", "record", "byte")
    assert [[r[k] for k in keys] for r in left] == [
        [r[k] for k in keys] for r in before if r["raw"] in {b"0,t0\n", b"6,t6\n"}
    ]
    assert replayed(job(place, Map(lenient)), bad).left == 0
    assert (place / "out/a.csv").read_text() == "id,text\n" + "".join(f"{j},T{j}\n" for j in range(10))


def test_rows_taken_out_of_the_file_stay_set_aside(place: Path):
    bad = place / "bad.csv"
    job(place, Map(strict)).run_sync(rejects=str(bad))
    rewrite(bad, rejects(bad)[1:2])
    done = replayed(job(place, Map(lenient)), bad)
    assert (done.records, done.written, done.left) == (1, 1, 4)
    assert [r["raw"] for r in rejects(bad)] == [b"0,t0\n", b"6,t6\n", b"9,t9\n", b"0,t0\n"]
    assert replayed(job(place, Map(lenient)), bad).left == 0
    assert (place / "out/a.csv").read_text() == "id,text\n" + "".join(f"{j},T{j}\n" for j in range(10))


def test_a_rejects_file_in_json_lines(place: Path):
    bad = place / "bad.jsonl"
    job(place, Map(strict)).run_sync(rejects=str(bad))
    assert replayed(job(place, Map(lenient)), bad).written == 5
    assert bad.read_text() == ""


def test_an_output_that_got_no_record_gets_the_columns_of_those_that_pass(place: Path):
    def adds(row: dict[str, str]) -> dict[str, str]:
        return {**row, "more": row["id"]}

    def never(row: dict[str, str]) -> dict[str, str]:
        raise ValueError("never")

    bad = place / "bad.csv"
    job(place, Map(never)).run_sync(rejects=str(bad))
    assert (place / "out/sub/b.csv").read_text() == "id,text\n"
    assert replayed(job(place, Map(adds)), bad).left == 0
    assert (place / "out/sub/b.csv").read_text() == "id,text,more\n0,t0,0\n1,t1,1\n2,t2,2\n"


def test_other_columns_are_refused_and_the_output_stays(place: Path):
    def fewer(row: dict[str, str]) -> dict[str, str]:
        return {"id": row["id"]}

    bad = place / "bad.csv"
    job(place, Map(strict)).run_sync(rejects=str(bad))
    before = tree(place / "out")
    error = refused(job(place, Map(fewer)), bad)
    assert isinstance(error, OutputError)
    assert "other columns" in str(error)
    assert tree(place / "out") == before
    assert verify(f"{place}/out").problems == []


# What cannot be replayed is refused before anything is written.


@pytest.fixture
def bad(place: Path) -> Path:
    job(place, Map(strict)).run_sync(rejects=str(place / "bad.csv"))
    return place / "bad.csv"


def test_a_changed_input(bad: Path, place: Path):
    write(place / "in/a.csv", "id,text\n1,x\n")
    error = refused(job(place, Map(lenient)), bad)
    assert isinstance(error, InputError)
    assert "a.csv: input changed: size" in str(error)
    assert "run the pipeline itself again" in str(error)


def test_a_changed_output(bad: Path, place: Path):
    write(place / "out/a.csv", "id,text\nmine\n")
    assert "output damaged" in str(refused(job(place, Map(lenient)), bad))
    assert (place / "out/a.csv").read_text() == "id,text\nmine\n"


def test_an_output_changed_behind_its_signature(bad: Path, place: Path):
    """Same size, time and inode: only the hash tells."""
    path = place / "out/a.csv"
    was = path.stat()
    ledger = open_ledger(f"{place}/out")
    ledger.close()
    data = path.read_bytes()
    path.write_bytes(data.replace(b"T1", b"X1"))
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    import sqlite3

    with sqlite3.connect(place / "out/.aiopipe/ledger.db") as connection:
        connection.execute("UPDATE outputs SET ctime_ns = ? WHERE path = ?", (path.stat().st_ctime_ns, b"a.csv"))
    connection.close()
    assert "does not hold what was written" in str(refused(job(place, Map(lenient)), bad))
    assert path.read_bytes() == data.replace(b"T1", b"X1")


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([Filter("id > 1"), Map(lenient)], "stages read | map | write -> read | filter | map | write"),
        ([], "stages"),
    ],
)
def test_another_pipeline(stages: list[Any], words: str, bad: Path, place: Path):
    error = refused(job(place, *stages), bad)
    assert isinstance(error, UsageError)
    assert words in str(error)
    assert "may concern records that passed as well" in str(error)


def test_an_option_of_a_stage_that_all_records_see(place: Path):
    bad = place / "bad.csv"
    write(place / "in/a.csv", "id,text\n1,a\n2\n3,c\n")
    job(place, Filter("id > 1")).run_sync(rejects=str(bad))
    assert "filter.where 'id > 1' -> 'id > 2'" in str(refused(job(place, Filter("id > 2")), bad))


def test_a_token_for_null_is_a_mend(place: Path):
    bad = place / "bad.csv"
    write(place / "in/a.csv", "id,text\n1,a\nNA,b\n3,c\n")
    job(place, Derive(twice="id * 2")).run_sync(rejects=str(bad))
    assert [r["raw"] for r in rejects(bad)] == [b"NA,b\n"]
    mended = chain(
        Read(place / "in", types={"id": "BIGINT"}, null="NA"), [Derive(twice="id * 2")], Write(f"{place}/out/")
    )
    assert replayed(mended, bad).left == 0
    assert (place / "out/a.csv").read_text() == "id,text,twice\n1,a,2\nNA,b,\n3,c,6\n"


@pytest.mark.parametrize("stage", [Head(5), Head(5, per_file=True), Map(lenient, concurrency=2, ordered=False)])
def test_stages_that_see_several_records_together(stage: Any, place: Path):
    bad = place / "bad.csv"
    job(place, stage, Map(strict)).run_sync(rejects=str(bad))
    error = refused(job(place, stage, Map(lenient)), bad)
    assert isinstance(error, UsageError)
    assert "does not work on each record for itself" in str(error)


def test_branches(bad: Path, place: Path):
    source = Read(place / "in")
    assert "into one output" in str(refused(source | Tee(Write(f"{place}/x/"), Write(f"{place}/y/")), bad))


def test_files_that_are_not_among_the_input(bad: Path, place: Path):
    pipeline = chain(Read(place / "in/a.csv"), [Map(lenient)], Write(f"{place}/out/"))
    assert "b.csv, which this pipeline does not read" in str(refused(pipeline, bad))


def test_no_rejects_file(place: Path):
    assert "cannot read" in str(refused(job(place), place / "none.csv"))
    job(place).run_sync()
    assert "is no rejects file" in str(refused(job(place), place / "in/a.csv"))
    write(place / "odd.csv", ",".join(COLUMNS) + "\na,b\n")
    assert "is no rejects file" in str(refused(job(place), place / "odd.csv"))


def test_a_directory_without_a_ledger(place: Path):
    bad = place / "bad.csv"
    job(place, Map(strict)).run_sync(rejects=str(bad), ledger=False)
    assert "has no ledger" in str(refused(job(place, Map(lenient)), bad))
    assert not (place / "out/.aiopipe").exists()


@pytest.mark.parametrize(("raw", "count"), [(b"1,a\n2,b\n", 2), (b"\n", 0), (b"", 0)])
def test_a_row_that_is_made_more_records_or_none(raw: bytes, count: int, bad: Path, place: Path):
    rewrite(bad, [{**row, "raw": raw} for row in rejects(bad)])
    error = refused(job(place, Map(lenient)), bad)
    assert f"raw holds {count} records, and was one" in str(error)
    assert "a.csv:2:" in str(error)


def test_on_error_stop_ends_it(bad: Path, place: Path):
    error = refused(job(place, Map(half, on_error="stop")), bad)
    assert isinstance(error, FunctionError)
    assert "a.csv:2 (record 1, byte 8)" in str(error)


# Where there is no ledger.


def test_what_passes_goes_to_a_file_of_its_own(place: Path):
    bad, out = place / "bad.csv", place / "all.csv"
    chain(Read(place / "in"), [Map(strict)], Write(str(out))).run_sync(rejects=str(bad))
    before = out.read_bytes(), bad.read_bytes()
    error = refused(chain(Read(place / "in"), [Map(lenient)], Write(str(out))), bad)
    assert "is there" in str(error)
    done = replayed(
        chain(Read(place / "in"), [Map(half)], Write(f"{place}/more.csv")), bad, rejects=f"{place}/left.csv"
    )
    assert (done.written, done.rejected, done.left) == (2, 3, 3)
    assert (place / "more.csv").read_text() == "id,text\n3,T3\n9,T9\n"
    assert (out.read_bytes(), bad.read_bytes()) == before
    assert [(r["line"], r["record"], r["byte"]) for r in rejects(place / "left.csv")] == [
        (r["line"], r["record"], r["byte"]) for r in rejects(bad) if int(r["raw"][:1]) % 2 == 0
    ]


def test_without_a_file_for_the_rest_the_first_that_fails_again_ends_it(place: Path):
    bad = place / "bad.csv"
    chain(Read(place / "in"), [Map(strict)], Write(f"{place}/all.csv")).run_sync(rejects=str(bad))
    error = refused(chain(Read(place / "in"), [Map(half)], Write(f"{place}/more.csv")), bad)
    assert "a.csv:2 (record 1, byte 8): map: ValueError: even" in str(error)
    assert not (place / "more.csv").exists()
    items = replayed(Read(place / "in") | Map(lenient) | Collect(), bad).items
    assert [r["id"] for r in items] == ["0", "3", "6", "9", "0"]
