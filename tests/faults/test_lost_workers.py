"""A file that takes its worker with it, or hangs, lets the others be made without being asked; other faults do not."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from aiopipe import Collect, FunctionError, Map, Read, RecordError, Write
from aiopipe.cli import main
from aiopipe.errors import UnitsFailedError, WorkerError
from aiopipe.pipefile import parse
from tests.faults import functions
from tests.support import failure, leaves, tree, write

GOOD = {f"{i}.csv": b"v,text\n1,%d\n2,%d\n" % (i, i) for i in (1, 2, 4, 5)}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name, data in {**GOOD, "3.csv": b"v,text\n1,a\n3,b\n"}.items():
        write(tmp_path / "in" / name, data)
    write(tmp_path / "out/3.csv", "old")
    return tmp_path


async def hangs(row: dict[str, str]) -> dict[str, str]:
    if row["v"] == "3":
        await asyncio.sleep(60)
    return row


LOST: dict[str, tuple[Any, str]] = {
    "exits": (Map(functions.exits, placement="process"), "ended by itself with exit code 9"),
    "is killed": (Map(functions.kills, placement="process"), "was killed by SIGKILL"),
    "hangs": (Map(functions.sleeps, placement="process", timeout=0.2), "answer within 0.2 s"),
    "is deaf": (Map(functions.swallows, placement="process", timeout=0.2), "answer within 0.2 s"),
    "hangs in the loop": (Map(hangs, timeout=0.05), "0.05 s"),
}


@pytest.mark.parametrize("how", LOST)
@pytest.mark.parametrize("retries", [0, 1])
def test_the_others_are_made(how: str, retries: int, place: Path):
    stage, words = LOST[how]
    pipeline = Read(place / "in") | stage | Write(f"{place}/out/")
    with pytest.raises(UnitsFailedError) as caught:
        pipeline.run_sync(workers=2, retries=retries)
    [error] = leaves(caught.value)
    assert isinstance(error, WorkerError)
    assert "3.csv:3 (record 2, byte 11)" in str(error)
    assert words in str(error)
    assert tree(place / "out") == {**GOOD, "3.csv": b"old"}
    report = caught.value.report
    assert [f.path for f in report.failed] == [f"{place}/in/3.csv"]
    assert report.balanced


@pytest.mark.parametrize("how", ["exits", "hangs in the loop"])
def test_it_ends_at_once_where_that_is_asked_for(how: str, place: Path):
    pipeline = Read(place / "in") | LOST[how][0] | Write(f"{place}/out/")
    assert isinstance(failure(pipeline, workers=1, keep_going=False), WorkerError)
    assert "5.csv" not in tree(place / "out")


@pytest.mark.parametrize("sink", ["a file", "memory"])
def test_it_ends_where_the_files_become_one(sink: str, place: Path):
    end: Any = Write(f"{place}/all.csv") if sink == "a file" else Collect()
    assert isinstance(failure(Read(place / "in") | LOST["is killed"][0] | end, workers=1), WorkerError)
    assert not (place / "all.csv").exists()


def test_a_record_at_fault_ends_the_run_as_ever(place: Path):
    write(place / "in/2.csv", "v,text\n1\n")
    assert isinstance(failure(Read(place / "in") | Map(functions.same) | Write(f"{place}/out/")), RecordError)
    write(place / "in/2.csv", "v,text\n3,c\n")
    error = failure(Read(place / "in") | Map(functions.picky) | Write(f"{place}/out/"))
    assert isinstance(error, FunctionError)
    assert "2.csv:2" in str(error)
    assert "in picky" in "".join(error.__notes__)


def test_a_record_at_fault_behind_a_lost_worker_ends_the_run_too(place: Path):
    write(place / "in/4.csv", "v,text\n1\n")
    stage = LOST["exits"][0]
    error = failure(Read(place / "in") | stage | Write(f"{place}/out/"), workers=1)
    assert isinstance(error, RecordError)
    assert "5.csv" not in tree(place / "out")


def test_with_a_rejects_file_only_the_row_is_lost(place: Path):
    pipeline = Read(place / "in") | LOST["exits"][0] | Write(f"{place}/out/")
    assert pipeline.run_sync(rejects=f"{place}/bad.csv", workers=1).rejected == 1
    assert tree(place / "out") == {**GOOD, "3.csv": b"v,text\n1,a\n"}


def test_the_shell_and_files_say_it_alike(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    words = ["read", f"{place}/in", "then", "map", f"{functions.__file__}:exits", "--placement", "process"]
    monkeypatch.setattr("sys.argv", ["aiopipe"])
    report = ["--report", f"{place}/report.json"]
    assert main(["pipe", *report, *words, "then", "write", f"{place}/out/"]) == 1
    said = capsys.readouterr().err
    assert "1 file failed and left no new output; 4 outputs made of the others" in said
    assert [f["path"] for f in json.loads((place / "report.json").read_text())["failed"]] == [f"{place}/in/3.csv"]
    assert main(["pipe", "--no-keep-going", *words, "then", "write", f"{place}/other/"]) == 1
    assert "made of the others" not in capsys.readouterr().err
    text = f'[job]\nkeep_going = false\n[[stage]]\nuse = "read"\npaths = "{place}/in"\n[[stage]]\nuse = "collect"\n'
    assert parse(text).job == {"keep_going": False}
