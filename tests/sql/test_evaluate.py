"""Values, masks and text: typed, as long as the batch, in its order, the same in every thread and process."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopipe.codec.types import arrow_type
from aiopipe.errors import ExpressionError
from aiopipe.sql import compile_expression
from aiopipe.sql.session import session

TYPES = {
    "n": "BIGINT", "x": "DOUBLE", "s": "VARCHAR", "d": "DATE", "m": "TIMESTAMP", "z": "TIMESTAMPTZ",
    "b": "BOOLEAN", "p": "DECIMAL(10,2)",
}  # fmt: skip
COLUMNS = {
    "n": pa.array([1, None, 3]),
    "x": pa.array([0.5, 1e20, None]),
    "s": pa.array(["a", "é", None]),
    "d": pa.array([0, 1, None], pa.int32()).cast(pa.date32()),
    "m": pa.array([0, 1, None], pa.timestamp("us")),
    "z": pa.array([0, 1, None], pa.timestamp("us", "UTC")),
    "b": pa.array([True, False, None]),
    "p": pa.array([Decimal("1.10"), Decimal("-2.00"), None], pa.decimal128(10, 2)),
}


@pytest.mark.parametrize("name", TYPES)
def test_a_column_comes_back_as_it_is_by_either_path(name: str):
    for text in (name, f"coalesce({name}, {name})"):
        expression = compile_expression(text, TYPES)
        assert expression.type == TYPES[name]
        values = expression.evaluate(COLUMNS, 3).values
        assert values.type == arrow_type(TYPES[name])
        assert values.equals(COLUMNS[name])


@pytest.mark.parametrize(
    ("text", "type_name", "values"),
    [
        ("1", "INTEGER", [1, 1, 1]),
        ("'x'", "VARCHAR", ["x", "x", "x"]),
        ("true", "BOOLEAN", [True, True, True]),
        ("NULL::DATE", "DATE", [None, None, None]),
        ("n * 0.9", "DECIMAL(21,1)", [Decimal("0.9"), None, Decimal("2.7")]),
        ("x * 0.9", "DOUBLE", [0.45, 9e19, None]),
        ("upper(s)", "VARCHAR", ["A", "É", None]),
        ("CASE WHEN n > 1 THEN s ELSE 'low' END", "VARCHAR", ["low", "low", None]),
        ("n IN (1, NULL)", "BOOLEAN", [True, None, None]),
        ("[n, 2]", "BIGINT[]", [[1, 2], [None, 2], [3, 2]]),
        ("n -- as it is", "BIGINT", [1, None, 3]),
        ("list_transform([n], lambda v: v + 1)[1]", "BIGINT", [2, None, 4]),
    ],
)
def test_duckdbs_dialect_with_duckdbs_types(text: str, type_name: str, values: list[object]):
    expression = compile_expression(text, TYPES)
    assert expression.type == type_name
    assert expression.evaluate(COLUMNS, 3).values.to_pylist() == values


@pytest.mark.parametrize("text", ["n > 1", "upper(s) = 'A'", "1", "true", "x * 2", "s || s", "n IN (1, 2)"])
def test_a_batch_without_records_gives_no_values(text: str):
    empty = {name: array.slice(0, 0) for name, array in COLUMNS.items()}
    expression = compile_expression(text, TYPES)
    assert len(expression.evaluate(empty, 0).values) == 0
    assert expression.text_values(empty, 0).values.type == pa.string()


def test_more_records_than_duckdb_takes_at_a_time_keep_their_order():
    length = 300_000
    values = pa.array(np.arange(length))
    found = compile_expression("abs(n)", TYPES).evaluate({"n": values}, length).values
    assert found.equals(values)


def test_slices_and_chunks_are_taken():
    values = pa.array([9, 9, 1, None, 3]).slice(2)
    for text in ("n + 1", "abs(n) + 1"):
        assert compile_expression(text, TYPES).evaluate({"n": values}, 3).values.to_pylist() == [2, None, 4]
    chunked = pa.chunked_array([[1], [None, 3]], pa.int64())
    for text in ("n", "abs(n)"):
        found = compile_expression(text, TYPES).evaluate({"n": chunked}, 3).values
        assert isinstance(found, pa.Array)
        assert found.to_pylist() == [1, None, 3]


def test_a_batch_is_let_go_once_it_is_evaluated():
    expression = compile_expression("upper(s)", TYPES)
    small = {"s": pa.array(["a"])}
    expression.evaluate(small, 1)
    before = pa.total_allocated_bytes()
    expression.evaluate({"s": pa.array(["x" * 1_000_000])}, 1)  # nobody else holds it
    assert pa.total_allocated_bytes() - before < 100_000


def test_a_mask_is_null_where_sql_does_not_know():
    assert compile_expression("n > 1", TYPES).mask(COLUMNS, 3).values.to_pylist() == [False, None, True]
    assert compile_expression("abs(n) > 1", TYPES).mask(COLUMNS, 3).values.to_pylist() == [False, None, True]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("n + 1", ["2", None, "4"]),
        ("n > 1", ["false", None, "true"]),
        ("s", ["a", "é", None]),
        ("d", ["1970-01-01", "1970-01-02", None]),
        ("m", ["1970-01-01 00:00:00", "1970-01-01 00:00:00.000001", None]),
        ("z", ["1970-01-01 00:00:00+00", "1970-01-01 00:00:00.000001+00", None]),
        ("p", ["1.10", "-2.00", None]),
        ("n * 0.9", ["0.9", None, "2.7"]),
        ("x", ["0.5", "1e+20", None]),
        ("[n]", ["[1]", "[NULL]", "[3]"]),
        ("NULL", [None, None, None]),
    ],
)
def test_text_is_what_duckdb_writes(text: str, values: list[object]):
    assert compile_expression(text, TYPES).text_values(COLUMNS, 3).values.to_pylist() == values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("year(d) + month(d)", ["1971", "1971", None]),
        ("date_trunc('hour', m)", ["1970-01-01 00:00:00", "1970-01-01 00:00:00", None]),
        ("strftime(m, '%Y/%m')", ["1970/01", "1970/01", None]),
        ("strftime(z, '%H:%M')", ["00:00", "00:00", None]),
        ("date_part('hour', z)", ["0", "0", None]),
        ("dayname(z)", ["Thursday", "Thursday", None]),
        ("date_diff('day', d, DATE '1970-01-03')", ["2", "1", None]),
        ("age(m, TIMESTAMP '1970-01-01')", ["00:00:00", "00:00:00.000001", None]),
        ("timezone('UTC', z)", ["1970-01-01 00:00:00", "1970-01-01 00:00:00.000001", None]),
    ],
)
def test_what_depends_on_the_time_zone_is_told_in_utc(text: str, values: list[object]):
    assert compile_expression(text, TYPES).text_values(COLUMNS, 3).values.to_pylist() == values


SHORT = st.integers(-(10**6), 10**6).map(lambda v: v / 100) | st.integers(-(10**16), 10**16).map(float)
EDGES = st.sampled_from(
    [1e20, 1.0, 0.1 + 0.2, -0.0, 0.0, 1e-7, 1e-5, 9.99e-5, 1e-4, 1e10, 9999999999.5, 1e15, 1e16, 5e-324,
     float("inf"), -float("inf"), float("nan"), -float("nan"), 1.7976931348623157e308]
)  # fmt: skip
DOUBLED = {2.0**81, 2.0**91, 2.0**807}  # DuckDB 1.4 to 2.0 write these wrong, see aiopipe.sql.text


WHOLE = st.integers(-(10**11), 10**11).map(float)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.none() | EDGES | SHORT | st.floats(), max_size=40)
    | st.lists(st.none() | WHOLE, max_size=40)
    | st.lists(st.sampled_from([None, -0.0, 0.0, 7.0, 9999999999.0]), max_size=10)
)
def test_text_of_a_double_is_what_duckdb_writes(values: list[float | None]):
    column = pa.array([v for v in values if v is None or abs(v) not in DOUBLED], pa.float64())
    found = compile_expression("x", TYPES).text_values({"x": column}, len(column)).values
    written = compile_expression("CAST(x AS VARCHAR)", TYPES).evaluate({"x": column}, len(column)).values
    assert found.to_pylist() == written.to_pylist()


@given(st.floats(allow_nan=False))
def test_text_of_a_double_reads_back_as_the_same(value: float):
    for number in (value, *DOUBLED):
        text = compile_expression("x", TYPES).text_values({"x": pa.array([number])}, 1).values[0].as_py()
        assert float(text) == number


def test_a_result_of_another_length_is_never_passed_on():
    expression = compile_expression("n", TYPES)
    with pytest.raises(ExpressionError, match="3 values for 2 records"):
        expression.evaluate(COLUMNS, 2)


def test_threads_share_an_expression_and_get_their_own_answers():
    expression = compile_expression("abs(n) + length(s)", {"n": "BIGINT", "s": "VARCHAR"})

    def work(k: int) -> bool:
        column = pa.array(np.arange(k, k + 2000))
        words = pa.array(["x" * (k % 7)] * 2000)
        found = expression.evaluate({"n": column, "s": words}, 2000).values
        return found.to_pylist() == [v + k % 7 for v in range(k, k + 2000)]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(100)))


def test_an_expression_travels_to_another_process():
    for text in ("n > 1", "upper(s)"):
        expression = compile_expression(text, TYPES)
        again = pickle.loads(pickle.dumps(expression))
        assert again == expression
        assert again.evaluate(COLUMNS, 3).values.equals(expression.evaluate(COLUMNS, 3).values)


def test_more_expressions_than_are_kept_planned_all_give_their_answer():
    expressions = [compile_expression(f"abs(n) + {k}", TYPES) for k in range(150)]
    for _ in range(2):
        for k, expression in enumerate(expressions):
            assert expression.evaluate(COLUMNS, 3).values.to_pylist() == [1 + k, None, 3 + k]


def test_duckdb_is_locked_in():
    run = session().connection.execute
    for statement in (
        "SELECT * FROM read_text('/etc/passwd')",
        "SET threads = 4",
        "SET enable_external_access = true",
    ):
        with pytest.raises(Exception, match=r"disabled|locked|does not exist"):
            run(statement).fetchall()
    COLUMNS_OF_PYTHON = pa.table(COLUMNS)  # noqa: N806 - a name DuckDB might find
    with pytest.raises(Exception, match="does not exist"):
        run("SELECT * FROM COLUMNS_OF_PYTHON").fetchall()
    assert len(COLUMNS_OF_PYTHON) == 3
    settings = run("SELECT current_setting('TimeZone'), current_setting('threads')").fetchall()
    assert settings == [("UTC", 1)] or settings == [("Etc/UTC", 1)]
