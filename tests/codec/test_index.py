"""Three ways to look, one answer: the index, the precise path, a state machine by hand, Python's csv."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings

from aiopipe.codec import precise
from aiopipe.codec.chunk import Chunk, decode
from aiopipe.codec.dialect import Dialect
from aiopipe.codec.index import index, index_precisely

from .csv_bytes import Sample, by_csv, by_hand, header, samples, segment

COMMA = Dialect()
HARMFUL = [
    b"",
    b"\n",
    b"\r",
    b'""\n',
    b'""',
    b'"',
    b'a,"b\rc"\n',
    b'a,b\r"c",d\n',
    b'"a\r"\r\nb,c\n',
    b'a,"\r',
    b"a,b\n\r\n\r\nc,d",
    b'"a""b","c"""\n"""","d"\n',
    b'"a"""b",c\n',
    b'"a\n',
    b"a,\r\n,\r\n",
    b"a,b\n\r",
    b'1,"x\n\xff"\n',
]


def every_harm(test):
    for data in HARMFUL:
        for columns in (1, 2):
            test = example(Sample(data, COMMA, columns))(test)
    return test


@every_harm
@settings(max_examples=800)
@given(samples())
def test_the_index_and_the_precise_path_agree_on_every_input(sample):
    fast, slow = index(*sample), index_precisely(*sample)
    assert fast.starts.tolist() == slow.starts.tolist()
    assert fast.ends.table().tolist() == slow.ends.table().tolist()
    assert fast.stops.tolist() == slow.stops.tolist()
    numbers = np.arange(len(fast.starts)) if fast.numbers is None else fast.numbers
    assert numbers.tolist() == slow.numbers.tolist()
    assert (fast.bad, fast.records, fast.lines, fast.quoted) == (
        slow.bad,
        slow.records,
        slow.lines,
        slow.quoted,
    )
    assert fast.ends.table().shape == (len(fast.starts), sample.columns)


@every_harm
@settings(max_examples=250)
@given(samples())
def test_the_precise_path_reads_as_a_state_machine_by_hand_does(sample):
    data, dialect, _ = sample
    mine = []
    for r in precise.records(data, dialect):
        edges = [r.start, *[e + 1 for e in r.ends]]
        mine.append((r.start, r.stop, [data[a:b] for a, b in zip(edges, r.ends, strict=False)], r.unclosed >= 0))
    assert mine == [(r.start, r.stop, r.fields, r.unclosed) for r in by_hand(data, dialect)]


@every_harm
@settings(max_examples=600)
@given(samples())
def test_good_records_have_the_values_that_pythons_csv_reads(sample):
    data, dialect, columns = sample
    batch = decode(Chunk(data, header(dialect, columns), dialect, (segment(),)))
    values = [batch.values(n).to_pylist() for n in batch.names]
    lines = [r for r in by_hand(data, dialect) if len(r.fields) == columns and not r.unclosed]
    good = [r for r in lines if valid(data[r.start : r.stop])]
    assert [list(v) for v in zip(*values, strict=True)] == [[v.decode() for v in r.values] for r in good]
    if valid(data):  # with csv itself, where the whole file is text
        rows = [
            row for row, r in zip(by_csv(data.decode(), dialect), by_hand(data, dialect), strict=True) if not r.unclosed
        ]
        assert [list(v) for v in zip(*values, strict=True)] == [row for row in rows if len(row) == columns]


def valid(data: bytes) -> bool:
    """Text without NUL."""
    return b"\0" not in data and data.decode("utf-8", "replace").encode() == data


@settings(max_examples=300)
@given(samples(sane=True))
def test_sane_files_have_no_bad_record_and_never_need_the_precise_path(sample):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precise, "records", None)
        found = index(*sample)
    assert not found.bad
    assert found.records == len(by_csv(sample.data.decode(), sample.dialect))


@pytest.mark.parametrize("byte", [b"\xff", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"])
def test_what_python_does_not_decode_is_no_utf8_here_either(byte):
    found = index(b"a,b\nx" + byte + b",y\nc,d\n", COMMA, 2)
    assert [(b.number, b.start) for b in found.bad] == [(1, 4)]
    assert found.bad[0].reason == f"byte 0x{byte[0]:02X} is not valid UTF-8"
    assert found.starts.tolist() == [0, 8 + len(byte)]


def test_a_record_over_the_limit_is_set_aside_and_its_neighbours_are_not():
    found = index(b"a\n" + b"x" * 20 + b"\nb\n", Dialect(max_record=16), 1)
    assert [b.reason for b in found.bad] == ["a record of 21 bytes, over the limit of 16"]
    assert found.starts.tolist() == [0, 23]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"a,b,c\n", "3 fields, header has 2"),
        (b"a\n", "1 field, header has 2"),
        (b'a,"b\n', "a quote is opened and never closed"),
        (b"a,\0\n", "a NUL byte"),
    ],
)
def test_a_bad_record_says_why(data, reason):
    assert [b.reason for b in index(data, COMMA, 2).bad] == [reason]
