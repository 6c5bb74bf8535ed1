"""Rows for functions and what they make of them: the same for any slice size, and bytes that nobody touched."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopipe.batch import Batch, Header, Segment
from aiopipe.codec.chunk import Chunk, decode
from aiopipe.codec.dialect import Dialect
from aiopipe.codec.encode import encode
from aiopipe.model import FileRef
from aiopipe.stages import _rows
from aiopipe.stages._calls import call_each
from aiopipe.stages._rebuild import Rebuild
from aiopipe.stages._rows import rows_in_slices, rows_of

DIALECT = Dialect(",", '"', "utf-8", True, False, 1 << 20)
NAMES = ("a", "b", "c")


def batch_of(data: bytes, names: tuple[str, ...] = NAMES) -> Batch:
    header = Header(names, tuple(n.encode() for n in names))
    return decode(Chunk(data, header, DIALECT, (Segment(FileRef("x.csv", "x.csv", 0, len(data)), 0, True, 0, 0),)))


def bundle_of(*files: bytes) -> Batch:
    """Small files in one chunk, parted by a line feed where one has no line end of its own."""
    data, segments = b"", []
    for i, file in enumerate(files):
        clipped = int(not file.endswith(b"\n"))
        segments.append(Segment(FileRef(f"{i}.csv", f"{i}.csv", i, len(file)), 0, True, len(data), 0, clipped=clipped))
        data += file + b"\n" * clipped
    header = Header(NAMES, tuple(n.encode() for n in NAMES))
    return decode(Chunk(data, header, DIALECT, tuple(segments)))


def mapped(batch: Batch, function: Any, size: int = 256, declared: tuple[str, ...] = ()) -> Batch:
    whole = Rebuild(batch, declared)
    for rows in rows_in_slices(batch, size):
        whole.add(rows, *call_each(function, rows.dicts()))
    return whole.finish()


def written(batch: Batch) -> bytes:
    return b"".join(bytes(body) for body in encode(batch).bodies)


fields = st.text(st.sampled_from('ab0 ,"\n\ré'), max_size=4)
tables = st.lists(st.tuples(fields, fields, fields), max_size=12)


def as_csv(table: list[tuple[str, ...]]) -> bytes:
    """Not by csv.writer: Python 3.11's leaves a lone CR without quotes."""
    return "".join(",".join(map(quoted, record)) + "\n" for record in table).encode()


def quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"' if set(value) & set(',"\r\n') else value


@settings(deadline=None)  # the machine may be busy
@given(tables, st.integers(1, 5))
def test_rows_are_what_csv_reads_however_they_are_sliced(table: list[tuple[str, ...]], size: int) -> None:
    batch = batch_of(as_csv(table))
    found = [tuple(row.values()) for rows in rows_in_slices(batch, size) for row in rows.dicts()]
    assert found == table
    assert [tuple(f) for f in rows_of(batch).fields()] == table


@settings(deadline=None)  # the machine may be busy
@given(tables, st.integers(1, 5), st.integers(0, 3))
def test_slices_of_any_size_give_the_same_bytes(table: list[tuple[str, ...]], size: int, every: int) -> None:
    """A function that changes a column in some rows only, adds one, and fails now and then."""
    batch = batch_of(as_csv(table))

    def function(row: dict[str, str]) -> dict[str, Any]:
        if row["c"] == "a":
            raise ValueError("a")
        changed = {**row, "b": row["b"].upper()} if len(row["a"]) >= every else dict(row)
        return {**changed, "n": len(row["c"]) if row["a"] else None}

    one, other = mapped(batch, function, size), mapped(batch, function, 1000)
    assert written(one) == written(other)
    assert one.rejects == other.rejects
    kept = [r for r in table if r[2] != "a"]
    values = list(zip(*(one.values(n).to_pylist() for n in one.names), strict=True)) if kept else []
    expected = [
        (a, b.upper() if len(a) >= every else b, c, str(len(c)) if a else "") for a, b, c in kept
    ]  # fmt: skip
    assert values == expected


@settings(deadline=None)  # the machine may be busy
@given(tables)
def test_rows_that_come_back_as_they_were_keep_every_byte(table: list[tuple[str, ...]]) -> None:
    data = b'"1",2,"3"\n' + as_csv(table)
    assert written(mapped(batch_of(data), dict, 2)) == data


def test_a_value_that_did_not_change_keeps_its_quotes_beside_one_that_did() -> None:
    data = b'"1",x,"p"\n"2",y,"q"\n'
    made = mapped(batch_of(data), lambda r: {**r, "a": "9" if r["a"] == "2" else r["a"]}, 1)
    assert written(made) == b'"1",x,"p"\n9,y,"q"\n'


def test_files_without_a_final_line_end_do_not_run_together() -> None:
    batch = bundle_of(b"1,2,3", b"4,5,6\n", b"7,8,9")
    assert [list(f) for f in rows_of(batch).fields()] == [["1", "2", "3"], ["4", "5", "6"], ["7", "8", "9"]]
    made = mapped(batch, lambda r: {**r, "b": "x"})
    assert [bytes(b) for b in encode(made).bodies] == [b"1,x,3", b"4,x,6\n", b"7,x,9"]


def test_the_first_row_that_came_back_names_the_columns_and_others_are_rejected() -> None:
    def function(row: dict[str, str]) -> Any:
        match row["a"]:
            case "1":
                return "no row"
            case "2":
                return {"c": row["c"], "a": row["a"]}
            case "3":
                return {"a": "3", "c": "turned"}
        return row

    made = mapped(batch_of(b"1,b,c\n2,b,c\n3,b,c\n4,b,c\n"), function, 1)
    assert written(made) == b"c,2\nturned,3\n"
    assert [r.reason for r in made.rejects] == [
        "the function returned str, not a row",
        "the function returned a row that adds b",
    ]


def test_a_value_that_is_no_text_is_the_fault_of_its_row_alone() -> None:
    made = mapped(batch_of(b"1,b,c\n2,b,c\n3,b,c\n"), lambda r: {**r, "b": ["l"] if r["a"] == "2" else 1.5}, 2)
    assert written(made) == b"1,1.5,c\n3,1.5,c\n"
    assert [r.position.record for r in made.rejects] == [2]


def test_slices_of_which_no_row_came_back_do_no_harm() -> None:
    def function(row: dict[str, str]) -> Any:
        return {**row, "b": "x", "n": 1} if row["a"] in "37" else None

    made = mapped(batch_of(b"".join(b"%d,b,c\n" % i for i in range(9))), function, 2)
    assert written(made) == b"3,x,c,1\n7,x,c,1\n"
    assert len(made.rejects) == 7


def test_no_rows_have_the_columns_that_were_declared() -> None:
    assert mapped(batch_of(b""), dict, declared=("a", "z")).names == ("a", "z")
    assert mapped(batch_of(b""), dict).names == NAMES


ODD = ["'", '"', "\\", "\n", "}", "é", "v0", "class", "{x}", "\\N{DASH}", "ﬁ", "__class__", "__dict__", "_", "Holder"]


@pytest.mark.parametrize("name", ODD)
def test_any_column_name_can_be_the_key_of_a_row(name: str) -> None:
    row = next(_rows.Rows((name, "b"), ["1", "2"]).dicts())
    assert type(row) is dict
    assert list(row.items()) == [(name, "1"), ("b", "2")]


@pytest.mark.parametrize("names", [("a", "b"), ("a b", "c"), tuple(f"c{i}" for i in range(29))])
def test_what_is_done_to_a_row_is_done_to_that_row_alone(names: tuple[str, ...]) -> None:
    """Rows may share their keys inside, and must not show it."""
    count = 100
    rows = _rows.Rows(names, [f"{i}" for i in range(count * len(names))])
    kept = list(rows.dicts())
    for i, row in enumerate(kept):
        if i % 3 == 0:
            row[f"new{i}"] = "n"
        elif i % 3 == 1:
            del row[names[0]]
            row[names[0]] = "again"
    for i, row in enumerate(kept):
        was = dict(zip(names, rows.values[i * len(names) : (i + 1) * len(names)], strict=True))
        if i % 3 == 0:
            was[f"new{i}"] = "n"
        elif i % 3 == 1:
            del was[names[0]]
            was[names[0]] = "again"
        assert list(row.items()) == list(was.items())
        assert row.copy() == {**row} == was


def test_columns_in_another_order_with_a_value_that_is_no_text() -> None:
    def function(row: dict[str, str]) -> Any:
        if row["a"] == "1":
            return row
        return {"c": row["c"], "b": ["l"] if row["a"] == "3" else row["b"].upper(), "a": row["a"]}

    made = mapped(batch_of(b'1,b,"c"\n2,b,"c"\n3,b,"c"\n4,b,"c"\n'), function)
    assert written(made) == b'1,b,"c"\n2,B,"c"\n4,B,"c"\n'
    assert [r.position.record for r in made.rejects] == [3]


def test_a_row_with_one_column_more_and_one_less_is_rejected() -> None:
    def function(row: dict[str, str]) -> Any:
        if row["a"] == "2":
            row["d"] = row.pop("b")
        return row

    made = mapped(batch_of(b"1,b,c\n2,b,c\n3,b,c\n"), function)
    assert written(made) == b"1,b,c\n3,b,c\n"
    assert [r.reason for r in made.rejects] == ["the function returned a row that lacks b and adds d"]


def test_a_thousand_columns_and_more() -> None:
    names = tuple(f"c{i}" for i in range(1500))
    rows = _rows.Rows(names, [str(i) for i in range(3000)])
    assert [list(r.values())[-1] for r in rows.dicts()] == ["1499", "2999"]
    assert [list(r) for r in rows.dicts()] == [list(names)] * 2
