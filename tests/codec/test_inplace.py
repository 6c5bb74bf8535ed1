"""Values converted where they stand are those that a column of text gives."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopipe.codec import digits
from aiopipe.codec.inplace import IN_PLACE, cast_in_place
from aiopipe.codec.types import TYPES, cast

from .csv_bytes import from_pool
from .test_types import odd

NULLS = st.sampled_from([(), ("NA",), ("NA", "7", "x", "12345678"), ("\u0663", "", "-0", "1e5", "NA NA NA NA")])
GAPS = st.sampled_from(["", ",", "x,", "0x", "1234567890"])
SHORT = ["0", "7", "-7", "42", "-42", "999", "1000", "-999", "9999", "12345", "-0", "-007", "0007", "", "NA"]
LONGER = ["1234567", "12345678", "-1234567", "99999999", "-12345678", "123456789", "00000000", "0", "12.5", "-"]
RARE = [
    "-",
    "--1",
    "1-",
    "+1",
    "0x1F",
    "1e5",
    "1.5",
    " 1",
    "9" * 18,
    "x",
    "NA NA NA NA",
    "inf",
    "2024-01-01",
    "/",
    ":",
    "\xb9",
]
several = st.one_of(
    from_pool(odd),
    from_pool(["2024-01-01", "2024-12-31", "NA", ""]),
    from_pool(["2024-01-01 10:00", "1999-12-31 23:59:59.5", ""]),
    from_pool(["2024-01-01 10:00:00Z", "1999-12-31 23:59:59+02:00", ""]),
    from_pool(SHORT),
    from_pool(SHORT + LONGER[:-2]),
    from_pool(SHORT * 6 + RARE),
    st.lists(st.integers(-(10**9), 10**9).map(str), max_size=80),
    st.lists(st.integers(-999, 999).map(str), min_size=64, max_size=200),
)


def laid(values, gap):
    """The values in one piece of data with `gap` around each, and where they begin and end."""
    raw, data, starts = [v.encode() for v in values], gap.encode(), []
    for one in raw:
        starts.append(len(data))
        data += one + gap.encode()
    begin = np.array(starts, np.int64)
    return data, begin, begin + np.array([len(r) for r in raw], np.int64)


@settings(max_examples=1500, deadline=None)
@given(several, st.sampled_from([*IN_PLACE, *TYPES, "DECIMAL(10,2)"]), NULLS, GAPS)
def test_values_are_the_same_as_those_of_a_column_of_text(values, name, nulls, gap):
    data, starts, stops = laid(values, gap)
    found = cast_in_place(pa.py_buffer(data), starts, stops, name, nulls)
    typed, bad = cast(pa.array(values, pa.string()), name, nulls)
    if found is not None:
        found.validate(full=True)
        assert bad is None
        assert found.type == typed.type
        kind = pa.int32() if name == "DATE" else pa.int64()
        assert found.view(kind).to_pylist() == typed.view(kind).to_pylist()  # -0.0 is not 0.0, and a NaN is itself
    elif any(values) and name in IN_PLACE:
        assert bad is not None or {"inf", "nan"} & set(values)


@settings(max_examples=500, deadline=None)
@given(several, st.sampled_from([4, 8]), NULLS, GAPS)
def test_each_field_is_a_number_absent_or_odd(values, size, nulls, gap):
    data, starts, stops = laid(values, gap)
    if len(data) < size:
        return
    tokens = [n.encode() for n in nulls if n]
    found = digits.read(np.frombuffer(data, np.uint8), starts, stops, size, tokens)
    for i, text in enumerate(values):
        raw = text.encode()
        within = int(stops[i]) >= size
        absent = not raw or raw in tokens
        if found.absent[i]:
            assert absent and not found.odd[i]
        elif found.odd[i]:
            plain = text.removeprefix("-")
            assert absent or not (within and len(raw) <= size and plain.isascii() and plain.isdigit())
        else:
            assert within and not absent
            assert (-1 if found.minus[i] else 1) * int(found.numbers[i]) == int(text)
            assert bool(found.minus[i]) == text.startswith("-")


@pytest.mark.parametrize(
    ("values", "size"),
    [
        (["1", "-23", "999"], 4),
        (["1", "123456", "12", "7", "888888"], 8),
        (["1.5", "2.25"], 0),
        (["x"], 0),
        (["123456789"], 0),
    ],
)
def test_a_sample_tells_which_words_suit_a_column(values, size):
    data, starts, stops = laid(values * 40, ",")
    assert digits.suits(np.frombuffer(data, np.uint8), starts, stops, ()) == size


def test_few_odd_fields_among_many_short_numbers_cost_no_other_its_value():
    values = [str(i % 1000 - 500) for i in range(5000)]
    values[17], values[4000], values[4999] = "1e3", "-12345678901", ""
    data, starts, stops = laid(values, ";")
    assert digits.suits(np.frombuffer(data, np.uint8), starts, stops, ()) == 4
    found = cast_in_place(pa.py_buffer(data), starts, stops, "DOUBLE", ())
    assert found.to_pylist() == [float(v) if v else None for v in values]
    assert cast_in_place(pa.py_buffer(data), starts, stops, "BIGINT", ()) is None  # 1e3 is no BIGINT
