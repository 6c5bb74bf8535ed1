"""Masks of a chunk as bits, 64 places to a word: what quotes enclose, found without a look at each byte.

The prefix-xor is that of simdjson (Langdale and Lemire, "Parsing Gigabytes of JSON per Second", 3.1.1), with
shifts in place of a carry-less multiplication.
"""

from __future__ import annotations

import sys
from typing import cast

import numpy as np
import numpy.typing as npt

from aiopipe.arrays import Mask

__all__ = ["Words", "count", "earlier", "later", "odd_so_far", "pack", "unpack"]

Words = npt.NDArray[np.uint64]
if sys.byteorder != "little":  # pragma: no cover
    raise ImportError("aiopipe needs a little-endian machine")


def pack(mask: Mask) -> Words:
    """The bits of a mask, lowest first; never no words, and the last one's top bit is free."""
    packed = np.packbits(mask, bitorder="little")
    words = np.zeros(len(mask) // 64 + 1, np.uint64)
    words.view(np.uint8)[: len(packed)] = packed
    return words


def unpack(words: Words, size: int) -> Mask:
    """The first `size` bits as a mask."""
    return np.unpackbits(words.view(np.uint8), count=size, bitorder="little").view(np.bool_)


def later(words: Words) -> Words:
    """Each bit one place later."""
    moved = words << 1
    moved[1:] |= words[:-1] >> 63
    return cast(Words, moved)


def earlier(words: Words) -> Words:
    """Each bit one place earlier."""
    moved = words >> 1
    moved[:-1] |= words[1:] << 63
    return cast(Words, moved)


def odd_so_far(words: Words) -> Words:
    """Set where the number of bits up to and including the place is odd."""
    odd = words.copy()
    for n in (1, 2, 4, 8, 16, 32):
        odd ^= odd << n
    carry = np.bitwise_xor.accumulate(odd >> 63)
    odd[1:] ^= np.negative(carry[:-1])  # all ones where an odd number lies in the words before
    return odd


def count(words: Words) -> int:
    """How many bits are set."""
    return int(np.bitwise_count(words).sum())
