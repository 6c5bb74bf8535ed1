"""A record that breaks the rules of its file is named exactly, and lost in no case."""

import json

import pytest

from aiopipe import Collect, Filter, Read, RecordError, TooManyRejectsError, UsageError, Write
from tests.support import failure, rejects, tree, write

HEAD = b"id,text\r\n"
# What stands before the fault: a quoted line end, a blank line, CRLF and LF, so that lines and records part ways.
BEFORE = [b'1,"two\nlines"\r\n', b"2,plain\n", b"\n", b'3,"a ""b"""\n']
AFTER = [b"8,after\n", b"9,last\n"]
BAD = {
    "too few fields": (b"4\n", "1 field, header has 2"),
    "too many fields": (b"4,5,6\r\n", "3 fields, header has 2"),
    "invalid UTF-8": (b"4,caf\xe9\n", "byte 0xE9 is not valid UTF-8"),
    "a NUL byte": (b"4,\0\n", "a NUL byte"),
}


def position(data: bytes, before: list[bytes]) -> tuple[int, int, int]:
    """Line, record and byte of what follows these records, counted one by one."""
    start = len(HEAD) + sum(map(len, before))
    return data[:start].count(b"\n") + 1, sum(b.strip() != b"" for b in before) + 1, start


def with_fault(bad: bytes) -> bytes:
    return HEAD + b"".join([*BEFORE, bad, *AFTER])


@pytest.mark.parametrize("block", [7, 1 << 20])
@pytest.mark.parametrize("kind", BAD)
def test_a_malformed_record_stops_the_run_and_is_named(kind, block, tmp_path):
    bad, reason = BAD[kind]
    data = with_fault(bad)
    path = write(tmp_path / "in.csv", data)
    write(tmp_path / "out.csv", "old")
    error = failure(Read(path, block=block) | Write(f"{tmp_path}/out.csv"))
    line, record, byte = position(data, BEFORE)
    assert isinstance(error, RecordError)
    assert str(error).startswith(f"{path}:{line} (record {record}, byte {byte}): read: {reason}")
    assert error.hint
    assert tree(tmp_path) == {"in.csv": data, "out.csv": b"old"}


@pytest.mark.parametrize("name", ["rejects.csv", "rejects.jsonl"])
@pytest.mark.parametrize("block", [7, 1 << 20])
@pytest.mark.parametrize("kind", BAD)
def test_a_malformed_record_can_be_set_aside_exactly(kind, block, name, tmp_path):
    bad, reason = BAD[kind]
    data = with_fault(bad)
    path = write(tmp_path / "in.csv", data)
    job = {"rejects": str(tmp_path / name)}
    report = (Read(path, block=block) | Write(f"{tmp_path}/out.csv")).run_sync(**job)
    assert (report.read, report.written, report.rejected) == (6, 5, 1)
    assert report.balanced
    assert (tmp_path / "out.csv").read_bytes() == HEAD + b"".join([*BEFORE, *AFTER]).replace(b"\n\n", b"\n")
    line, record, byte = position(data, BEFORE)
    [row] = rejects(tmp_path / name)
    assert row["raw"] == bad
    assert (row["path"], row["stage"], row["reason"]) == (path, "read", reason)
    assert [int(row[k]) for k in ("line", "record", "byte")] == [line, record, byte]


@pytest.mark.parametrize("block", [7, 1 << 20])
def test_a_quote_that_is_never_closed_is_named_where_its_record_begins(block, tmp_path):
    bad = b'4,"never closed\n' + b"".join(AFTER)
    data = HEAD + b"".join(BEFORE) + bad
    path = write(tmp_path / "in.csv", data)
    line, record, byte = position(data, BEFORE)
    error = failure(Read(path, block=block) | Collect())
    assert str(error).startswith(f"{path}:{line} (record {record}, byte {byte}): read: a quote is opened")
    assert "--quote none" in str(error)
    report = (Read(path, block=block) | Collect()).run_sync(rejects=str(tmp_path / "rejects.csv"))
    assert [r["id"] for r in report.items] == ["1", "2", "3"]
    assert [r["raw"] for r in rejects(tmp_path / "rejects.csv")] == [bad]


def test_an_unclosed_quote_swallows_nothing_of_the_next_file(tmp_path):
    """Small files travel in one piece; the fault stays in its own."""
    for name, body in {"a": "1,x\n", "b": '2,"open\n3,y\n', "c": "4,z\n"}.items():
        write(tmp_path / f"in/{name}.csv", "id,text\n" + body)
    report = (Read(tmp_path / "in") | Collect()).run_sync(rejects=str(tmp_path / "rejects.csv"))
    assert [r["id"] for r in report.items] == ["1", "4"]
    [row] = rejects(tmp_path / "rejects.csv")
    assert row["raw"] == b'2,"open\n3,y\n'
    assert row["path"].endswith("b.csv")
    assert (row["line"], row["record"]) == ("2", "1")


@pytest.mark.parametrize("block", [64, 1 << 20])
def test_a_record_over_the_limit_stops_the_run_where_it_begins(block, tmp_path):
    data = HEAD + b"".join([*BEFORE, b"4," + b"x" * 3000 + b"\n", *AFTER])
    path = write(tmp_path / "in.csv", data)
    line, record, byte = position(data, BEFORE)
    error = failure(Read(path, block=block, max_record=1000) | Collect())
    assert isinstance(error, RecordError)
    assert str(error).startswith(f"{path}:{line} (record {record}, byte {byte}): read: a record")
    assert "--max-record" in str(error)


@pytest.mark.parametrize("block", [64, 1 << 20])
def test_a_value_that_does_not_fit_later_than_the_sample_looked(block, tmp_path):
    records = [b"%d,%d\n" % (i, i) for i in range(1500)]
    data = b"id,text\r\n" + b"".join([*records, b"1500,oops\n", b"1501,7\n"])
    path = write(tmp_path / "in.csv", data)
    line, record, byte = position(data, records)
    pipeline = Read(path, block=block) | Filter("text > 1498") | Write(f"{tmp_path}/out.csv")
    error = failure(pipeline)
    assert str(error).startswith(
        f"{path}:{line} (record {record}, byte {byte}): filter: 'oops' in column 'text' is no BIGINT"
    )
    assert "--types text=VARCHAR" in str(error)
    report = pipeline.run_sync(rejects=str(tmp_path / "rejects.csv"))
    assert (report.written, report.filtered, report.rejected) == (1, 1500, 1)
    [row] = rejects(tmp_path / "rejects.csv")
    assert row["raw"] == b"1500,oops\n"
    assert [int(row[k]) for k in ("line", "record", "byte")] == [line, record, byte]


def test_the_first_bad_record_is_reported_whichever_stage_refuses_it(tmp_path):
    """The filter's comes before the reader's, though the reader looks first."""
    path = write(tmp_path / "in.csv", "id,v\n1,2\n2,oops\n3,4,5\n")
    types = {"v": "BIGINT"}
    for block in (8, 1 << 20):
        assert ":3 (record 2" in str(failure(Read(path, types=types, block=block) | Filter("v > 0") | Collect()))


def test_rejects_stand_in_the_order_of_the_input_whatever_stage_refused_them(tmp_path):
    for name in "ab":
        rows = ["x,1,2" if i % 7 == 0 else f"{i},oops" if i % 5 == 0 else f"{i},{i}" for i in range(1, 400)]
        write(tmp_path / f"in/{name}.csv", "id,v\n" + "\n".join(rows) + "\n")
    pipeline = Read(tmp_path / "in", types={"v": "BIGINT"}, block=100) | Filter("v > 0") | Collect()
    pipeline.run_sync(rejects=str(tmp_path / "rejects.csv"), workers=4)
    rows = [(r["path"], int(r["record"])) for r in rejects(tmp_path / "rejects.csv")]
    assert rows == sorted(rows)
    assert len(rows) == 2 * sum(i % 7 == 0 or i % 5 == 0 for i in range(1, 400))


def test_max_rejects_stops_the_run_and_keeps_what_was_set_aside(tmp_path):
    path = write(tmp_path / "in.csv", "id,v\n" + "1,2\n3\n" * 5)
    write(tmp_path / "out.csv", "old")
    job = {"rejects": str(tmp_path / "rejects.csv"), "max_rejects": 3}
    error = failure(Read(path, block=8) | Write(f"{tmp_path}/out.csv"), **job)
    assert isinstance(error, TooManyRejectsError)
    assert "more than 3" in str(error)
    assert f"{path}:3 (record 2, byte 9)" in str(error)
    assert (tmp_path / "out.csv").read_bytes() == b"old"
    assert {r["raw"] for r in rejects(tmp_path / "rejects.csv")} == {b"3\n"}
    job["max_rejects"] = 5
    assert (Read(path, block=8) | Write(f"{tmp_path}/out.csv")).run_sync(**job).rejected == 5


def test_any_bytes_can_be_recovered_from_either_kind_of_rejects_file(tmp_path):
    bad = [b"1\r\n", b'2,"x\ny",3\n', b"4,\xff\n", b"5,\0,\n", "6,ü\u2028,7\n".encode(), b'8,"" ,\x1b\n', b"9"]
    path = write(tmp_path / "in.csv", b"id,v\n" + b"".join(bad))
    for name in ("rejects.csv", "rejects.jsonl"):
        (Read(path) | Collect()).run_sync(rejects=str(tmp_path / name))
        assert [r["raw"] for r in rejects(tmp_path / name)] == bad
    lines = (tmp_path / "rejects.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["raw_encoding"] == "base64"


def test_a_failed_run_that_set_nothing_aside_leaves_an_older_rejects_file_alone(tmp_path):
    write(tmp_path / "rejects.csv", "old")
    failure(Read(tmp_path / "nothing.csv") | Collect(), rejects=str(tmp_path / "rejects.csv"))
    assert (tmp_path / "rejects.csv").read_text() == "old"


def test_the_rejects_file_may_be_neither_input_nor_output(tmp_path):
    path = write(tmp_path / "in.csv", "id\n1\n")
    for name in ("in.csv", "out.csv"):
        error = failure(Read(path) | Write(f"{tmp_path}/out.csv"), rejects=str(tmp_path / name))
        assert isinstance(error, UsageError)
    assert tree(tmp_path) == {"in.csv": b"id\n1\n"}
    with pytest.raises(UsageError, match="max_rejects"):
        (Read(path) | Collect()).run_sync(max_rejects=3)
