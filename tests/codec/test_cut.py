"""However a file is cut into blocks, the chunks hold its records whole, in order, byte for byte."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopipe.codec import cut as cut_module
from aiopipe.codec import precise
from aiopipe.codec.cut import Cutter, clean_quotes
from aiopipe.codec.dialect import Dialect
from aiopipe.errors import RecordError

from .csv_bytes import by_hand, samples

COMMA = Dialect()


def cut(blocks: list[bytes], dialect: Dialect = COMMA) -> list[bytes]:
    cutter = Cutter(dialect)
    return [*[cutter.feed(b) for b in blocks], cutter.finish()]


def blocks_of(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def raw_records(data: bytes, dialect: Dialect) -> list[bytes]:
    return [data[r.start : r.stop] for r in by_hand(data, dialect)]


@settings(max_examples=600)
@given(samples(), st.sets(st.integers(0, 200)))
def test_any_split_into_blocks_gives_the_same_records(sample, places):
    data, dialect, _ = sample
    edges = sorted({0, len(data), *(p for p in places if p < len(data))})
    chunks = cut([data[a:b] for a, b in pairwise(edges)], dialect)
    assert b"".join(chunks) == data
    assert [r for c in chunks for r in raw_records(c, dialect)] == raw_records(data, dialect)


@settings(max_examples=300)
@given(samples(), st.integers(1, 7))
def test_blocks_of_a_few_bytes_give_the_same_records(sample, size):
    data, dialect, _ = sample
    chunks = cut(blocks_of(data, size), dialect)
    assert b"".join(chunks) == data
    assert [r for c in chunks for r in raw_records(c, dialect)] == raw_records(data, dialect)


@pytest.mark.parametrize("data", [b"a,b\rc,d\r" * 9, b'"a\n",b\rc,d\r' * 9, b"\r" * 99, b'a"b,c\r' * 9])
def test_files_with_cr_alone_are_cut_and_do_not_pile_up(data):
    chunks = cut(blocks_of(data, 10), Dialect(max_record=40))
    assert b"".join(chunks) == data
    assert max(map(len, chunks)) <= 50


def test_a_cr_at_the_end_of_a_block_waits_for_its_line_feed():
    assert cut([b"a,b\r", b"\nc,d\r", b"\n"]) == [b"", b"a,b\r\n", b"c,d\r\n", b""]


def test_a_cut_is_made_after_the_last_line_feed_that_is_not_in_quotes():
    assert cut([b'a\n"b\nc', b'\nd"\ne']) == [b"a\n", b'"b\nc\nd"\n', b"e"]


def test_stray_quotes_do_not_shift_what_is_inside():
    data = b'5" pipe,1\n6" pipe,2\n"x\ny",3\n'
    for size in range(1, len(data) + 1):
        chunks = cut(blocks_of(data, size))
        assert [r for c in chunks for r in raw_records(c, COMMA)] == raw_records(data, COMMA)


@pytest.mark.parametrize("data", [b"x" * 500, b'"' + b"x\n" * 250, b'a"b' + b"x" * 500, b'"a""' * 125])
@pytest.mark.parametrize("size", [1, 7, 60, 100])
def test_a_record_over_the_limit_is_an_error_before_it_fills_the_memory(data, size):
    cutter = Cutter(Dialect(max_record=100))
    fed = 0
    with pytest.raises(RecordError, match="longer than 100 bytes"):
        for block in blocks_of(data, size):
            fed += len(block)
            assert cutter.feed(block) == b""
    assert fed <= 100 + size


def test_records_before_one_over_the_limit_still_come_out():
    cutter = Cutter(Dialect(max_record=16))
    assert cutter.feed(b"a\nb\n" + b"x" * 20) == b"a\nb\n"
    with pytest.raises(RecordError):
        cutter.feed(b"x")


@pytest.mark.parametrize("filler", [b"x" * 63 + b"\n", b'"" ""\n' * 10, b'""\r""\n' * 10, b'a"b\n' * 16])
def test_a_long_record_in_small_blocks_takes_linear_work(filler, monkeypatch):
    looked = 0

    def counting(look):
        def counted(data, *args, **options):
            nonlocal looked
            looked += len(data)
            return look(data, *args, **options)

        return counted

    monkeypatch.setattr(cut_module, "clean_quotes", counting(clean_quotes))
    monkeypatch.setattr(precise, "last_end", counting(precise.last_end))
    blocks = [b'"' + filler, *[filler] * 2000]
    chunks = cut(blocks)
    assert b"".join(chunks) == b"".join(blocks)
    assert looked < 10 * sum(map(len, blocks))


@settings(max_examples=250)
@given(samples())
def test_quotes_called_clean_tell_inside_from_outside_by_their_number(sample):
    data, dialect, _ = sample
    if dialect.quote and clean_quotes(data, dialect):
        mark = dialect.quote.encode()
        for record in precise.records(data, dialect, final=False):
            assert data.count(mark, 0, record.stop) % 2 == 0
            assert all(data.count(mark, 0, end) % 2 == 0 for end in record.ends)


@settings(max_examples=250)
@given(samples())
def test_the_last_end_is_the_last_place_where_a_record_could_begin(sample):
    data, dialect, _ = sample
    places = [
        at
        for at in range(1, len(data) + 1)
        if data[at - 1] in b"\r\n"
        and by_hand(data[:at] + b"x", dialect)[-1].start == at
        and not (data[at - 1] == 13 and data[at : at + 1] in (b"\n", b""))
    ]
    assert precise.last_end(data, dialect) == max(places, default=0)


def test_no_more_than_the_waiting_record_is_held():
    cutter = Cutter(COMMA)
    cutter.feed(b'a"b\n' * 1000 + b"rest")
    assert cutter.finish() == b"rest"


@pytest.mark.parametrize(
    ("before", "block", "quick"),
    [
        (b"", b"1,2\n3", True),
        (b"1,", b"2\n3", True),
        (b"", b'1,"2"\n', False),  # quotes must be looked at
        (b'1,"', b"2\n3", False),  # inside a quoted field
        (b"", b"1,2\r3,4\r", False),  # lone CRs take the precise path
        (b"x" * 100_000, b"y\n", False),  # much to join
    ],
)
def test_only_blocks_that_are_cut_at_once_are_called_quick(before, block, quick):
    cutter = Cutter(Dialect())
    if before:
        cutter.feed(before)
    assert cutter.is_quick(block) is quick
