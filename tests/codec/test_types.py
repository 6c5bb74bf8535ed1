"""Types: what a sample is taken for, what fits, and exactly which field does not."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopipe.codec.types import TYPES, cast, guess, parse_type
from aiopipe.errors import UsageError

from .csv_bytes import from_pool


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "-20", "0"], "BIGINT"),
        (["007"], "VARCHAR"),
        (["7", "007"], "VARCHAR"),
        (["-07"], "VARCHAR"),
        (["00.5"], "VARCHAR"),
        (["1.10", "2"], "DOUBLE"),
        ([".5", "1.", "-2.5e-3", "1e5"], "DOUBLE"),
        (["e5"], "VARCHAR"),
        (["-e5"], "VARCHAR"),
        (["."], "VARCHAR"),
        (["-"], "VARCHAR"),
        (["-."], "VARCHAR"),
        (["1e999"], "VARCHAR"),
        (["0x1F"], "VARCHAR"),
        (["inf"], "VARCHAR"),
        (["nan"], "VARCHAR"),
        (["Infinity", "1.5"], "VARCHAR"),
        ([" 5"], "VARCHAR"),
        (["5 "], "VARCHAR"),
        (["+5"], "VARCHAR"),
        (["1_000"], "VARCHAR"),
        (["1,000"], "VARCHAR"),
        (["٣"], "VARCHAR"),
        (["²"], "VARCHAR"),
        (["5\n"], "VARCHAR"),
        (["999999999999999999"], "BIGINT"),
        (["1234567890123456789"], "VARCHAR"),
        (["12345678901234567890"], "VARCHAR"),
        (["12345678901234567", "1.5"], "VARCHAR"),
        (["2024-02-29"], "DATE"),
        (["2023-02-29"], "VARCHAR"),
        (["2024-2-9"], "VARCHAR"),
        (["20240229"], "BIGINT"),
        (["2024-02-29 10:00", "2024-02-29T10:00:01.5"], "TIMESTAMP"),
        (["2024-02-29", "2024-02-29 10:00:00"], "TIMESTAMP"),
        (["2024-02-29 25:00"], "VARCHAR"),
        (["2024-02-29T10:00:00Z", "2024-02-29 10:00:00+02:00"], "TIMESTAMPTZ"),
        (["2024-02-29T10:00:00Z", "2024-02-29 10:00:00"], "VARCHAR"),
        (["true", "FALSE"], "BOOLEAN"),
        (["true", "1"], "VARCHAR"),
        (["t"], "VARCHAR"),
        ([], "VARCHAR"),
        (["", ""], "VARCHAR"),
        (["", "5"], "BIGINT"),
        (["a", "5"], "VARCHAR"),
    ],
)
def test_a_sample_is_taken_for(values, expected):
    assert guess(values, ()) == (expected, None)


def test_a_token_that_stands_for_no_value_is_pointed_out_and_not_assumed():
    assert guess(["1", "2", "NA"], ()) == ("VARCHAR", "NA")
    assert guess(["1", "2", "NA"], ("NA",)) == ("BIGINT", None)
    assert guess(["1.5", "2", "-"], ()) == ("VARCHAR", "-")
    assert guess(["2024-01-01", "n/a"], ()) == ("VARCHAR", "n/a")
    assert guess(["1", "NA", "NA"], ()) == ("VARCHAR", None)  # mostly not numbers
    assert guess(["1", "2", "x"], ()) == ("VARCHAR", None)
    assert guess(["007", "NA"], ()) == ("VARCHAR", None)


odd = [
    "",
    "NA",
    "007",
    "7",
    "-0",
    "1.5",
    ".5",
    "1e5",
    "1e999",
    "nan",
    "inf",
    "+5",
    " 5",
    "0x1F",
    "0X2",
    "٣",
    "x",
]
odd += [
    "2024-02-29",
    "2023-02-29",
    "0000-01-01",
    "2024-02-29 10:00",
    "2024-02-29T10:00:00Z",
    "true",
    "True",
    "1",
]
odd += ["2024-01-01 00:00:00+14:00", "2024-01-01 00:00:00.1234567", "123456789012345678", "9" * 19, "9" * 40]
odd += ["1234567890123.25", "-12", "0.1", "00", "-", ".", "-5.", "12e-3", "123456789012345678.5"]
fields = st.one_of(from_pool(odd), from_pool(["1", "-2", "NA", "", "30"]), from_pool(["1.5", "", "2", "1e5"]))


@settings(max_examples=150)
@given(fields)
def test_what_is_guessed_of_a_sample_fits_all_of_it(values):
    name, _ = guess(values, ("NA",))
    typed, bad = cast(pa.array(values, pa.string()), name, ("NA",))
    assert bad is None
    assert typed.is_null().to_pylist() == [v in ("", "NA") for v in values]
    if name in ("BIGINT", "DOUBLE"):
        assert typed.to_pylist() == [None if v in ("", "NA") else float(v) for v in values] or name == "BIGINT"
    if name == "BIGINT":
        assert [str(v) for v in typed.to_pylist() if v is not None] == [
            v.replace("-0", "0") if v == "-0" else v for v in values if v not in ("", "NA")
        ]


@settings(max_examples=150)
@given(fields, st.sampled_from([*TYPES, "DECIMAL(10,2)"]))
def test_a_field_that_does_not_fit_is_told_exactly_and_the_others_are_right(values, name):
    typed, bad = cast(pa.array(values, pa.string()), name, ("NA",))
    alone = [cast(pa.array([v], pa.string()), name, ("NA",)) for v in values]
    told = np.zeros(len(values), np.bool_) if bad is None else bad
    assert told.tolist() == [b is not None and bool(b[0]) for _, b in alone]
    assert bad is None or bad.any()
    whole = pa.concat_arrays([t for t, _ in alone]) if alone else typed
    assert str(typed) == str(whole) and typed.type == whole.type
    assert typed.is_null().to_pylist() == [v in ("", "NA") or bool(b) for v, b in zip(values, told, strict=True)]


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("007", "BIGINT", 7),
        ("0x1F", "BIGINT", None),
        ("0X1F", "BIGINT", None),
        ("9223372036854775807", "BIGINT", 2**63 - 1),
        ("9223372036854775808", "BIGINT", None),
        (" 5", "BIGINT", None),
        ("5.0", "BIGINT", None),
        ("1e999", "DOUBLE", None),
        ("-1e999", "DOUBLE", None),
        ("inf", "DOUBLE", float("inf")),
        ("NA", "DOUBLE", None),
        ("1.25", "DECIMAL(10,2)", Decimal("1.25")),
        ("1.255", "DECIMAL(10,2)", None),
        ("2023-02-29", "DATE", None),
        ("2024-02-29", "DATE", dt.date(2024, 2, 29)),
        ("2024-02-29T10:00:00Z", "TIMESTAMP", None),
        ("2024-02-29 10:00", "TIMESTAMP", dt.datetime(2024, 2, 29, 10)),
        ("2024-02-29 10:00", "TIMESTAMPTZ", None),
        ("2024-02-29 10:00+02:00", "TIMESTAMPTZ", dt.datetime(2024, 2, 29, 8, tzinfo=dt.UTC)),
        ("yes", "BOOLEAN", None),
        ("True", "BOOLEAN", True),
        ("", "VARCHAR", None),
        ("007", "VARCHAR", "007"),
    ],
)
def test_one_field_as_a_type(text, name, value):
    typed, bad = cast(pa.array([text, ""], pa.string()), name, ())
    assert (typed[0].as_py(), typed[1].as_py()) == (value, None)
    assert (bad is not None and bool(bad[0])) == (value is None and text != "")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bigint", "BIGINT"),
        ("int", "BIGINT"),
        ("Text", "VARCHAR"),
        ("decimal(10, 2)", "DECIMAL(10,2)"),
        ("timestamp  with time zone", "TIMESTAMPTZ"),
    ],
)
def test_a_type_may_be_called_by_its_other_names(name, expected):
    assert parse_type(name) == expected


@pytest.mark.parametrize("name", ["BIGIN", "", "DECIMAL(39,2)", "DECIMAL(2,3)", "DECIMAL"])
def test_an_unknown_type_is_a_usage_error_that_names_others(name):
    with pytest.raises(UsageError, match="no type") as raised:
        parse_type(name)
    assert raised.value.hint
