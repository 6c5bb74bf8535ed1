"""`write postgresql://...#table`, into a real server that these tests start for themselves."""

from __future__ import annotations

import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from aiopipe import Dedupe, Read, Write
from aiopipe.errors import InputError, OutputError, RecordError, UnitsFailedError, UnknownNameError
from aiopipe.job.inspect import status, verify, why
from tests.support import failure, write

pytestmark = pytest.mark.system
HOME = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a database; fails where Debian's postgresql is not installed."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    assert found, "apt-get install postgresql: these tests need a real one"
    place = tempfile.mkdtemp(prefix="aiopipe-pg-", dir="/tmp")
    os.chmod(place, 0o755)
    as_postgres = []
    if os.getuid() == 0:  # which initdb refuses to be
        shutil.chown(place, "postgres", "postgres")
        as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]

    def call(tool: str, *options: str) -> None:
        command = [*as_postgres, f"{found[-1]}/{tool}", "-D", f"{place}/data", *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=place, timeout=120)

    call("initdb", "-A", "trust", "-U", "postgres", "--no-sync", "--encoding=UTF8")
    call("pg_ctl", "-o", f"-k {place} -c listen_addresses=''", "-l", f"{place}/log", "-w", "start")
    try:
        yield f"postgresql://postgres@/postgres?host={place}"
    finally:
        call("pg_ctl", "-m", "immediate", "-w", "stop")
        shutil.rmtree(place)


@pytest.fixture
def sql(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.chdir(tmp_path)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("SET client_min_messages = warning")
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")

        def query(text: str) -> list[Any]:
            cursor = connection.execute(text)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

        yield query


def test_rows_are_written_once_and_replaced_when_the_input_changes(server: str, sql: Any, tmp_path: Path) -> None:
    write(tmp_path / "in/a.csv", 'id,text\n007,"a\tb\\N\n""c"""\n2,\n')
    write(tmp_path / "in/b.csv", "id,text\n3,é\n")
    pipeline = Read("in/") | Write(f"{server}#t")
    assert pipeline.run_sync().written == 3
    assert sql("SELECT * FROM t ORDER BY id") == [
        ("007", 'a\tb\\N\n"c"', "a.csv"),
        ("2", None, "a.csv"),
        ("3", "é", "b.csv"),
    ]
    assert pipeline.run_sync().unchanged == 2
    write(tmp_path / "in/a.csv", "id,text\n1,new\n")
    pipeline.run_sync()
    assert sql("SELECT id FROM t ORDER BY id") == [("1",), ("3",)]
    (tmp_path / "in/b.csv").unlink()
    assert pipeline.run_sync(prune=True).pruned == 1
    assert sql("SELECT id FROM t") == [("1",)]


def test_records_that_the_table_refuses_are_named_and_set_aside(server: str, sql: Any, tmp_path: Path) -> None:
    sql("CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other SELECT generate_series(0, 3000)")
    sql("CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL CHECK (n < 90), o int REFERENCES other, _unit text)")
    lines = [f"{i},1,{i}" for i in range(3000)]
    lines[3], lines[700], lines[1500], lines[2999] = "3,x,3", "1,1,1", "1500,99,0", "2999,1,9999"
    write(tmp_path / "in/a.csv", "id,n,o\n" + "\n".join(lines) + "\n")
    pipeline = Read("in/") | Write(f"{server}#t")
    error = failure(pipeline)
    assert isinstance(error, RecordError) and "a.csv:5 (record 4" in str(error), str(error)
    assert sql("SELECT count(*) FROM t") == [(0,)]
    report = pipeline.run_sync(rejects="r.csv")
    assert (report.written, report.rejected, report.balanced) == (2996, 4, True)
    assert sql("SELECT count(*) FROM t") == [(2996,)]
    lines_of = [r["record"] for r in map(json.loads, (b for (b,) in sql("SELECT body FROM _aiopipe_rejects")))]
    assert sorted(lines_of) == [4, 701, 1501, 3000]


def test_conflicts_failing_files_whole_jobs_and_unknown_columns(server: str, sql: Any, tmp_path: Path) -> None:
    sql("CREATE TABLE t (id int PRIMARY KEY, name text); INSERT INTO t VALUES (1, 'old')")
    write(tmp_path / "in/a.csv", "id,name\n1,new\n2,two\n2,again\n")
    (Read("in/") | Write(f"{server}#t", on_conflict="ignore")).run_sync()
    assert sql("SELECT * FROM t ORDER BY id") == [(1, "old"), (2, "two")]
    (Read("in/") | Write(f"{server}#t", on_conflict="update")).run_sync()
    assert sql("SELECT * FROM t ORDER BY id") == [(1, "new"), (2, "again")]
    write(tmp_path / "bad/a.csv", "id,nam\n1,new\n")
    assert isinstance(failure(Read("bad/a.csv") | Write(f"{server}#t", append=True)), UnknownNameError)
    write(tmp_path / "in/b.csv", "id,name\n2,x\n9\n")
    (Read("in/a.csv") | Dedupe("id") | Write(f"{server}#d")).run_sync()
    assert sql("SELECT count(*) FROM d") == [(2,)]
    with pytest.raises(UnitsFailedError):
        (Read("in/") | Write(f"{server}#k")).run_sync(keep_going=True)
    assert sql("SELECT count(*) FROM k") == [(3,)]
    error = failure(Read("in/") | Write("postgresql://me:secret@127.0.0.1:1/db#t"))
    assert isinstance(error, OutputError) and "secret" not in str(error)


@pytest.mark.parametrize(("seeds", "variant", "good"), [("8", "", True), ("6", "two-transactions", False)])
def test_killed_runs_come_to_the_same_rows(server: str, tmp_path: Path, seeds: str, variant: str, good: bool) -> None:
    command = [sys.executable, "-m", "tests.faults.harness.tables", str(tmp_path), "--to", server]
    command += ["--seeds", seeds, "--variant", variant]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=HOME)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["points"] >= (5 if good else 1)  # it ends where something was found out
    assert (found["wrong"] == []) == good, found["wrong"]


def test_status_why_and_verify_read_the_ledger_and_change_nothing(server: str, sql: Any, tmp_path: Path) -> None:
    write(tmp_path / "in/a.csv", "id\n1\n2\n")
    write(tmp_path / "in/b.csv", "id\n3\n")
    sql("CREATE SCHEMA s")
    for table in ("t", "s.t"):
        address = f"{server}#{table}"
        with pytest.raises(InputError, match="no such table, and no ledger"):
            status(address)
        (Read("in/") | Write(address)).run_sync()
        assert "2 files done, 3 rows; 0 records set aside" in str(status(address))
        assert verify(address).problems == []
        assert why("in/a.csv", address).up_to_date
        sql(f"DELETE FROM {table} WHERE id = '2'")
        assert [p.rpartition("#")[2] for p in verify(address).problems] == [f"{table}: a.csv: 1 row, not 2"]
        sql(f"DROP TABLE {table}")
        assert "output missing" in str(why("in/a.csv", address))
        assert not status(address).as_mapping()["exists"]
    sql("CREATE TABLE mine (id TEXT)")
    with pytest.raises(InputError, match="has no ledger"):
        verify(f"{server}#mine")
