"""A value an expression fails on costs its own record, never the batch."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopipe.sql import compile_expression

TYPES = {"s": "VARCHAR", "n": "BIGINT"}


def number(text: str | None) -> int | None:
    return None if text is None else int(text)


WORDS = st.sampled_from([None, "1", "-5", "x", "", "12", "9" * 30, "é", "7"])


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, max_size=30))
def test_exactly_the_bad_records_fail_and_the_others_keep_their_values(words: list[str | None]):
    found = compile_expression("CAST(s AS BIGINT)", TYPES).evaluate({"s": pa.array(words, pa.string())}, len(words))
    bad = [i for i, w in enumerate(words) if w in ("x", "", "é", "9" * 30)]
    assert list(found.failed) == bad
    assert all(repr(words[i])[1:-1] in message for i, message in found.failed.items())
    assert found.values.type == pa.int64()
    assert found.values.to_pylist() == [None if i in bad else number(w) for i, w in enumerate(words)]


@pytest.mark.parametrize(
    ("text", "values", "expected", "failed"),
    [
        ("n + 1", [1, 2**63 - 1, None], [2, None, None], [1]),
        ("n * n", [2**62, 3], [None, 9], [0]),
        ("n // 0", [None], [None], []),
        (
            "CASE WHEN n < 0 THEN error('below zero') ELSE n END",
            [1, -1, None, -2],
            [1, None, None, None],
            [1, 3],
        ),
        (
            "CASE WHEN n > 1 THEN NULL ELSE CAST(n || 'x' AS BIGINT) END",
            [1, 2, None],
            [None, None, None],
            [0],
        ),
    ],
)
def test_overflow_and_raised_errors_are_found(
    text: str, values: list[int | None], expected: list[int | None], failed: list[int]
):
    found = compile_expression(text, TYPES).evaluate({"n": pa.array(values, pa.int64())}, len(values))
    assert found.values.to_pylist() == expected
    assert list(found.failed) == failed
    assert all(message and "\n" not in message for message in found.failed.values())


def test_the_message_is_duckdbs_own_sentence():
    found = compile_expression("CAST(s AS BIGINT)", TYPES).evaluate({"s": pa.array(["1", "ok"])}, 2)
    assert found.failed[1].startswith("Could not convert string 'ok' to INT64")
    raised = compile_expression("error('too ' || s)", TYPES).evaluate({"s": pa.array(["big"])}, 1)
    assert raised.failed == {0: "too big"}


def test_a_batch_in_which_every_record_fails_gives_only_failures():
    words = pa.array([f"w{i}" for i in range(300)])
    for text in ("CAST(s AS DATE)", "error(s)::BIGINT"):
        found = compile_expression(text, TYPES).text_values({"s": words}, 300)
        assert len(found.failed) == 300
        assert found.values.null_count == len(found.values) == 300


def test_thousands_of_different_bad_values_are_named_in_good_time():
    words = pa.array([f"w{i}" for i in range(11_000)])
    found = compile_expression("CAST(s AS BIGINT)", TYPES).evaluate({"s": words}, 11_000)
    assert len(found.failed) == 11_000
    assert all(f"'w{i}'" in message for i, message in found.failed.items())
    assert found.failed[10_999] == "fails on s = 'w10999'"


def test_masks_and_text_fail_alike():
    words = {"s": pa.array(["5", "x", None, "1"])}
    mask = compile_expression("CAST(s AS BIGINT) > 2", TYPES).mask(words, 4)
    assert mask.values.to_pylist() == [True, None, None, False]
    text = compile_expression("CAST(s AS DECIMAL(4,1))", TYPES).text_values(words, 4)
    assert text.values.to_pylist() == ["5.0", None, None, "1.0"]
    assert list(mask.failed) == list(text.failed) == [1]


def test_a_literal_that_can_never_be_converted_fails_every_record():
    found = compile_expression("n + 'x'", TYPES).evaluate({"n": pa.array([1, 2])}, 2)
    assert found.failed == dict.fromkeys([0, 1], "Could not convert string 'x' to INT64")


def test_after_a_failure_the_next_batch_is_as_good_as_new():
    expression = compile_expression("CAST(s AS BIGINT)", TYPES)
    assert expression.evaluate({"s": pa.array(["x"])}, 1).failed
    assert expression.evaluate({"s": pa.array(["4"])}, 1).values.to_pylist() == [4]
