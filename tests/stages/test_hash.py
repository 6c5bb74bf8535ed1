"""`hash`: files in, digests out, in order; what has no digest is set aside, and every file is counted."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aiopipe import Collect, FileRef, Find, Hash, Head, Map, RecordError, UnknownNameError, UsageError, Write
from aiopipe.cli import main
from aiopipe.errors import InputError
from aiopipe.stage import Items, Scope
from tests.support import drive, failure, leaves, rejects, write


@pytest.fixture(autouse=True)
def _place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def digest(data: bytes, name: str = "sha256") -> str:
    return hashlib.new(name, data).hexdigest()


def test_files_become_items_with_their_digests_in_the_order_of_find():
    data = {f"in/{n:03}": str(n).encode() * n for n in range(300)}
    for path, content in data.items():
        write(Path(path), content)
    report = (Find("in") | Hash("sha256", "md5") | Collect()).run_sync()
    assert report.items == [
        {
            "path": path,
            "size": len(content),
            "mtime_ns": os.stat(path).st_mtime_ns,
            "sha256": digest(content),
            "md5": digest(content, "md5"),
        }
        for path, content in data.items()
    ]
    assert (report.read, report.written, report.rejected, report.files) == (300, 300, 0, 300)


def test_large_files_among_small_ones_keep_their_place():
    big = os.urandom(9 << 20)
    for name, content in (("a", b"x"), ("b", big), ("c", b"y")):
        write(Path("in", name), content)
    report = (Find("in") | Hash("sha1", concurrency=3) | Collect()).run_sync()
    assert [item["sha1"] for item in report.items] == [digest(c, "sha1") for c in (b"x", big, b"y")]


HOSTILE = [b"line\nfeed", b"cr\r", b"back\\slash", b" spaces ", b"-dash", b'quo"te,comma', b"\xff\xfe", "é".encode()]


@pytest.mark.parametrize("output", ["sums.csv", "sums.jsonl"])
def test_check_takes_what_write_makes_of_hostile_names(output: str, capfd: pytest.CaptureFixture[str]):
    os.mkdir("in")
    for name in HOSTILE:
        with open(b"in/" + name, "wb") as file:
            file.write(name)
    (Find("in") | Hash() | Write(output)).run_sync()
    assert main(["check", "--strict", "--quiet", output]) == 0
    with open(b"in/" + HOSTILE[0], "ab") as file:
        file.write(b"!")
    assert main(["check", "--strict", "--quiet", output]) == 1
    assert "1 did NOT match" in capfd.readouterr().err


def test_names_that_are_no_utf_8_can_be_had_back():
    os.mkdir("in")
    with open(b"in/\xff,", "wb"):
        pass
    (Find("in") | Hash() | Write("s.jsonl")).run_sync()
    (Find("in") | Hash() | Write("s.csv")).run_sync()
    (Find("in") | Write("found.csv")).run_sync()
    [record] = [json.loads(line) for line in Path("s.jsonl").read_text().splitlines()]
    assert record["path_b64"] == "aW4v/yw=" and "path" not in record
    assert Path("s.csv").read_bytes().split(b"\n")[1].startswith(b'"in/\xff,",0,')
    assert Path("found.csv").read_bytes() == b'path,relative,size\n"in/\xff,","\xff,",0\n'


def extension(item: dict[str, Any]) -> dict[str, Any]:
    return {"kind": os.path.splitext(item["path"])[1], "short": item["sha256"][:8]}


def test_functions_stand_behind_it_and_before_the_sink():
    write(Path("in/a.txt"), "hello")
    (Find("in") | Hash("sha256") | Map(extension) | Write("m.jsonl")).run_sync()
    assert json.loads(Path("m.jsonl").read_text()) == {"kind": ".txt", "short": "2cf24dba"}


def test_functions_take_the_files_of_find():
    write(Path("in/a.txt"), "hello")

    def opened(file: FileRef) -> dict[str, Any]:
        with open(file, "rb") as data:
            return {"name": file.relative, "first": data.read(1).decode()}

    async def asked(file: FileRef) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"name": file.relative, "size": file.size}

    (Find("in") | Map(opened) | Write("threads.csv")).run_sync()
    (Find("in") | Map(asked) | Write("loop.csv")).run_sync()
    assert Path("threads.csv").read_text() == "name,first\na.txt,h\n"
    assert Path("loop.csv").read_text() == "name,size\na.txt,5\n"


# What has no digest.


def troubled() -> None:
    write(Path("in/a"), "fine")
    write(Path("in/b"), "gone soon")
    write(Path("in/c"), "fine, too")


class _Vanishing(Find):
    """Files of which one is removed before anybody opens it."""

    async def open(self, context: Any) -> AsyncIterator[Any]:
        async for parcel in super().open(context):
            os.unlink("in/b")
            yield parcel


def test_a_vanished_file_is_set_aside_with_its_reason_and_the_numbers_add_up():
    troubled()
    report = (_Vanishing("in") | Hash() | Collect()).run_sync(rejects="r.csv")
    assert [item["path"] for item in report.items] == ["in/a", "in/c"]
    assert (report.read, report.written, report.rejected) == (3, 2, 1)
    [row] = rejects("r.csv")
    assert (row["path"], row["stage"], row["raw"]) == ("in/b", "hash", b"in/b")
    assert row["reason"] == "vanished: no such file or directory"


def test_rejects_reach_the_report_through_functions_and_every_sink():
    troubled()
    report = (_Vanishing("in") | Hash() | Map(extension) | Write("out.csv")).run_sync(rejects="r.csv")
    assert (report.read, report.written, report.rejected) == (3, 2, 1)


def test_without_a_rejects_file_the_first_such_file_ends_the_run_and_no_output_is_made():
    troubled()
    error = failure(_Vanishing("in") | Hash() | Write("out.csv"))
    assert isinstance(error, RecordError) and "in/b" in str(error) and "vanished" in str(error)
    assert not Path("out.csv").exists()


def test_a_fifo_a_socket_and_a_device_that_were_named_are_set_aside_and_hang_nobody():
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        report = (Find(["pipe", "socket", "/dev/null"]) | Hash() | Collect()).run_sync(rejects="r.csv")
    assert report.items == [] and report.rejected == 3
    assert [row["reason"].partition(":")[0] for row in rejects("r.csv")] == ["irregular"] * 3


def test_a_file_that_changes_while_it_is_read_is_set_aside(monkeypatch: pytest.MonkeyPatch):
    from aiopipe.sums import reader

    write(Path("in/a"), "steady")
    write(Path("in/b"), "x" * 2_000_000)
    plain = reader._reader_into

    def growing(fd: int) -> Any:
        read = plain(fd)

        def into(view: memoryview) -> int:
            with open("in/b", "ab") as file:
                file.write(b"more")
            return read(view)

        return into

    monkeypatch.setattr(reader, "_reader_into", growing)
    report = (Find("in") | Hash() | Collect()).run_sync(rejects="r.csv")
    assert [item["path"] for item in report.items] == ["in/a"]
    assert [row["reason"].partition(":")[0] for row in rejects("r.csv")] == ["unstable"]


# How it ends.


class _Failing(Find):
    """Some files, then a failure of the disk."""

    async def open(self, context: Any) -> AsyncIterator[Any]:
        async for parcel in super().open(context):
            yield parcel
        raise InputError("the disk is gone")


def test_a_failure_of_the_source_follows_what_came_before_it():
    troubled()
    assert failure(_Failing("in") | Hash() | Collect()).message == "the disk is gone"
    os.mkfifo("in/pipe")
    os.rename("in/pipe", "pipe")
    error = failure(_Failing(["pipe", "in"]) | Hash() | Collect())
    assert "irregular" in error.message  # it stands first in the input, so it is what is told


def test_a_satisfied_head_ends_it_early_and_closes_its_input():
    for n in range(2000):
        write(Path(f"in/{n:04}"), b"x")
    report = (Find("in") | Hash() | Head(3) | Collect()).run_sync()
    assert [item["path"] for item in report.items] == ["in/0000", "in/0001", "in/0002"]


def test_the_input_is_closed_when_the_stage_is_left(tmp_path: Path):
    closed = []

    async def parcels() -> AsyncIterator[Items]:
        try:
            while True:
                yield Items([FileRef(write(tmp_path / "a", b"x"), "a")])
        finally:
            closed.append(True)

    async def go() -> None:
        source = parcels()
        flow = Hash(concurrency=1).flow(source, Scope(), None)  # type: ignore[arg-type]
        async for _ in flow:
            break
        await flow.aclose()  # type: ignore[attr-defined]
        await source.aclose()  # type: ignore[attr-defined]

    drive(go)
    assert closed == [True]


def test_a_cancelled_run_leaves_no_thread_behind(tmp_path: Path):
    for n in range(500):
        write(Path(f"in/{n:04}"), b"x" * 1000)

    async def go() -> None:
        async with (Find("in") | Hash("sha512")).stream() as rows:
            async for _ in rows:
                return

    drive(go)


def test_an_empty_directory_is_told_as_by_find():
    os.mkdir("in")
    assert "no file like" in failure(Find("in") | Hash() | Collect()).message


# What is asked for.


def test_names_of_algorithms_are_understood_as_everywhere():
    assert Hash("SHA-256,MD5") == Hash("sha256", "md5") == Hash(["sha256", "md5"])
    assert Hash() == Hash("sha256") and Hash("b3").algorithms == ("blake3",)


@pytest.mark.parametrize("make", [lambda: Hash("sha257"), lambda: Hash(concurrency=0), lambda: Hash("blake2b-7")])
def test_what_makes_no_sense_is_refused_by_name(make: Any):
    with pytest.raises(UsageError) as caught:
        make()
    assert "hash: " in str(caught.value)


def test_an_unknown_algorithm_has_its_nearest_name():
    with pytest.raises(UnknownNameError, match="did you mean sha256"):
        Hash("sha265")


def test_records_have_no_digest():
    from aiopipe import Read

    write(Path("in.csv"), "a\n1\n")
    error = failure(Read("in.csv") | Hash() | Collect())
    assert "hash works on files, and gets records here" in error.message


def test_the_csv_has_the_columns_of_the_command(capfd: pytest.CaptureFixture[str]):
    write(Path("in/a"), "hello")
    assert main(["hash", "--format", "csv", "-o", "theirs.csv", "in"]) == 0
    (Find("in") | Hash() | Write("ours.csv")).run_sync()
    theirs = list(csv.reader(Path("theirs.csv").read_text().splitlines()))
    assert list(csv.reader(Path("ours.csv").read_text().splitlines())) == theirs


def test_errors_of_several_files_are_told_one_by_one():
    os.mkfifo("p1")
    os.mkfifo("p2")
    with pytest.raises(BaseExceptionGroup) as caught:
        (Find(["p1", "p2"]) | Hash() | Collect()).run_sync()
    assert [str(e).partition(":")[0] for e in leaves(caught.value)] == ["p1"]
