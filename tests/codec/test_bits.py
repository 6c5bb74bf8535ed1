"""Masks as bits say the same as masks of bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiopipe.codec import bits

sizes = [0, 1, 63, 64, 65, 127, 128, 129, 200]


@settings(max_examples=100)
@given(st.sampled_from(sizes), st.integers(0, 2**200 - 1))
@example(64, 2**64 - 1)
@example(128, 1 << 63)
def test_bits_agree_with_masks(size, seed):
    mask = np.array([bool(seed >> i & 1) for i in range(size)], np.bool_)
    words = bits.pack(mask)
    assert bits.unpack(words, size).tolist() == mask.tolist()
    assert bits.count(words) == int(mask.sum())
    assert bits.unpack(bits.later(words), size + 1).tolist() == [False, *mask.tolist()]
    assert bits.unpack(bits.earlier(words), size).tolist() == [*mask[1:].tolist(), False][:size]
    assert bits.unpack(bits.odd_so_far(words), size).tolist() == (np.cumsum(mask) % 2 == 1).tolist()


@pytest.mark.parametrize("size", sizes)
def test_the_top_bit_tells_whether_all_bits_together_are_odd(size):
    ones = np.ones(size, np.bool_)
    assert int(bits.odd_so_far(bits.pack(ones))[-1] >> 63) == size % 2
