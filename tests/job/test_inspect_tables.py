"""why, status and verify of a table: what the ledger beside it says, and what it cannot say."""

import json
import os
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aiopipe import Dedupe, Filter, InputError, Read, UsageError, Write
from aiopipe.cli import group
from aiopipe.errors import AiopipeError
from aiopipe.job.inspect import status, verify, why
from aiopipe.storage.databases.address import address_of
from tests.support import write

TABLE = "sqlite:///x.db#t"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a.csv", "b.csv", "sub/c.csv"):
        write(tmp_path / "in" / name, "v\n" + "".join(f"{i}\n" for i in range(5)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def filled(place: Path) -> Path:
    (Read("in") | Filter("v > 2") | Write(TABLE)).run_sync()
    return place


def sql(text: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect("x.db", isolation_level=None)
    try:
        return connection.execute(text).fetchall()
    finally:
        connection.close()


def aiopipe(*words: str) -> Result:
    return CliRunner().invoke(group, list(words), standalone_mode=False)


def test_a_file_that_is_done_is_up_to_date_by_its_path_and_by_its_name(filled: Path) -> None:
    os.rename("in/b.csv", "elsewhere.csv")
    for path in ("in/a.csv", str(filled / "in/sub/c.csv"), "in/../in/a.csv"):
        answer = why(path, TABLE)
        assert answer.up_to_date
        assert "up to date: input and pipeline are as they were (done " in str(answer)
        assert "because: new" in str(answer)
    assert "input cannot be read: No such file" in str(why("b.csv", TABLE))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda: write(Path("in/a.csv"), "v\n1\n"), "input changed: size 12 -> 4"),
        (lambda: Path("in/a.csv").unlink(), "input cannot be read: No such file or directory"),
        (lambda: sql("DROP TABLE t"), "output missing: the table t"),
    ],
)
def test_what_has_changed_since_is_said_before_the_next_run(change, sentence, filled: Path) -> None:
    change()
    done = aiopipe("why", "in/a.csv", "--in", TABLE)
    assert done.return_value == 1
    assert f"in/a.csv: will be done: {sentence}" in done.output


def test_it_is_what_the_next_run_does(filled: Path) -> None:
    write(filled / "in/a.csv", "v\n7\n")
    write(filled / "in/new.csv", "v\n8\n")
    names = ("in/a.csv", "in/b.csv", "in/sub/c.csv", "in/new.csv")
    told = [why(name, TABLE).up_to_date for name in names]
    assert told == [False, True, True, False]
    assert "new: no run into that table has read it" in str(why("in/new.csv", TABLE))
    report = (Read("in") | Filter("v > 2") | Write(TABLE)).run_sync()
    assert (report.files, report.unchanged) == (2, 2)
    assert all(why(name, TABLE).up_to_date for name in names)


def test_a_pipeline_that_changed_is_named(filled: Path) -> None:
    os.mkdir("more")
    os.rename("in/a.csv", "more/z.csv")
    (Read("more") | Filter("v > 3") | Write(TABLE)).run_sync()
    answer = str(why("in/b.csv", TABLE))
    assert "will be done: pipeline changed: " in answer
    assert "filter.where 'v > 2' -> 'v > 3'" in answer


def test_a_run_that_would_be_refused_is_foretold(place: Path) -> None:
    sql("CREATE TABLE t (v TEXT)")
    (Read("in") | Write(TABLE)).run_sync()
    write(place / "in/a.csv", "v\n1\n")
    answer = str(why("in/a.csv", TABLE))
    assert "input changed: size 12 -> 4; but the table has no column '_unit'" in answer
    assert "--unit-column" in answer
    assert why("in/b.csv", TABLE).up_to_date


def test_status_counts_units_rows_and_rejects(place: Path) -> None:
    write(place / "in/b.csv", "v\n1\n1,2\n")
    (Read("in") | Write(TABLE)).run_sync(rejects="rejects.csv")
    found = status(TABLE)
    assert str(found).startswith("x.db#t: 3 files done, 11 rows; 1 record set aside\n")
    data = json.loads(aiopipe("status", TABLE, "--json").output)
    assert data == {
        "table": "x.db#t",
        "exists": True,
        "units": {"done": 3, "running": None, "unfinished": None, "failed": None},
        "rows": 11,
        "rejected": 1,
    }
    sql("DROP TABLE t")
    assert "the table is not there any more" in str(status(TABLE))


def test_verify_counts_the_rows_of_every_file(filled: Path) -> None:
    assert verify(TABLE).problems == []
    assert str(verify(TABLE)).startswith("3 files, 6 rows counted, all there\n")
    sql("DELETE FROM t WHERE _unit = 'a.csv' AND v = '3'")
    sql("INSERT INTO t VALUES ('9', 'sub/c.csv'), ('10', 'x.csv'), ('11', NULL)")
    done = aiopipe("verify", TABLE)
    assert done.return_value == 1
    assert done.stdout.splitlines() == ["x.db#t: a.csv: 1 row, not 2", "x.db#t: sub/c.csv: 3 rows, not 2"]
    assert "2 differences; --force writes all files again" in done.stderr
    assert "2 rows of no file on record" in done.stderr
    assert "values are not on record" in done.stderr
    sql("DROP TABLE t")
    assert verify(TABLE).problems == ["x.db#t: the table is not there, 6 rows on record"]


def test_verify_says_what_it_cannot_tell(place: Path) -> None:
    sql("CREATE TABLE t (v TEXT)")
    (Read("in") | Write(TABLE)).run_sync()
    sql("INSERT INTO t VALUES ('9')")
    found = verify(TABLE)
    assert found.problems == []
    assert "no column '_unit': only the number of all rows could be compared" in str(found)
    assert "1 row more than files gave" in str(found)
    sql("DELETE FROM t WHERE v = '1' OR v = '9'")
    assert verify(TABLE).problems == ["x.db#t: 12 rows, not 15"]


def test_rows_that_may_replace_others_are_not_counted_as_lost(place: Path) -> None:
    (Read("in") | Write("sqlite:///x.db#keyed", key="v", on_conflict="update")).run_sync()
    found = verify("sqlite:///x.db#keyed")
    assert found.problems == []
    assert "3 files written with --on-conflict not compared" in str(found)


def test_a_unit_column_of_another_name_and_a_job_that_is_one_unit(place: Path) -> None:
    (Read("in") | Dedupe("v") | Write(TABLE, unit_column="origin")).run_sync()
    assert verify(TABLE).problems == []
    assert status(TABLE).as_mapping()["rows"] == 5
    sql("DELETE FROM t WHERE origin = 'a.csv'")
    assert verify(TABLE).problems == ["x.db#t: a.csv: 0 rows, not 5"]


def test_nothing_is_made_or_changed_by_looking(filled: Path) -> None:
    before = Path("x.db").read_bytes()
    why("in/a.csv", TABLE)
    status(TABLE)
    verify(TABLE)
    assert Path("x.db").read_bytes() == before
    assert sorted(p.name for p in filled.iterdir()) == ["in", "x.db"]


@pytest.mark.parametrize("ask", [status, verify, lambda table: why("in/a.csv", table)])
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("sqlite:///nothing.db#t", "cannot read nothing.db#t: there is no such file"),
        ("sqlite:///no/where.db#t", "cannot read no/where.db#t: there is no such file"),
        ("sqlite:///x.db#u", "x.db#u: there is no such table, and no ledger of one"),
        ("sqlite:///x.db#mine", "x.db#mine has no ledger: no run has written files into that table"),
        ("sqlite:///in/a.csv#t", "cannot read in/a.csv#t: file is not a database"),
        ("sqlite:///x.db", "names no table"),
        ("https://host/x", "https:// keeps no ledger"),
        ("postgresql://me:secret@127.0.0.1:1/db#t", "cannot read postgresql://me@127.0.0.1:1/db#t: "),
        ("postgresql://me:secret/secret@127.0.0.1:1/db#t", "cannot read postgresql://me@127.0.0.1:1/db#t: "),
        ("postgresql://me:sec#secret@127.0.0.1:1/db#t", "cannot read postgresql://me@127.0.0.1:1/db#t: "),
    ],
)
def test_what_is_not_there_is_told_and_never_made(ask, address, message, filled: Path) -> None:
    sql("CREATE TABLE mine (v TEXT)")
    if address.startswith("postgresql"):
        pytest.importorskip("psycopg")
    with pytest.raises(AiopipeError) as caught:
        ask(address)
    error = caught.value
    assert isinstance(error, InputError | UsageError)
    told = f"{error}"
    assert message in told
    assert error.hint
    assert "secret" not in told
    assert sorted(p.name for p in filled.iterdir()) == ["in", "x.db"]


def test_a_database_without_a_ledger_says_so(place: Path) -> None:
    sql("CREATE TABLE t (v TEXT)")
    with pytest.raises(InputError, match="has no ledger"):
        status(TABLE)
    (Read("in") | Write(TABLE, append=True)).run_sync()
    with pytest.raises(InputError, match="has no ledger") as caught:
        verify(TABLE)
    assert "--append" in (caught.value.hint or "")


def test_a_path_that_is_nowhere_is_told_so(filled: Path) -> None:
    with pytest.raises(InputError, match=r"the ledger of x\.db#t knows nothing of nothing\.csv"):
        why("nothing.csv", TABLE)
    with pytest.raises(UsageError, match="sqlite:// is no file") as caught:
        why(TABLE)
    assert "--in sqlite:///x.db#TABLE" in (caught.value.hint or "")


def test_a_password_is_taken_out_of_what_a_database_says() -> None:
    address = address_of("postgresql://me:p%40ss@host/db?sslpassword=other&sslmode=require#t")
    assert address is not None
    assert {"p%40ss", "p@ss", "other"} == {*address.secrets}
    assert "sslmode" not in str(address.secrets)
    assert address.shown == "postgresql://me@host/db#t"
