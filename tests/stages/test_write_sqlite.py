"""`write sqlite:///...#table`: rows and the ledger's note of them in one transaction, no row twice."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from aiopipe import Dedupe, Filter, Head, Map, Read, Tee, Write
from aiopipe.errors import (
    InputError,
    LockedError,
    OutputError,
    RecordError,
    UnitsFailedError,
    UnknownNameError,
    UsageError,
)
from aiopipe.job.rejects import read_rejects
from tests.support import failure, write


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sql(text: str, *given: Any) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect("x.db", isolation_level=None)
    try:
        return connection.execute(text, given).fetchall()
    finally:
        connection.close()


def table(name: str = "t") -> list[tuple[Any, ...]]:
    return sorted(sql(f"SELECT * FROM {name}"), key=repr)


def units() -> dict[str, tuple[Any, ...]]:
    """What the ledger says of each unit, and how many rows the table has of it."""
    found = sql("SELECT unit, state, given, (SELECT count(*) FROM t WHERE _unit = u.unit) FROM _aiopipe_units AS u")
    return {row[0]: row[1:] for row in found}


def three(root: Path) -> None:
    write(root / "in/a.csv", "id,name\n1,ann\n2,\n")
    write(root / "in/b.csv", 'id,name\n3,"x ""y"", z"\n')
    write(root / "in/sub/c.csv", "id,name\n007,é\n")


def test_rows_arrive_as_text_with_the_file_they_are_of(here: Path) -> None:
    three(here)
    report = (Read("in/") | Write("sqlite:///x.db#t")).run_sync()
    assert (report.read, report.written, report.balanced) == (4, 4, True)
    assert table() == [
        ("007", "é", "sub/c.csv"),
        ("1", "ann", "a.csv"),
        ("2", None, "a.csv"),
        ("3", 'x "y", z', "b.csv"),
    ]
    assert units() == {"a.csv": ("done", 2, 2), "b.csv": ("done", 1, 1), "sub/c.csv": ("done", 1, 1)}
    assert sorted(os.listdir()) == ["in", "x.db"]  # no lock, no journal, no temporary


def test_what_is_done_is_passed_over_and_what_changed_is_replaced(here: Path) -> None:
    three(here)
    pipeline = Read("in/") | Write("sqlite:///x.db#t")
    pipeline.run_sync()
    again = pipeline.run_sync()
    assert (again.unchanged, again.written, len(table())) == (3, 0, 4)
    write(here / "in/a.csv", "id,name\n1,anna\n")
    third = pipeline.run_sync()
    assert (third.unchanged, third.written) == (2, 1)
    assert ("1", "anna", "a.csv") in table() and len(table()) == 3
    forced = pipeline.run_sync(force=True)
    assert (forced.unchanged, forced.written, len(table())) == (0, 3, 3)
    other = (Read("in/") | Filter("name <> 'anna'") | Write("sqlite:///x.db#t")).run_sync()
    assert (other.unchanged, len(table())) == (0, 2)


def test_a_table_that_was_dropped_is_filled_again_and_none_of_its_notes_are_believed(here: Path) -> None:
    three(here)
    (Read("in/") | Write("sqlite:///x.db#t")).run_sync()
    sql("DROP TABLE t")
    (Read("in/a.csv") | Write("sqlite:///x.db#t")).run_sync()
    assert list(units()) == ["a.csv"]
    assert (Read("in/") | Write("sqlite:///x.db#t")).run_sync().written == 2
    assert len(table()) == 4


def test_inputs_that_are_gone_take_their_rows_along_only_with_prune(here: Path) -> None:
    three(here)
    pipeline = Read("in/") | Write("sqlite:///x.db#t")
    pipeline.run_sync()
    (here / "in/b.csv").unlink()
    pipeline.run_sync()
    assert len(table()) == 4
    assert pipeline.run_sync(prune=True).pruned == 1
    assert len(table()) == 3 and "b.csv" not in units()


def test_empty_fields_can_stay_texts_and_columns_can_have_types_and_a_key(here: Path) -> None:
    three(here)
    (Read("in/a.csv") | Write("sqlite:///x.db#t", empty="text", types={"id": "INTEGER"}, key=["id"])).run_sync()
    assert table() == [(1, "ann", "a.csv"), (2, "", "a.csv")]
    assert [row[5] for row in sql("PRAGMA table_info(t)")] == [1, 0, 0]


def test_columns_are_matched_by_name_and_an_unknown_one_is_named_with_the_nearest(here: Path) -> None:
    three(here)
    sql("CREATE TABLE t (Name TEXT, extra TEXT DEFAULT 'x', id INTEGER, double AS (id * 2), _unit TEXT)")
    (Read("in/a.csv") | Write("sqlite:///x.db#t")).run_sync()
    assert sql("SELECT id, Name, extra, double FROM t ORDER BY id") == [(1, "ann", "x", 2), (2, None, "x", 4)]
    write(here / "in2/d.csv", "id,Nmae\n1,x\n")
    error = failure(Read("in2/") | Write("sqlite:///x.db#t"))
    assert isinstance(error, UnknownNameError)
    assert "no column 'Nmae'" in str(error) and "did you mean Name?" in str(error) and "d.csv" in str(error)
    assert len(sql("SELECT * FROM t")) == 2


def test_a_table_without_the_unit_column_takes_new_files_and_refuses_changed_ones(here: Path) -> None:
    three(here)
    sql("CREATE TABLE t (id TEXT, name TEXT)")
    pipeline = Read("in/") | Write("sqlite:///x.db#t")
    pipeline.run_sync()
    write(here / "in/d.csv", "id,name\n9,new\n")
    assert pipeline.run_sync().written == 1
    assert len(table()) == 5
    write(here / "in/a.csv", "id,name\n1,changed\n")
    error = failure(pipeline)
    assert isinstance(error, OutputError)
    assert "a.csv would be written again (input changed" in str(error) and "--unit-column" in str(error)
    assert len(table()) == 5
    sql("ALTER TABLE t ADD COLUMN _unit TEXT")
    sql("UPDATE t SET _unit = CASE WHEN id IN ('1', '2') THEN 'a.csv' ELSE 'another' END")
    pipeline.run_sync()
    assert ("1", "changed", "a.csv") in table() and len(table()) == 4


def test_rows_of_another_file_of_the_same_name_are_not_taken_for_its_own(here: Path) -> None:
    write(here / "one/a.csv", "id\n1\n")
    write(here / "two/a.csv", "id\n2\n")
    (Read("one/") | Write("sqlite:///x.db#t")).run_sync()
    error = failure(Read("two/") | Write("sqlite:///x.db#t"))
    assert isinstance(error, OutputError) and "another file" in str(error)
    os.rename("one", "moved")
    assert (Read("moved/") | Write("sqlite:///x.db#t")).run_sync().unchanged == 1


def test_records_that_break_a_constraint_are_set_aside_with_their_place(here: Path) -> None:
    write(here / "in/a.csv", "id,n\n1,5\n1,6\n2,x\n3,\n4,8\n")
    sql("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL, _unit TEXT) STRICT")
    pipeline = Read("in/") | Write("sqlite:///x.db#t")
    error = failure(pipeline)
    assert isinstance(error, RecordError) and "a.csv:3 (record 2, byte 9)" in str(error)
    assert "UNIQUE constraint failed: t.id" in str(error)
    assert table() == []
    report = pipeline.run_sync(rejects="r.csv")
    assert (report.read, report.written, report.rejected, report.balanced) == (5, 2, 3, True)
    assert table() == [(1, 5, "a.csv"), (4, 8, "a.csv")]
    rows = asyncio.run(read_rejects("r.csv"))
    assert [(r["line"], r["stage"], r["raw"]) for r in rows] == [
        ("3", "write", b"1,6\n"),
        ("4", "write", b"2,x\n"),
        ("5", "write", b"3,\n"),
    ]
    assert "cannot store TEXT value in INTEGER column" in rows[1]["reason"]
    first = (here / "r.csv").read_bytes()
    again = pipeline.run_sync(rejects="r.csv")  # passed over, and its rejects are still told
    assert (again.unchanged, again.rejected_before) == (1, 3)
    assert (here / "r.csv").read_bytes() == first
    pipeline.run_sync(rejects="r.csv", force=True)
    assert (here / "r.csv").read_bytes() == first


def test_rejects_of_earlier_stages_are_kept_with_the_rows(here: Path) -> None:
    write(here / "in/a.csv", "id,n\n1,5\n2\n3,4\n")
    pipeline = Read("in/") | Write("sqlite:///x.db#t")
    report = pipeline.run_sync(rejects="r.csv")
    assert (report.written, report.rejected) == (2, 1)
    first = (here / "r.csv").read_bytes()
    pipeline.run_sync(rejects="r.csv")
    assert (here / "r.csv").read_bytes() == first
    # Without a rejects file the unit is not passed over: what was set aside would vanish.
    assert isinstance(failure(pipeline), RecordError)
    assert len(table()) == 2


def test_a_failing_file_leaves_its_old_rows_and_the_others_are_written(here: Path) -> None:
    for name in ("a", "b", "c"):
        write(here / f"in/{name}.csv", f"id,n\n{name}1,5\n{name}2,6\n")
    sql("CREATE TABLE t (id TEXT PRIMARY KEY, n INTEGER NOT NULL, _unit TEXT)")
    pipeline = Read("in/") | Write("sqlite:///x.db#t")
    pipeline.run_sync()
    for name in ("a", "b", "c"):
        write(here / f"in/{name}.csv", f"id,n\n{name}1,7\n{name}2,{'' if name == 'b' else 8}\n")
    with pytest.raises(UnitsFailedError) as caught:
        pipeline.run_sync(keep_going=True)
    assert [f.path for f in caught.value.report.failed] == ["in/b.csv"]
    assert caught.value.report.balanced
    assert [row[1] for row in table()] == [7, 8, 5, 6, 7, 8]


def test_files_in_many_parts_that_fail_late_are_taken_back(here: Path) -> None:
    lines = "".join(f"{i},{i * 7}\n" for i in range(40_000))
    for name in ("a", "b", "c"):
        write(here / f"in/{name}.csv", "id,n\n" + lines + ("oops\n" if name == "b" else ""))
    pipeline = Read("in/", block=65536) | Write("sqlite:///x.db#t")
    with pytest.raises(UnitsFailedError):
        pipeline.run_sync(keep_going=True)
    assert units() == {"a.csv": ("done", 40_000, 40_000), "c.csv": ("done", 40_000, 40_000)}
    assert len(sql("SELECT id FROM t")) == 80_000


async def slower_at_first(row: dict[str, str]) -> dict[str, str]:
    await asyncio.sleep(0.02 if row["id"] == "0" else 0)
    return row


@pytest.mark.parametrize("memory", ["4MB", "128MB"])
def test_units_that_come_interleaved_are_each_whole(here: Path, memory: str) -> None:
    for name in "abcdef":
        write(here / f"in/{name}.csv", "id,f\n" + "".join(f"{i},{name}{'x' * 50}\n" for i in range(3000)))
    report = (
        Read("in/", block=16384) | Map(slower_at_first, ordered=False, concurrency=4) | Write("sqlite:///x.db#t")
    ).run_sync(memory=memory)
    assert report.written == 18_000
    assert units() == {f"{name}.csv": ("done", 3000, 3000) for name in "abcdef"}
    assert sql("SELECT count(DISTINCT f || id) FROM t") == [(18_000,)]


def test_a_job_that_looks_at_all_files_is_one_transaction(here: Path) -> None:
    write(here / "in/a.csv", "id\n1\n2\n")
    write(here / "in/b.csv", "id\n2\n3\n")
    pipeline = Read("in/") | Dedupe("id") | Write("sqlite:///x.db#t")
    pipeline.run_sync()
    assert table() == [("1", "a.csv"), ("2", "a.csv"), ("3", "b.csv")]
    assert pipeline.run_sync().unchanged == 2
    write(here / "in/a.csv", "id\n1\n")
    pipeline.run_sync()
    assert table() == [("1", "a.csv"), ("2", "b.csv"), ("3", "b.csv")]
    (here / "in/a.csv").unlink()
    pipeline.run_sync()
    assert table() == [("2", "b.csv"), ("3", "b.csv")]
    head = Read("in/") | Head(1) | Write("sqlite:///x.db#t2")
    write(here / "in/c.csv", "id\n9\n")
    head.run_sync()
    assert table("t2") == [("2", "b.csv")]
    assert head.run_sync().unchanged == 2


def test_what_has_no_unit_must_say_append(here: Path) -> None:
    three(here)
    pipeline = Read("in/") | Tee(Write("out/"), Write("sqlite:///x.db#t"))
    error = failure(pipeline)
    assert isinstance(error, UsageError) and "--append" in str(error)
    assert not os.path.exists("x.db") and not os.path.exists("out/a.csv")
    appending = Read("in/") | Tee(Write("out/"), Write("sqlite:///x.db#t", append=True))
    appending.run_sync()
    appending.run_sync()
    assert len(table()) == 8 and len(table()[0]) == 2
    assert sql("SELECT name FROM sqlite_master WHERE name LIKE '_aiopipe%'") == []


def test_an_append_that_fails_adds_nothing(here: Path) -> None:
    write(here / "in/a.csv", "id,n\n1,2\n3\n")
    failure(Read("in/") | Write("sqlite:///x.db#t", append=True))
    assert sql("SELECT name FROM sqlite_master") == []


@pytest.mark.parametrize(("policy", "expected"), [("ignore", "old"), ("update", "new")])
def test_on_conflict(here: Path, policy: str, expected: str) -> None:
    sql("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)")
    sql("INSERT INTO t VALUES (1, 'old')")
    write(here / "in/a.csv", "id,name\n1,new\n2,two\n")
    pipeline = Read("in/") | Write("sqlite:///x.db#t", on_conflict=policy)
    report = pipeline.run_sync()
    assert report.balanced and table() == [(1, expected), (2, "two")]
    write(here / "in/a.csv", "id,name\n1,newer\n2,two\n3,three\n")
    pipeline.run_sync()
    assert table() == [(1, "old" if policy == "ignore" else "newer"), (2, "two"), (3, "three")]


def test_update_without_a_key_is_refused(here: Path) -> None:
    three(here)
    error = failure(Read("in/") | Write("sqlite:///x.db#t", on_conflict="update"))
    assert isinstance(error, UsageError) and "--key COLUMN" in str(error)
    (Read("in/") | Write("sqlite:///x.db#t", on_conflict="update", key="id")).run_sync()
    error = failure(Read("in/") | Write("sqlite:///x.db#t", on_conflict="update", key="name"))
    assert "no primary key or unique constraint on name" in str(error)


def test_a_locked_database_is_named_and_the_loop_goes_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    three(here)
    monkeypatch.setattr("aiopipe.storage.databases.sqlite.PATIENCE", 0.2)
    other = sqlite3.connect("x.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        error = failure(Read("in/") | Write("sqlite:///x.db#t"))
        assert isinstance(error, LockedError) and "locked by another program" in str(error)
    finally:
        other.close()
    (Read("in/") | Write("sqlite:///x.db#t")).run_sync()
    assert len(table()) == 4


def test_two_runs_at_once_write_no_row_twice(here: Path) -> None:
    for i in range(30):
        write(here / f"in/{i:02}.csv", "id\n" + "".join(f"{i}-{k}\n" for k in range(200)))
    begin = threading.Barrier(2)
    failed: list[BaseException] = []

    def one() -> None:
        begin.wait()
        try:
            (Read("in/") | Write("sqlite:///x.db#t")).run_sync()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert sql("SELECT count(*), count(DISTINCT id) FROM t") == [(6000, 6000)]


def test_a_run_that_is_asked_to_stop_keeps_whole_units_only(here: Path) -> None:
    for i in range(20):
        write(here / f"in/{i:02}.csv", "id\n" + "".join(f"{i}-{k:06}\n" for k in range(20_000)))

    async def main() -> Any:
        stop = asyncio.Event()

        def progress(report: Any) -> None:
            if report.read > 50_000:
                stop.set()

        return await (Read("in/", block=65536) | Write("sqlite:///x.db#t")).run(stop=stop, progress=progress)

    report = asyncio.run(main())
    assert report.balanced
    assert all(state == ("done", 20_000, 20_000) for state in units().values())
    assert sql("SELECT count(*) FROM t") == [(20_000 * len(units()),)]
    (Read("in/", block=65536) | Write("sqlite:///x.db#t")).run_sync()
    assert sql("SELECT count(*), count(DISTINCT id) FROM t") == [(400_000, 400_000)]


@pytest.mark.parametrize(
    ("to", "options", "told"),
    [
        ("sqlite:///x.db", {}, "names no table"),
        ("sqlite:///#t", {}, "names no file"),
        ("mysql://host/db#t", {}, "mysql:// cannot be written to"),
        ("out/", {"append": True}, "--append is for tables"),
        ("sqlite:///x.db#t", {"format": "csv"}, "--format is for files"),
        ("sqlite:///x.db#t", {"on_conflict": "replace"}, "on_conflict is 'replace'"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_it_is_written(to: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        Write(to, **options)
    assert told in str(caught.value) and "secret" not in str(caught.value)


def test_what_is_no_database_is_told(here: Path) -> None:
    three(here)
    write(here / "no.db", "this is no database at all, and long enough to be looked at" * 20)
    error = failure(Read("in/") | Write("sqlite:///no.db#t"))
    assert isinstance(error, OutputError) and "file is not a database" in str(error)
    error = failure(Read("in/") | Write("sqlite:///none/x.db#t"))
    assert isinstance(error, OutputError) and "no directory" in str(error)
    assert isinstance(failure(Read("gone/") | Write("sqlite:///x.db#t")), InputError)


@pytest.mark.parametrize(
    ("header", "told"),
    [("id,id", "stands 2 times"), ("id,", "has no name"), ("id,_unit", "--unit-column NAME")],
)
def test_headers_that_no_table_can_have(here: Path, header: str, told: str) -> None:
    write(here / "in/a.csv", f"{header}\n1,2\n")
    error = failure(Read("in/") | Write("sqlite:///x.db#t"))
    assert isinstance(error, UsageError) and told in str(error)


def test_names_that_are_no_text_are_units_of_their_own(here: Path) -> None:
    for name in (b"a\xff.csv", b"a\\xff.csv"):
        os.makedirs("in", exist_ok=True)
        with open(os.path.join(b"in", name), "wb") as file:
            file.write(b"id\n1\n")
    (Read("in/") | Write("sqlite:///x.db#t")).run_sync()
    assert sql("SELECT count(DISTINCT _unit) FROM t") == [(2,)]
    assert (Read("in/") | Write("sqlite:///x.db#t")).run_sync().unchanged == 2


def test_names_and_values_that_sql_would_misread(here: Path) -> None:
    write(here / "in/a.csv", '"a ""b""","x\');--",%s\n1,"\'; DROP TABLE t",?\n')
    (Read("in/") | Write("sqlite:///x.db#we.ird")).run_sync()
    assert sql('SELECT * FROM "we.ird"') == [("1", "'; DROP TABLE t", "?", "a.csv")]
