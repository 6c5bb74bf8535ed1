"""The direct path gives DuckDB's answer, or none: random expressions over random columns."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopipe.codec.types import arrow_type
from aiopipe.sql import compile_expression

TYPES = {
    "i": "BIGINT", "j": "BIGINT", "x": "DOUBLE", "y": "DOUBLE", "s": "VARCHAR", "t": "VARCHAR",
    "b": "BOOLEAN", "c": "BOOLEAN", "d": "DATE", "e": "DATE", "m": "TIMESTAMP", "n": "TIMESTAMP",
}  # fmt: skip
EXTREME = [0, 1, -1, 30, 2**53, 2**53 + 1, -(2**53) - 1, 2**62, 2**63 - 1, -(2**63)]
DOUBLES = [0.0, -0.0, 1.0, 0.1, 0.3, 100.5, 1e308, -1e308, 5e-324, 2.0**53, 2.0**63, 1e-7]
WORDS = ["", "a", "A", "ab", "é", "e\u0301", "z", "ß", "\U0001f600", "\uffff", " ", "NULL", "日本"]

VALUES = {
    "BIGINT": st.sampled_from(EXTREME) | st.integers(-40, 40) | st.integers(-(2**63), 2**63 - 1),
    "DOUBLE": st.sampled_from(DOUBLES) | st.floats() | st.integers(-4, 4).map(float),
    "VARCHAR": st.sampled_from(WORDS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    "BOOLEAN": st.booleans(),
    "DATE": st.integers(-3, 3) | st.integers(-700_000, 2_000_000),
    "TIMESTAMP": st.integers(-3, 3) | st.integers(-(10**15), 10**15),
}

integers = st.sampled_from([str(v) for v in EXTREME]) | st.integers(-40, 40).map(str)
decimals = st.decimals(-1000, 1000, places=2).map(str) | st.sampled_from(
    ["0.1", "0.30", ".5", "2.", "1e3", "1.5e-3", "123456789012.345", "0.000000000000001", "1e300", "3e15"]
)
strings = (st.sampled_from(WORDS) | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=3)).map(
    lambda v: "'" + v.replace("'", "''") + "'"
)
comparison = st.sampled_from(["=", "<>", "<", "<=", ">", ">=", "==", "!="])


def numbers(depth: int) -> st.SearchStrategy[str]:
    leaf = st.sampled_from(["i", "j", "x", "y"]) | integers | decimals
    if depth == 0:
        return leaf
    deeper = numbers(depth - 1)
    pair = st.tuples(deeper, st.sampled_from("+-*/"), deeper).map(lambda p: f"({p[0]} {p[1]} {p[2]})")
    return leaf | pair | deeper.map(lambda n: f"(- {n})")


def texts(depth: int) -> st.SearchStrategy[str]:
    leaf = st.sampled_from(["s", "t"]) | strings
    if depth == 0:
        return leaf
    return leaf | st.tuples(texts(depth - 1), texts(depth - 1)).map(lambda p: f"({p[0]} || {p[1]})")


def alike(depth: int) -> st.SearchStrategy[tuple[str, str, str]]:
    """Three expressions that may be compared with each other."""
    kinds = [
        numbers(depth),
        texts(depth),
        st.sampled_from("de"),
        st.sampled_from("mn"),
        st.sampled_from("bc"),
    ]
    return st.one_of([st.tuples(kind, kind, kind) for kind in kinds])


def conditions(depth: int) -> st.SearchStrategy[str]:
    three = alike(min(depth, 2))
    leaf = st.one_of(
        st.sampled_from("bc"),
        st.tuples(three, comparison).map(lambda p: f"{p[0][0]} {p[1]} {p[0][1]}"),
        st.tuples(three, st.sampled_from(["", "NOT "])).map(
            lambda p: f"{p[0][0]} {p[1]}BETWEEN {p[0][1]} AND {p[0][2]}"
        ),
        st.tuples(three, st.sampled_from(["", "NOT "])).map(lambda p: f"{p[0][0]} {p[1]}IN ({p[0][1]}, {p[0][2]})"),
        st.tuples(three, st.sampled_from(["IS NULL", "IS NOT NULL"])).map(lambda p: f"{p[0][0]} {p[1]}"),
        st.lists(integers, min_size=1, max_size=4).map(lambda v: f"i IN ({', '.join(v)})"),
        st.lists(strings, min_size=1, max_size=4).map(lambda v: f"s NOT IN ({', '.join(v)})"),
        st.lists(integers | decimals, min_size=1, max_size=4).map(lambda v: f"x IN ({', '.join(v)})"),
    )
    if depth == 0:
        return leaf
    deeper = conditions(depth - 1)
    joined = st.tuples(deeper, st.sampled_from(["AND", "OR"]), deeper).map(lambda p: f"({p[0]} {p[1]} {p[2]})")
    return leaf | joined | deeper.map(lambda c: f"(NOT {c})")


expressions = conditions(3) | numbers(3) | texts(2)


@st.composite
def batches(draw: st.DrawFn) -> tuple[dict[str, pa.Array], int]:
    length = draw(st.integers(0, 12))
    wild = draw(st.booleans())  # otherwise small values: an overflow or NaN sends the batch to DuckDB
    columns = {}
    for name, kind in TYPES.items():
        tame = {"BIGINT": st.integers(-40, 40), "DOUBLE": st.floats(-100, 100)}
        values = VALUES[kind] if wild else tame.get(kind, VALUES[kind])
        drawn = draw(st.lists(st.none() | values, min_size=length, max_size=length))
        columns[name] = _sliced(drawn, arrow_type(kind), draw(st.integers(0, 3)))
    return columns, length


def _sliced(values: list[object], kind: pa.DataType, offset: int) -> pa.Array:
    """The values as an array that begins inside its buffers, as a slice does."""
    stored = pa.int32() if kind == pa.date32() else pa.int64() if kind == pa.timestamp("us") else kind
    padded = pa.array([None] * offset + values, stored)
    return (padded if stored == kind else padded.cast(kind)).slice(offset)


def shown(values: pa.Array) -> list[str]:
    """Values so that 0.0 and -0.0 differ and NaN is equal to itself."""
    return [repr(v) for v in values.to_pylist()]


@settings(max_examples=200, deadline=None)
@given(expressions, batches())
def test_arrow_gives_what_duckdb_gives_or_leaves_it_to_duckdb(text: str, batch: tuple[dict[str, pa.Array], int]):
    columns, length = batch
    try:
        expression = compile_expression(text, TYPES)
    except Exception as error:
        # Random expressions may not bind (an overflow of literals); never by a Python mistake.
        assert type(error).__name__ == "ExpressionError", error
        return
    expected = replace(expression, _direct=None).evaluate(columns, length)
    found = expression.evaluate(columns, length)
    assert found.failed == expected.failed
    assert found.values.type == expected.values.type
    assert shown(found.values) == shown(expected.values)


@pytest.mark.parametrize(
    "text",
    [
        "i > 30", "30 < i", "i > j", "x >= 100.5", "x < 3", "i < x", "s = 'ok'", "s < t", "d <= e", "m <> n",
        "b", "NOT b", "i > 1 AND s = 'a' OR c", "i IS NULL", "s IS NOT NULL", "i BETWEEN 1 AND 5",
        "x NOT BETWEEN 0.5 AND y", "i IN (1, 2, 3)", "s NOT IN ('a', 'b')", "x IN (1, 2.5)", "b = c", "i",
        "s", "i + 1", "1 - i", "i * j", "-i", "x * 0.9", "x + i", "x / 2", "i / 60", "-x", "s || '-' || t",
        "x > 1e3", "s <> ''",
        "b = true",
    ],
)  # fmt: skip
def test_plain_expressions_do_without_duckdb(text: str):
    columns = {name: pa.nulls(2, arrow_type(kind)) for name, kind in TYPES.items()}
    expression = compile_expression(text, TYPES)
    assert expression.direct
    assert expression._direct is not None
    assert len(expression._direct.run(columns)) == 2


@pytest.mark.parametrize(
    "text",
    ["i * 0.9", "i > 1.5", "i % 2", "x / y", "upper(s)", "i IN (1, NULL)", "d > '2020-01-01'", "1 + 1", "1"],
)
def test_what_is_not_proven_equal_is_left_to_duckdb(text: str):
    assert not compile_expression(text, TYPES).direct


@pytest.mark.parametrize(
    ("text", "column", "values"),
    [
        ("i + 1", "i", [2**63 - 1, 1]),
        ("i * i", "i", [2**62, 1]),
        ("x > y", "x", [float("nan"), 1.0]),
        ("x * 10 - x * 10", "x", [1e308, 1.0]),
        ("x = x", "x", [float("nan"), float("inf")]),
    ],
)
def test_overflow_and_nan_are_decided_by_duckdb(text: str, column: str, values: list[object]):
    columns = {name: pa.nulls(2, arrow_type(kind)) for name, kind in TYPES.items()}
    columns[column] = pa.array(values, arrow_type(TYPES[column]))
    plan = compile_expression(text, TYPES)._direct
    assert plan is not None
    assert plan.run(columns) is None
