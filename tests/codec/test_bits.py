"""Places as bits say the same as lists of places."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiopipe import bits
from aiopipe.bits import Ranked

sizes = [0, 1, 63, 64, 65, 127, 128, 129, 200]
SPREADS = st.one_of(
    st.sets(st.integers(0, 1000)),  # few
    st.sets(st.integers(0, 300), min_size=200),  # most places of most words
    st.sets(st.sampled_from([0, 1, 62, 63, 64, 127, 128, 959, 960, 1000])),  # at the edges of words
)


def listed(words):
    return np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little")).tolist()


def packed(found, size=1001):
    mask = np.zeros(size, np.bool_)
    mask[sorted(found)] = True
    return bits.pack(mask)


@settings(max_examples=100)
@given(st.sampled_from(sizes), st.integers(0, 2**200 - 1))
@example(64, 2**64 - 1)
@example(128, 1 << 63)
def test_bits_agree_with_masks(size, seed):
    mask = np.array([bool(seed >> i & 1) for i in range(size)], np.bool_)
    words = bits.pack(mask)
    held = np.flatnonzero(mask)
    assert listed(words) == held.tolist()
    assert bits.places(words).tolist() == held.tolist()
    assert bits.count(words) == int(mask.sum())
    assert listed(bits.later(words)) == (held + 1).tolist()
    assert listed(bits.earlier(words)) == (held[held > 0] - 1).tolist()
    odd = listed(bits.odd_so_far(words))
    assert [i for i in odd if i < size] == np.flatnonzero(np.cumsum(mask) % 2 == 1).tolist()


@pytest.mark.parametrize("size", sizes)
def test_the_top_bit_tells_whether_all_bits_together_are_odd(size):
    ones = np.ones(size, np.bool_)
    assert int(bits.odd_so_far(bits.pack(ones))[-1] >> 63) == size % 2


@pytest.mark.parametrize("size", [*sizes, (8 << 20) + 1])
def test_a_byte_is_found_and_the_place_behind_the_data_can_be_marked(size):
    b = np.zeros(size, np.uint8)
    b[size // 2 :: 70] = 44
    words = bits.places_of(b.tobytes(), 44)
    assert listed(words) == np.flatnonzero(b == 44).tolist()
    bits.mark(words, size)
    assert listed(words) == [*np.flatnonzero(b == 44).tolist(), size]


@pytest.mark.parametrize("size", [0, 1, 64, bits._TILE - 1, bits._TILE, bits._TILE + 1, 3 * bits._TILE + 77])
@pytest.mark.parametrize("odd", [b"", b'"', b"\r", b"\0", b"\x80", b"\xff"])
@pytest.mark.parametrize("where", ["first", "last"])
def test_one_scan_finds_what_many_looks_find(size, odd, where):
    data = (b"ab,c\n," * (size // 7 + 1))[:size]
    if size:
        data = odd + data[len(odd) :] if where == "first" else data[: size - len(odd)] + odd
    b = np.frombuffer(data, np.uint8)
    found = bits.scan(data, 44, 34)
    assert listed(found.delimiters) == np.flatnonzero(b == 44).tolist()
    assert listed(found.newlines) == np.flatnonzero(b == 10).tolist()
    assert (found.returns, found.quotes) == (b"\r" in data, b'"' in data)
    assert found.plain == (data.isascii() and b"\0" not in data)
    assert bits.scan(data, 44, None).quotes is False
    for byte in b'",\0':
        assert bits.holds(data, byte) == (bytes([byte]) in data)


@settings(max_examples=300)
@given(SPREADS)
@example(set(range(1001)))
def test_places_rank_and_first_from_agree_with_a_list(found):
    order = sorted(found)
    words = packed(found)
    assert bits.places(words).tolist() == order
    ranked = pickle.loads(pickle.dumps(Ranked(words)))
    assert ranked.total == len(order)
    asked = np.arange(1001)
    assert ranked.rank(asked).tolist() == np.searchsorted(order, asked).tolist()
    if order:
        asked = asked[: order[-1] + 1]
        assert ranked.first_from(asked).tolist() == [order[i] for i in np.searchsorted(order, asked)]


@settings(max_examples=300)
@given(SPREADS, st.data())
def test_select_gives_the_places_with_the_numbers_asked_for(found, data):
    order = sorted(found)
    ranked = Ranked(packed(found))
    numbers = np.array(sorted(data.draw(st.sets(st.integers(0, max(len(order) - 1, 0))))), np.int64)
    if order:
        wanted = np.array([order[i] for i in numbers], np.int64)
        assert ranked.some(numbers).tolist() == wanted.tolist()
        for before in (0, 1, 63, 64, 400, 1001):
            assert ranked.some(numbers, np.maximum(wanted - before, 0)).tolist() == wanted.tolist()
    step = data.draw(st.integers(1, 40))
    first = data.draw(st.integers(0, step - 1))
    most = max(0, -(-(len(order) - first) // step))
    number = data.draw(st.integers(0, most))
    assert ranked.every(first, step, number).tolist() == order[first::step][:number]


@settings(max_examples=300)
@given(SPREADS, st.sets(st.integers(0, 1000)), st.integers(0, 70))
@example(set(range(1001)), set(range(0, 900, 7)), 64)
@example({0, 63, 64, 127, 128}, {0, 1, 63, 64}, 1)
def test_what_is_near_is_a_word_of_its_own(found, asked, number):
    order = sorted(found)
    # No more may be asked for than there is from there on.
    at = np.array([a for a in sorted(asked) if sum(f >= a for f in order) >= number], np.int64)
    near = Ranked(packed(found)).near(at, number)
    held, perhaps = ([sum(a <= f < a + n for f in order) >= number for a in at.tolist()] for n in (57, 64))
    if near is None:
        assert len(at) > 0 and not all(held)
        return
    assert len(at) > 64 or 4 * sum(perhaps) >= 3 * len(perhaps)
    for k in range(number):
        offsets = bits.lowest(bits.without_lowest(near.copy(), k)).tolist()
        for a, offset, enough in zip(at.tolist(), offsets, held, strict=True):
            if enough or offset < 64:
                assert a + offset == [f for f in order if f >= a][k]


@pytest.mark.parametrize("number", range(66))
def test_lowest_bits_go_one_after_the_other(number):
    words = np.array([0, 1, 1 << 63, (1 << 64) - 1, 0xF0F0], np.uint64)
    assert bits.lowest(words).tolist() == [64, 0, 63, 0, 4]
    kept = [[i for i in range(64) if int(w) >> i & 1][number:] for w in words]
    assert bits.without_lowest(words, number).tolist() == [sum(1 << i for i in k) for k in kept]
