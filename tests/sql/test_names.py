"""Which columns an expression needs, and which column of the file each name means."""

from __future__ import annotations

import pyarrow as pa
import pytest

from aiopipe.sql import compile_expression, parse


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("amount > 100 AND status = 'ok'", ("amount", "status")),
        ("a + b + a", ("a", "b")),
        ("1", ()),
        ("'x'", ()),
        ("true", ()),
        ('"dep time" > 1', ("dep time",)),
        ('"a""b" = 1', ('a"b',)),
        ("größe > 1", ("größe",)),
        ('"select" || "order"', ("select", "order")),
        ("CASE WHEN a THEN b ELSE c END", ("a", "b", "c")),
        ("a BETWEEN b AND c", ("a", "b", "c")),
        ("list_transform([1, n], lambda x: x + m)", ("n", "m")),
        ("[x + n for x in [1, 2]]", ("n",)),
        ("s -> '$.a'", ("s",)),
        ("CAST(a AS DECIMAL(10, 2))", ("a",)),
        ("a -- a note", ("a",)),
        ("upper(lower)", ("lower",)),
        ('"current_date"', ("current_date",)),
        ("coalesce(a, b, nullif(c, d))", ("a", "b", "c", "d")),
        ("strftime(d, '%Y') || left(e, 2)", ("d", "e")),
        ("struct_pack(k := a).k", ("a",)),
    ],
)
def test_parse_names_the_columns_in_order(text: str, columns: tuple[str, ...]):
    assert parse(text).columns == columns


@pytest.mark.parametrize(
    "name",
    ["dep time", 'a"b', "größe", "日本", "select", "from", "order", "sum", "random", "lower", "current_date",
     "rowid", "batch", "-", "1", "a.b", "true", "null", " ", "é\u0301", "x" * 300, "'", "--", "unnest"],
)  # fmt: skip
def test_any_column_name_can_be_written_in_quotes(name: str):
    text = '"' + name.replace('"', '""') + "\" || '' "
    column = pa.array(["a", None, "b"])
    expression = compile_expression(text, {name: "VARCHAR", "other": "DOUBLE"})
    assert expression.columns == (name,)
    assert expression.evaluate({name: column}, 3).values.to_pylist() == ["a", None, "b"]
    upper = compile_expression(f"upper({text})", {name: "VARCHAR"})  # not by the direct path
    assert upper.evaluate({name: column}, 3).values.to_pylist() == ["A", None, "B"]


def test_names_are_found_whatever_their_case_the_exact_one_first():
    assert compile_expression("AMOUNT > 1", {"amount": "BIGINT"}).columns == ("amount",)
    both = {"a": "BIGINT", "A": "VARCHAR"}
    assert compile_expression("A", both).type == "VARCHAR"
    assert compile_expression("a", both).type == "BIGINT"


def test_one_column_written_in_two_cases_is_one_column():
    expression = compile_expression("amount + AMOUNT", {"amount": "BIGINT"})
    assert expression.columns == ("amount",)
    assert expression.evaluate({"amount": pa.array([2])}, 1).values.to_pylist() == [4]


def test_types_may_hold_columns_the_expression_does_not_name():
    one = compile_expression("a > 1", {"a": "BIGINT", "b": "DATE"})
    assert one is compile_expression("a > 1", {"c": "VARCHAR", "a": "BIGINT"})
    assert one is not compile_expression("a > 1", {"a": "DOUBLE"})
