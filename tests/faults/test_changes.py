"""Large files that change while they are read: nothing is left of the attempt, and the file is read again."""

import os
from pathlib import Path
from typing import Any

import pytest

from aiopipe import Collect, Dedupe, Filter, Map, Read, Write
from aiopipe.errors import ChangedError, UnitsFailedError
from aiopipe.job.inspect import status, verify
from tests.support import failure, leaves, rejects, tree, write

SMALL = b"id,text\n1,a\n2,b\n"
LINES = [b"%d,%s\n" % (i, b"text" * 20) for i in range(3000)]
LARGE = b"id,text\n" + b"".join(LINES)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write(tmp_path / "in/a.csv", SMALL)
    write(tmp_path / "in/m.csv", LARGE)
    write(tmp_path / "in/z.csv", LARGE[:200_000].rpartition(b"\n")[0] + b"\n")
    return tmp_path


class Meddler:
    """A function of a row that changes m.csv under its reader, at the first `times` attempts."""

    def __init__(self, path: Path, how: str, times: int) -> None:
        self.path, self.how, self.times = path, how, times
        self.attempts = 0

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        if row["id"] == "0":
            self.attempts += 1
            if self.attempts <= self.times:
                self.change()
        return row

    def change(self) -> None:
        number = self.attempts
        if self.how == "grows":
            with self.path.open("ab") as file:
                file.write(b"%d,more\n" % (10_000 + number))
        elif self.how == "is rewritten":
            with self.path.open("r+b") as file:  # never empty: that would be a file that can be read
                file.write(LARGE.replace(b"texttext", b"t%dxttext" % number))
        elif self.how == "is replaced":
            other = self.path.with_name("other")
            other.write_bytes(LARGE.replace(b"texttext", b"t%dxttext" % number))
            os.replace(other, self.path)
        else:
            os.truncate(self.path, len(LARGE) - 50_000 - number)
            with self.path.open("ab") as file:
                file.write(b"\n")


HOWS = ["grows", "is rewritten", "is replaced", "shrinks"]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("ledger", [None, False])
@pytest.mark.parametrize("keep_going", [True, False])
def test_a_file_that_changes_once_is_read_again(how: str, ledger: bool | None, keep_going: bool, place: Path):
    os.unlink(place / "in/z.csv")
    meddler = Meddler(place / "in/m.csv", how, 1)
    pipeline = Read(place / "in", block=4096) | Map(meddler, columns=["id", "text"]) | Write(f"{place}/out/")
    report = pipeline.run_sync(ledger=ledger, keep_going=keep_going, workers=1)
    assert meddler.attempts == 2
    assert (report.reread, report.failed) == (1, [])
    assert report.balanced
    assert report.unfinished > 0
    assert "1 file read again: changed while read" in str(report)
    assert tree(place / "out") == tree(place / "in")
    if ledger is None:
        assert verify(f"{place}/out").problems == []
        assert status(f"{place}/out").done == 2
        assert pipeline.run_sync().unchanged == 2


@pytest.mark.parametrize("stages", ["a generator", "memory", "the loop"])
def test_stages_that_know_the_file_see_it_end_and_begin_anew(stages: str, place: Path):
    async def rows(some: Any) -> Any:
        async for row in some:
            yield row

    async def later(row: Any) -> Any:
        return row

    os.unlink(place / "in/z.csv")
    meddler = Meddler(place / "in/m.csv", "grows", 2)
    more = {"a generator": Map(rows), "memory": Dedupe(per_file=True), "the loop": Map(later, concurrency=4)}[stages]
    pipeline = Read(place / "in", block=4096) | Map(meddler) | more | Write(f"{place}/out/")
    report = pipeline.run_sync(retries=2, workers=2)
    assert report.reread == 2
    assert report.balanced
    assert tree(place / "out") == tree(place / "in")


def test_other_files_are_made_meanwhile_and_their_places_stay(place: Path):
    meddler = Meddler(place / "in/m.csv", "grows", 1)

    def once(row: dict[str, str]) -> dict[str, str]:
        if meddler.attempts == 0:
            meddler(row)
        return row

    report = (Read(place / "in", block=4096) | Map(once) | Write(f"{place}/out/")).run_sync(workers=1)
    assert report.reread == 1
    assert tree(place / "out") == tree(place / "in")


def test_rejects_of_a_lost_attempt_are_forgotten(place: Path):
    os.unlink(place / "in/z.csv")
    bad = b"".join([*LINES[:10], b"bad\n", *LINES[10:], b"worse\n"])
    write(place / "in/m.csv", b"id,text\n" + bad)
    meddler = Meddler(place / "in/m.csv", "grows", 1)
    pipeline = Read(place / "in", block=4096) | Map(meddler) | Write(f"{place}/out/")
    report = pipeline.run_sync(rejects=str(place / "bad.csv"), workers=1)
    assert (report.reread, report.rejected) == (1, 2)
    assert report.balanced
    assert [r["raw"] for r in rejects(place / "bad.csv")] == [b"bad\n", b"worse\n"]
    assert status(f"{place}/out").rejected == 2
    again = pipeline.run_sync(rejects=str(place / "bad.csv"))
    assert (again.unchanged, again.rejected_before) == (2, 2)
    assert [r["raw"] for r in rejects(place / "bad.csv")] == [b"bad\n", b"worse\n"]


@pytest.mark.parametrize("retries", [0, 2])
def test_after_the_last_attempt_it_fails_as_ever(retries: int, place: Path):
    os.unlink(place / "in/z.csv")
    write(place / "out/m.csv", "old")
    meddler = Meddler(place / "in/m.csv", "grows", 99)
    pipeline = Read(place / "in", block=4096) | Map(meddler) | Write(f"{place}/out/")
    error = failure(pipeline, retries=retries, workers=1)
    assert isinstance(error, ChangedError)
    assert "m.csv: read: changed while it was read" in str(error)
    assert meddler.attempts == retries + 1
    assert tree(place / "out")["m.csv"] == b"old"
    with pytest.raises(UnitsFailedError) as caught:
        pipeline.run_sync(retries=retries, keep_going=True, workers=1)
    [error] = leaves(caught.value)
    assert isinstance(error, ChangedError)
    assert caught.value.report.balanced
    assert [f.path for f in caught.value.report.failed] == [f"{place}/in/m.csv"]
    assert tree(place / "out") == {"a.csv": SMALL, "m.csv": b"old"}


@pytest.mark.parametrize("how", HOWS)
def test_one_output_of_several_files_is_begun_anew(how: str, place: Path):
    os.unlink(place / "in/z.csv")
    meddler = Meddler(place / "in/m.csv", how, 1)
    pipeline = Read(place / "in", block=4096) | Map(meddler) | Filter("id <> '7'") | Write(f"{place}/all.csv")
    report = pipeline.run_sync(rejects=str(place / "bad.csv"), workers=1)
    assert (report.reread, report.files, report.unfinished) == (1, 2, 0)
    assert report.balanced
    joined = SMALL + (place / "in/m.csv").read_bytes().removeprefix(b"id,text\n")
    lines = [line for line in joined.splitlines(keepends=True) if not line.startswith(b"7,")]
    assert (place / "all.csv").read_bytes() == b"".join(lines)
    rows = (Read(place / "in", block=4096) | Map(Meddler(place / "in/m.csv", "grows", 1)) | Collect()).run_sync().items
    assert len(rows) == joined.count(b"\n")


def test_standard_output_cannot_be_taken_back(place: Path):
    os.unlink(place / "in/z.csv")
    meddler = Meddler(place / "in/m.csv", "grows", 1)

    async def taken(rows: Any) -> None:
        pass

    error = failure(Read(place / "in", block=4096) | Map(meddler) | Write(taken), workers=1)
    assert isinstance(error, ChangedError)
