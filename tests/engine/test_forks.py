"""Tee, route and merge: who gets what, who waits for whom, and every way such a run can end."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiopipe import (
    Collect,
    Derive,
    Filter,
    From,
    FunctionError,
    Head,
    Map,
    Merge,
    Pipeline,
    Read,
    Rename,
    Report,
    Route,
    Tee,
    UsageError,
    Write,
)
from aiopipe.engine import forks
from aiopipe.fuse import apart, fuse
from aiopipe.job.run import run
from tests.engine.pieces import Gather, Numbers, Planned, Through, forever
from tests.support import drive, failure, leaves, rejects, tree, write


def ran(pipeline: Pipeline, **job: Any) -> Report:
    """The report of a run that adds up, and so does each of its branches."""
    report = drive(lambda: run(pipeline, **job))
    assert report.balanced, report
    return report


def lines(path: Path) -> list[bytes]:
    """The records of a file, each with its line end."""
    return path.read_bytes().splitlines(keepends=True)[1:]


# -- the same records, the same bytes ---------------------------------------------------------------------------------

record = st.tuples(st.integers(0, 9), st.sampled_from(["007", '"a,b"', '"q""q"', " x", "", "1.10"]))
table = st.lists(record, max_size=30)


@pytest.mark.parametrize("fusing", [fuse, apart])
@pytest.mark.parametrize("workers", [1, 2])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables=st.lists(table, min_size=1, max_size=3), low=st.integers(0, 9), high=st.integers(0, 9), end=st.booleans())
def test_the_branches_of_route_together_are_the_records_of_the_input(
    tmp_path_factory: pytest.TempPathFactory, fusing: Any, workers: int, tables: Any, low: int, high: int, end: bool
) -> None:
    place = tmp_path_factory.mktemp("route")
    for i, rows in enumerate(tables):
        text = "k,t\n" + "".join(f"{k},{t}\n" for k, t in rows)
        write(place / f"in/{i}.csv", text if end else text.removesuffix("\n"))
    first, second = f"k < {low}", f"k < {high}"
    source = Read(f"{place}/in/*.csv", types={"k": "BIGINT"}, block=64)
    routed = source | Route(
        ((first, Write(f"{place}/a/")), (second, Write(f"{place}/b/"))), otherwise=Tee(Write(f"{place}/c/"), Collect())
    )
    report = ran(routed, workers=workers, fusing=fusing)
    assert report.copied == sum(len(rows) - sum(k < max(low, high) for k, _ in rows) for rows in tables)
    # Each branch has the bytes of the filter that says the same; a file's last record may lack its line end.
    for name, where in (
        ("a", first),
        ("b", f"NOT ({first}) AND {second}"),
        ("c", f"NOT ({first}) AND NOT ({second})"),
    ):
        ran(source | Filter(where) | Write(f"{place}/alone-{name}/"))
        assert tree(place / name) == tree(place / f"alone-{name}")
    for i in range(len(tables)):
        whole = [line.rstrip(b"\n") for line in lines(place / f"in/{i}.csv")]
        parts = [line.rstrip(b"\n") for name in "abc" for line in lines(place / f"{name}/{i}.csv")]
        assert sorted(parts) == sorted(whole)


@pytest.mark.parametrize("fusing", [fuse, apart])
def test_both_branches_of_tee_are_the_input_byte_for_byte(tmp_path: Path, fusing: Any) -> None:
    for i in range(300):  # more than travel in one group, and one that is read block by block
        write(tmp_path / f"in/{i}.csv", f'id,text\r\n{i}," a ""{i}"""\r\n00{i},1.10' + "\r\n" * (i % 2))
    write(tmp_path / "in/large.csv", "id,text\n" + "".join(f"{i:07},x\n" for i in range(40_000)))
    made = ran(
        Read(f"{tmp_path}/in") | Tee(Write(f"{tmp_path}/a/"), Filter("id IS NULL OR TRUE") | Write(f"{tmp_path}/b/")),
        fusing=fusing,
    )
    assert tree(tmp_path / "a") == tree(tmp_path / "b") == tree(tmp_path / "in")
    assert (made.read, made.copied, made.written, made.outputs) == (40_600, 40_600, 81_200, 602)


def shout(row: dict[str, str]) -> dict[str, str]:
    row["name"] = row["name"].upper()
    return row


@pytest.mark.parametrize("source", ["records", "items"])
def test_what_one_branch_does_to_a_row_no_other_branch_sees(tmp_path: Path, source: str) -> None:
    write(tmp_path / "in.csv", "name\n" + "ann\nbob\n" * 50)
    begin = Read(f"{tmp_path}/in.csv") if source == "records" else From([{"name": "ann"}, {"name": "bob"}] * 50)
    both = ran(begin | Tee(Map(shout) | Collect(), Collect(), Map(shout) | Derive_or_pass(source) | Collect()))
    names = [[row["name"] for row in branch.items] for branch in both.branches]
    assert names == [["ANN", "BOB"] * 50, ["ann", "bob"] * 50, ["ANN", "BOB"] * 50]
    assert [row["name"] for row in both.items] == [name for branch in names for name in branch]


def Derive_or_pass(source: str) -> Any:  # noqa: N802 - stands where a stage stands
    return Derive(twice="name || name") if source == "records" else Head(1000)


def test_none_is_a_value_like_any_other() -> None:
    report = ran(Merge(From([None, 1]), From([None])) | Tee(Collect(), (Map(lambda v: v) | Collect())))
    assert report.items == [None, 1, None] * 2


# -- who waits for whom -----------------------------------------------------------------------------------------------


def test_the_slowest_branch_holds_up_the_trunk() -> None:
    """However much the source has, only what the channels hold is in flight while one branch stands still."""
    source, quick = Numbers(), Gather()

    async def main() -> None:
        task = asyncio.create_task((source | Tee(quick, Gather(each=forever))).run(workers=2))
        seen = -1
        while seen != source.seen.get("given", 0) or seen < 3:
            seen = source.seen.get("given", 0)
            for _ in range(200):
                await asyncio.sleep(0)
            await asyncio.sleep(0.01)
        assert seen < 40
        assert len(quick.values) <= seen
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    drive(main)
    assert source.seen["closed"]


def test_a_branch_that_has_enough_stops_and_the_others_go_on() -> None:
    source, all_, none = Numbers(500), Gather(), Gather()
    report = ran(source | Tee(Head(2) | Gather(), all_, Head(0) | none))
    assert all_.values == list(range(500))
    assert [(b.given, b.written, b.filtered) for b in report.branches] == [(500, 2, 498), (500, 500, 0), (500, 0, 500)]


def test_the_trunk_stops_when_every_branch_has_enough() -> None:
    source = Numbers()
    report = ran(source | Tee(Head(2) | Collect(), Head(5) | Collect()))
    assert report.items == [0, 1, 0, 1, 2, 3, 4]
    assert source.seen["closed"] and source.seen["given"] < 100


def test_the_second_input_begins_when_the_first_has_ended() -> None:
    one, two = Numbers(50), Numbers(50)
    begun: list[tuple[bool, bool]] = []

    async def each(parcel: Any) -> None:
        begun.append(("given" in one.seen, "given" in two.seen))

    sink = Gather(each=each)
    ran(Merge(one, two | Through()) | sink)
    assert sink.values == [*range(50), *range(50)]
    assert (True, False) in begun and begun[-1] == (True, True)


def test_an_input_that_nobody_gets_to_is_never_opened() -> None:
    one, two = Numbers(), Numbers()
    report = ran(Merge(one, Merge(two | Through(), Numbers(3))) | Head(3) | Collect())
    assert report.items == [0, 1, 2]
    assert one.seen["closed"] and not two.seen


def test_unordered_inputs_come_as_they_come_each_in_its_order() -> None:
    """The first input waits until the sink has the second one whole: in order, this would never end."""
    arrived = asyncio.Event()

    async def first() -> Any:
        await arrived.wait()
        for i in range(20):
            yield i

    async def each(parcel: Any) -> None:
        if 119 in parcel.values:
            arrived.set()

    sink = Gather(each=each)
    ran(Merge(From(first()), From(range(100, 120)), ordered=False) | sink)
    assert sink.values == [*range(100, 120), *range(20)]


# -- how it can end ---------------------------------------------------------------------------------------------------


def bad(row: dict[str, str]) -> dict[str, str]:
    if row["id"] == "9":
        raise ValueError("nine")
    return row


@pytest.mark.parametrize("order", [0, 1])
def test_when_a_branch_fails_no_branch_makes_its_file_visible(tmp_path: Path, order: int) -> None:
    write(tmp_path / "in.csv", "id\n" + "".join(f"{i}\n" for i in range(10)))
    write(tmp_path / "good.csv", "old\n")
    branches: list[Any] = [Write(f"{tmp_path}/good.csv"), Map(bad) | Write(f"{tmp_path}/bad.csv")]
    error = failure(Read(f"{tmp_path}/in.csv") | Tee(*branches[:: -1 if order else 1]))
    assert isinstance(error, FunctionError) and "nine" in error.message and error.position.record == 10
    assert {name: data for name, data in tree(tmp_path).items() if name != "in.csv"} == {"good.csv": b"old\n"}


def test_without_the_curtain_a_file_would_be_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: here nobody waits for the other sinks."""

    async def at_once(self: Any) -> None:
        return None

    monkeypatch.setattr(forks.Curtain, "wait_raised", at_once)
    write(tmp_path / "in.csv", "id\n" + "".join(f"{i}\n" for i in range(10)))

    async def late(row: dict[str, str]) -> dict[str, str]:
        while not (tmp_path / "good.csv").exists():  # noqa: ASYNC110 - a file makes no event
            await asyncio.sleep(0.001)
        raise ValueError("late")

    failure(Read(f"{tmp_path}/in.csv") | Tee(Write(f"{tmp_path}/good.csv"), Map(late) | Write(f"{tmp_path}/bad.csv")))
    assert (tmp_path / "good.csv").exists()


def test_an_error_before_the_split_is_told_once_behind_what_came_before_it() -> None:
    one, two = Gather(), Gather()
    with pytest.raises(ExceptionGroup) as caught:
        drive(lambda: (Numbers(fails_at=7) | Tee(one, Through() | two)).run())
    [error] = leaves(caught.value)
    assert isinstance(error, Planned) and max(len(one.values), len(two.values)) == 7


def test_an_error_in_a_later_input_comes_behind_the_earlier_one() -> None:
    sink = Gather()
    with pytest.raises(ExceptionGroup) as caught:
        drive(lambda: (Merge(Numbers(5), Numbers(fails_at=2)) | sink).run())
    assert [type(e) for e in leaves(caught.value)] == [Planned]
    assert sink.values == [0, 1, 2, 3, 4, 0, 1]


@pytest.mark.parametrize("ordered", [True, False])
def test_cancelled_from_outside_everything_ends(ordered: bool) -> None:
    sources = Numbers(), Numbers()

    async def main() -> None:
        begun = asyncio.Event()

        async def each(parcel: Any) -> None:
            begun.set()
            await forever()

        task = asyncio.create_task((Merge(*sources, ordered=ordered) | Tee(Gather(each=each), Gather())).run())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    drive(main)
    assert sources[0].seen["closed"]


def test_asked_to_stop_every_branch_keeps_its_old_file(tmp_path: Path) -> None:
    write(tmp_path / "in.csv", "id\n" + "1\n" * 200_000)
    stop = asyncio.Event()

    async def main() -> Report:
        stop.set()
        pipeline = Read(f"{tmp_path}/in.csv") | Tee(Write(f"{tmp_path}/a.csv"), Write(f"{tmp_path}/b.csv"))
        return await pipeline.run(stop=stop)

    report = drive(main)
    assert report.interrupted and report.outputs == 0 and set(tree(tmp_path)) == {"in.csv"}


# -- numbers and places -----------------------------------------------------------------------------------------------


def test_the_sums_hold_for_every_branch_and_in_total(tmp_path: Path) -> None:
    write(tmp_path / "in.csv", "id,n\n" + "".join(f"{i},{i % 7}\n" for i in range(100)) + "1,2,3\n" + "101,x\n")
    out = Read(f"{tmp_path}/in.csv", types={"n": "BIGINT"}) | Route(
        {"n = 0": Write(f"{tmp_path}/0.csv"), "n < 3": Tee(Filter("id > 50") | Collect(), Head(4) | Collect())}
    )
    report = ran(out, rejects=f"{tmp_path}/bad.csv")
    route, tee = report.branches[0], report.branches[1]
    assert (report.read, report.rejected) == (102, 2)
    assert (route.given, route.written) == (15, 15)
    assert (tee.given, tee.copied, tee.written) == (29, 29, len(tee.items))
    assert report.stages[-1].name == "route"
    untaken = report.stages[-1].taken - report.stages[-1].given - report.stages[-1].rejected
    assert untaken == 100 - 15 - 29
    assert report.read + report.copied == report.written + report.filtered + report.rejected
    assert f"n = 0: {route.given} given = 15 written" in str(report)
    assert [b["name"] for b in json.loads(report.to_json())["branches"]] == ["n = 0", "n < 3"]


def test_rejects_of_all_branches_stand_in_the_order_of_the_input(tmp_path: Path) -> None:
    rows = "".join(f"{i},{'x' if i % 50 == 0 else i}\n" for i in range(3000))
    write(tmp_path / "in/a.csv", "id,n\n" + rows)
    write(tmp_path / "in/b.csv", "id,n\n" + rows)
    branches = [Filter("n > 5") | Collect(), Filter("n > 7") | Collect()]
    pipeline = Read(f"{tmp_path}/in", types={"n": "BIGINT"}, block=4096) | Tee(*branches)
    for workers in (1, 2):
        ran(pipeline, rejects=f"{tmp_path}/bad.csv", workers=workers)
        found = [(r["path"][-5:], int(r["record"]), r["stage"]) for r in rejects(tmp_path / "bad.csv")]
        assert found == sorted(found) and len(found) == 2 * 2 * 60
        assert found[:2] == [("a.csv", 1, "filter#3"), ("a.csv", 1, "filter#5")]


def test_a_fault_in_a_later_input_has_its_own_place(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / f"{name}.csv", "id,n\n" + "1,2\n" * 5000 + ("1,2,3\n" if name == "b" else ""))
    a, b, c = (Read(f"{tmp_path}/{name}.csv", block=4096) for name in "abc")
    error = failure(Merge(a, Merge(b, c)) | Write(f"{tmp_path}/out.csv"))
    assert str(error).startswith(f"{tmp_path}/b.csv:5002 (record 5001, byte 20005)")
    ran(Merge(a, b, c, ordered=False) | Collect(), rejects=f"{tmp_path}/bad.csv")
    [reject] = rejects(tmp_path / "bad.csv")
    assert (reject["path"], reject["line"]) == (f"{tmp_path}/b.csv", "5002")


def test_inputs_with_their_own_names_and_separators_become_one_file(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "id,n\n007,1\n")
    write(tmp_path / "b.csv", "key;n\n008;2.5\n")
    report = ran(
        Merge(Read(f"{tmp_path}/a.csv"), Read(f"{tmp_path}/b.csv", delimiter=";") | Rename(key="id"))
        | Filter("n > 0.5")
        | Write(f"{tmp_path}/out.csv", format="csv")
    )
    assert (tmp_path / "out.csv").read_text() == "id,n\n007,1\n008,2.5\n"
    assert [(one.name, one.stages[-1].given) for one in report.inputs] == [("input 1", 1), ("input 2", 1)]
    with open(tmp_path / "out.csv", newline="") as file:
        assert len(list(csv.reader(file))) == 3


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tee(), "tee needs a branch"),
        (lambda: Tee(Head(3)), "is no branch"),
        (lambda: Tee(Read("x") | Write("y")), "a branch begins with read"),
        (lambda: Tee(Head(3) | Head(2)), "a branch ends with a sink"),
        (lambda: Route({}), "route needs a condition"),
        (lambda: Merge(), "merge needs an input"),
        (lambda: Merge(Head(3)), "is no input"),
        (lambda: Merge(Read("x") | Write("y")), "an input ends with write"),
        (lambda: Merge(Read("x"), From([1])) | Collect(), "merge cannot join records and items"),
        (lambda: Read("x") | Tee(Write("o"), Head() | Write("./o")), "two branches write to"),
        (lambda: Merge(Read("-"), Read("-")) | Collect(), "standard input is read twice"),
        (lambda: From([1]) | Route({"a > 1": Collect()}), "route cannot take items"),
    ],
)
def test_what_cannot_be_is_refused_with_words(make: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        made = make()
        if isinstance(made, Pipeline):
            made.run_sync()
    assert message in str(caught.value)


def test_a_condition_that_is_none_names_the_stage(tmp_path: Path) -> None:
    write(tmp_path / "in.csv", "id\n1\n")
    with pytest.raises(UsageError) as caught:
        (Read(f"{tmp_path}/in.csv") | Route({"idd > 1": Collect()})).run_sync()
    assert "route" in str(caught.value) and "did you mean id" in str(caught.value)
