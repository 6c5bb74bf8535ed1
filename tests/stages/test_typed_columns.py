"""Columns that one stage has converted are there for the next, and say the same."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopipe import Derive, Filter
from aiopipe.codec.chunk import Chunk, decode
from aiopipe.codec.dialect import Dialect
from aiopipe.codec.types import cast
from aiopipe.stage import Scope
from aiopipe.stages._expressions import evaluated
from tests.codec.csv_bytes import header, segment

COMMA = Dialect()
numbers = st.sampled_from(["", "NA", "1", "-7", "30", "2.5", "1e3", "-0", "x", '"4"'])


def read(rows):
    data = "".join(",".join(row) + "\n" for row in rows).encode()
    return decode(Chunk(data, header(COMMA, 2), COMMA, (segment(),)))


def value(text):
    return None if text in ("", "NA") else float(text.strip('"'))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(numbers, numbers), max_size=12))
def test_a_column_means_the_same_before_and_behind_a_filter(rows):
    batch = read(rows)
    a, b = batch.names
    scope = Scope({a: "DOUBLE", b: "DOUBLE"}, {}, frozenset({"NA"}))
    filtered = Filter(f"{a} > 0").apply(batch, scope)
    derived = Derive(sum=f"{a} + {b}", own=b).apply(filtered, scope)
    good = [(p, q) for p, q in rows if p != "x"]
    kept = [(value(p), q) for p, q in good if (value(p) or 0) > 0]
    known = [(p, value(q)) for p, q in kept if q != "x"]
    expected = [None if q is None else p + q for p, q in known]
    found = derived.values("sum").to_pylist()
    assert [None if v is None else float(v) for v in found] == expected
    assert len(filtered.rejects) == sum(p == "x" for p, _ in rows)
    assert len(derived.rejects) - len(filtered.rejects) == sum(q == "x" for _, q in kept)
    again = Filter(f"{b} >= 0 OR {b} < 0").apply(derived, scope)
    assert len(again) == sum(q is not None for _, q in known)


RAW = [
    '"4"',
    '"4"5',
    '""',
    '"',
    '"""4"""',
    '"-7"',
    '4"',
    "'4'",
    '"NA"',
    '"\u0663"',
    "1.5",
    "",
    "NA",
    "12345678901",
    "caf\u00e9",
    '"2.25"',
]
TOKENS = st.sampled_from([frozenset(), frozenset({"NA"}), frozenset({'"'}), frozenset({"caf\u00e9", "4"})])
DIALECTS = st.builds(
    Dialect, quote=st.sampled_from(['"', "'", "", "4"]), encoding=st.sampled_from(["utf-8", "latin-1"])
)


@settings(max_examples=600, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(RAW), st.sampled_from(RAW[:1] + RAW[5:])), max_size=8), DIALECTS, TOKENS)
def test_fields_in_quotes_and_other_encodings_mean_what_their_text_does(rows, dialect, nulls):
    lines = "".join(f"{a},{b}\n" for a, b in rows)
    try:
        data = lines.encode(dialect.encoding)
    except UnicodeEncodeError:
        return
    batch = decode(Chunk(data, header(dialect, 2), dialect, (segment(),)))
    for name in batch.names:
        for kind in ("BIGINT", "DOUBLE"):
            scope = Scope({name: kind}, {}, nulls)
            typed, bad = cast(batch.values(name), kind, nulls)
            found, [values] = evaluated(batch, scope, "derive", [(name, "text")])
            good = [] if bad is None else bad.tolist()
            expected = [v for v, b in zip(typed.to_pylist(), good or [False] * len(batch), strict=True) if not b]
            made = [None if v is None else float(v) for v in values.to_pylist()]
            assert made == [None if v is None else float(v) for v in expected]
            assert len(found.rejects) - len(batch.rejects) == sum(good)
            again, [values] = evaluated(batch.filter(np.ones(len(batch), np.bool_)), scope, "derive", [(name, "text")])
            assert len(again.rejects) == len(found.rejects)


def test_what_was_converted_for_all_records_is_not_converted_again():
    batch = read([("1", "2"), ("NA", "3"), ("5", "x")])
    a, b = batch.names
    scope = Scope({a: "DOUBLE", b: "DOUBLE"}, {}, frozenset({"NA"}))
    before = batch.nbytes
    filtered = Filter(f"{a} > 1").apply(batch, scope)
    assert batch.nbytes >= before + 3 * 8
    assert [key[:2] for key in batch.body.typed] == [(0, "DOUBLE")]
    quoted = read([('"1"', '"x"'), ("NA", '"y, z"'), ('"5"', "w")])
    assert Filter(f"{a} > 1").apply(quoted, scope).values(b).to_pylist() == ["w"]
    assert [key[:2] for key in quoted.body.typed] == [(0, "DOUBLE")]
    other = Scope({a: "BIGINT", b: "VARCHAR"}, {}, frozenset())
    assert Derive(c=f"{a} * 2").apply(filtered, other).values("c").to_pylist() == ["10"]
    assert Derive(c=f"{a} * 2").apply(filtered, scope).values("c").to_pylist() == ["10.0"]
