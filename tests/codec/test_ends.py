"""Where fields end: counted or listed, the same."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopipe.codec.dialect import Dialect
from aiopipe.codec.index import index
from aiopipe.ends import Counted, Table

COMMA = Dialect()


@st.composite
def rectangles(draw):
    columns = draw(st.integers(1, 30))
    field = st.sampled_from([b"", b"1", b"007", b"a b", b'"x,y"', b'"a\nb"', b"-" * 70, b"z" * 200])
    records = draw(st.lists(st.lists(field, min_size=columns, max_size=columns), min_size=1, max_size=12))
    if columns == 1:
        records = [[f or b"7" for f in r] for r in records]
    end = draw(st.sampled_from([b"\n", b"\r\n"]))
    data = end.join(b",".join(r) for r in records) + draw(st.sampled_from([end, b""]))
    return data, records, columns


@settings(max_examples=400)
@given(rectangles(), st.data())
def test_every_field_is_found_for_all_records_and_for_some(sample, draws):
    data, records, columns = sample
    found = index(data, COMMA, columns)
    assert isinstance(found.ends, Counted)
    assert (found.ends.records, found.ends.columns) == (len(records), columns)
    rows = np.array(sorted(draws.draw(st.sets(st.integers(0, len(records) - 1)))), np.int64)
    fewer = draws.draw(st.integers(0, len(records)))
    asked = draws.draw(st.lists(st.integers(0, columns - 1), max_size=20))
    table = Table(found.ends.table().copy())
    for ends in (index(data, COMMA, columns).ends, pickle.loads(pickle.dumps(found.ends)), table):
        for k in asked:
            for chosen in (None, rows):
                starts, stops = ends.span(k, chosen, found.starts)
                there = range(len(records)) if chosen is None else rows.tolist()
                assert [data[a:b] for a, b in zip(starts, stops, strict=True)] == [records[i][k] for i in there]
                assert ends.of(k, chosen).tolist() == stops.tolist()
        assert ends.head(fewer).table().tolist() == ends.table()[:fewer].tolist()


def test_many_columns_of_all_records_are_listed_once():
    data = b",".join(b"%d" % i for i in range(12)) + b"\n"
    ends = index(data * 3, COMMA, 12).ends
    before = ends.nbytes
    listed = ends.table().tolist() if isinstance(ends, Table) else [ends.of(k, None).tolist() for k in range(12)]
    assert listed == np.flatnonzero(np.isin(np.frombuffer(data * 3, np.uint8), [44, 10])).reshape(3, 12).T.tolist()
    assert ends.nbytes > before


@pytest.mark.parametrize("data", [b"a,b\nc\n", b"a,b\n\nc,d\n", b"a\n\nb\n", b"a,b,c\nd\n"])
def test_records_that_differ_are_told_one_by_one(data):
    assert isinstance(index(data, COMMA, 2 if b"," in data else 1).ends, Table)
