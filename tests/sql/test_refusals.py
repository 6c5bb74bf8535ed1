"""What cannot be evaluated record by record is refused, with its place and what to do instead."""

from __future__ import annotations

import pickle

import pytest

from aiopipe.errors import ExpressionError
from aiopipe.sql import compile_expression, compile_predicate, parse

TYPES = {"amount": "DOUBLE", "status": "VARCHAR", "n": "BIGINT", "dep time": "BIGINT"}


def refused(text: str) -> tuple[ExpressionError, str, int]:
    """The error, its first line, and the column its caret stands under (-1: none)."""
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text, TYPES)
    lines = caught.value.message.split("\n")
    caret = lines[2].index("^") - 2 if len(lines) > 2 else -1
    assert caught.value.hint, "a refusal says what to do"
    return caught.value, lines[0], caret


@pytest.mark.parametrize(
    ("text", "reason", "caret"),
    [
        ("1 + sum(n)", "sum() is an aggregate", 4),
        ("count(*) > 1", "count_star() is an aggregate", 0),
        ("n > avg(n)", "avg() is an aggregate", 4),
        ("sum(n) OVER () > 1", "a window looks at other records", 0),
        ("lag(n) OVER (ORDER BY n)", "a window", 0),
        ("n > (SELECT 1)", "a subquery", 4),
        ("n IN (SELECT 1)", "a subquery", None),
        ("EXISTS (SELECT 1)", "a subquery", 0),
        ("*", "* stands for all columns", 0),
        ("COLUMNS(*) > 1", "* stands for all columns", None),
        ("n > ?", "a parameter", None),
        ("n > $limit", "a parameter", None),
        ("#1", "#1 names a column", 0),
        ("unnest([1, 2])", "unnest() makes several records", 0),
        ("generate_subscripts([1], 1)", "generate_subscripts(): unnest() makes several", 0),
        ("read_text('/etc/passwd')", "read_text() is a table function", 0),
        ("n + random()", "random() varies", 4),
        ("uuid()", "uuid() varies", 0),
        ("now()", "now() varies", 0),
        ("today()", "today() varies", 0),
        ("current_date > DATE '2020-01-01'", "current_date varies", 0),
        ("current_timestamp", "current_timestamp varies", 0),
        ("current_localtimestamp()", "current_localtimestamp() varies", 0),
        ("age(TIMESTAMP '2020-01-01')", "age() varies", 0),
        ("getvariable('x')", "getvariable() varies", 0),
        ("list_transform([1], lambda x: x + random())", "random() varies", None),
        ("weighted_avg(n, n)", "weighted_avg(): ", 0),
    ],
)
def test_other_records_and_changing_answers_are_refused(text: str, reason: str, caret: int | None):
    _, message, found = refused(text)
    assert message.startswith(reason)
    if caret is not None:  # where DuckDB 1.4 and 2.0 agree on the place
        assert found == caret


@pytest.mark.parametrize(
    "text",
    [
        "n; SELECT 2", "n) FROM batch; SELECT (1", "n) FROM batch WHERE (true", "n) + (n", "n, n", "n,",
        "n m", "n AS m", "n) m, (n", "n WHERE true", "DISTINCT n", "n ORDER BY n", "n) FROM batch -- ",
        "n /* ", "n;", "SELECT 1", "FROM batch", "n) UNION (SELECT 1", "n LIMIT 1", ";", ")(",
        "-- only a comment", "n) FROM (SELECT 1",
    ],
)  # fmt: skip
def test_nothing_but_one_expression_is_taken(text: str):
    refused(text)


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_an_empty_expression_says_so(text: str):
    assert refused(text)[1] == "the expression is empty"


@pytest.mark.parametrize(
    ("text", "caret"),
    [
        ("amount > > 1", 9),
        ("amount >", 8),
        ("(amount > 1", 11),
        ("'é' é é", None),
        ("dep time > 1", 4),
        ("n >\n  *", 2),
    ],
)
def test_a_syntax_error_points_at_its_place(text: str, caret: int | None):
    found = refused(text)[2]
    assert found >= 0
    if caret is not None:
        assert found == caret


def test_an_unknown_column_points_at_it_and_names_the_nearest():
    error, message, caret = refused("n > 1 AND amuont > 2")
    assert (message, caret, error.hint) == ("no column amuont", 10, "did you mean amount?")
    assert refused('"dep_time" > 1')[0].hint == 'did you mean "dep time"?'


def test_the_caret_counts_characters_not_bytes():
    assert refused("'ééé日本' || nope")[2] == len("'ééé日本' || ") + 2  # two of them are two cells wide


def test_text_compared_with_a_number_is_told_to_cast():
    error, message, caret = refused("status > 5")
    assert message.startswith("Cannot compare values of type VARCHAR")
    assert "\n" not in message
    assert caret in (0, 7)  # 2.0 points at the comparison, 1.4 at its operator
    assert error.hint == "status is text: write CAST(status AS DOUBLE), or give its type: --types status=DOUBLE"
    assert "Candidate" not in refused("n + 1 > 2 AND status * 2 > 1")[0].message


def test_a_field_of_a_table_is_told_how_to_quote():
    assert 'a column of that name: "batch.n"' in str(refused("batch.n > 1")[0])


def test_a_condition_has_to_be_true_or_false():
    with pytest.raises(ExpressionError, match="a condition is needed, this is DOUBLE"):
        compile_predicate("amount * 2", TYPES)
    with pytest.raises(ExpressionError, match="write a comparison"):
        compile_expression("status", TYPES).mask({}, 0)


def test_an_ambiguous_name_is_refused_and_so_are_two_that_differ_in_case():
    with pytest.raises(ExpressionError, match="AB may mean ab or Ab"):
        compile_expression("AB > 1", {"ab": "BIGINT", "Ab": "BIGINT"})
    with pytest.raises(ExpressionError, match="differ in case only"):
        compile_expression("ab > Ab", {"ab": "BIGINT", "Ab": "BIGINT"})


def test_a_macro_that_reads_the_clock_is_refused():
    refused("ago(INTERVAL 1 DAY)")  # DuckDB 1.4 does not know it


@pytest.mark.parametrize("deep", ["((" * 30000 + "1" + "))" * 30000, "+".join(["n"] * 3000), "NOT " * 3000 + "true"])
def test_an_expression_nested_without_end_is_refused_not_a_crash(deep: str):
    error, _, _ = refused(deep)
    assert len(str(error)) < 1000


def test_a_very_long_expression_is_taken_and_its_errors_stay_short():
    text = " OR ".join(f"n = {i}" for i in range(5000))
    assert parse(text).columns == ("n",)
    error, _, caret = refused(text + " OR nope = 1")
    assert len(str(error)) < 500
    assert caret > 0


@pytest.mark.parametrize("text", ["n > 1\0", "status = '\udc80'"])
def test_characters_that_no_expression_can_hold_are_refused(text: str):
    with pytest.raises(ExpressionError, match="cannot stand in an expression"):
        parse(text)


def test_a_refusal_travels_between_processes():
    error = pickle.loads(pickle.dumps(refused("sum(n)")[0]))
    assert "aggregate" in str(error)
