"""Short whole numbers read where they stand, all of a column at once: a third of the time that text takes.

A field's bytes become a word with the last of them on top, and neighbours are added up in steps: digits to pairs,
pairs to fours, fours to eights (Lemire, "Quickly parsing eight digits", 2018). What is no whole number, or longer
than a word, is told apart and left to whoever asked.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any

import numpy as np

from aiopipe.arrays import Bytes, Ints, Mask
from aiopipe.tuples import NamedTuple

__all__ = ["Read", "read", "suits"]

_SAMPLE = 24  # fields that tell whether a column is of such numbers


class Read(NamedTuple):
    """numbers: the values, anything where there is none. minus: whose text has a minus (-0 is one).

    absent: empty fields and null tokens. odd: neither number nor absent, as far as can be told here.
    """

    numbers: Any
    minus: Mask
    absent: Mask
    odd: Mask


def suits(b: Bytes, starts: Ints, stops: Ints, nulls: Collection[bytes]) -> int:
    """The bytes of the words that nearly all fields b[starts[i]:stops[i]] fit, 4 or 8; 0 where they do not."""
    step = len(starts) // _SAMPLE + 1
    longest = []
    for start, stop in zip(starts[::step].tolist(), stops[::step].tolist(), strict=True):
        text = b[start : min(stop, start + 9)].tobytes()
        if text and text not in nulls:
            longest.append(len(text) if text.removeprefix(b"-").isdigit() else 9)
    longest.sort()
    most = longest[-1 - len(longest) // 8] if longest else 9
    return 4 if most <= 4 and len(b) > 4 else 8 if most <= 8 and len(b) > 8 else 0


def read(b: Bytes, starts: Ints, stops: Ints, size: int, nulls: Collection[bytes]) -> Read:
    """The fields as numbers; starts and stops do not decrease, and b holds a word of `size` bytes, 4 or 8."""
    kind: Any = np.uint32 if size == 4 else np.uint64
    early = int(np.searchsorted(stops, size))  # no whole word before their ends
    text = _words(b, stops, kind, early)
    length = stops - starts
    fits = length <= size
    fits[:early] = False
    # What stands before a field goes out below; what is left has its first byte lowest, and nothing above its last.
    unused = length.astype(kind)
    np.subtract(kind(size), unused, out=unused)
    unused <<= kind(3)
    text >>= unused
    absent: Mask = length == 0
    for token in nulls:
        if 0 < len(token) <= size:
            alike = text == kind(int.from_bytes(token, "little"))
            if alike.any():
                absent |= alike & fits & (length == len(token))
    minus: Mask = (text & kind(255)) == 45
    odd: Mask = minus & (length == 1)
    text += minus.astype(kind) * kind(ord("0") - ord("-"))
    # The other way round: the last byte on top, and 0 for what is not there.
    text <<= unused
    text ^= np.left_shift(_each(0x30, kind), unused)
    other = text + _each(0x76, kind)
    other |= text
    other &= _each(0x80, kind)
    odd |= other != 0
    odd |= ~fits
    odd &= ~absent
    for digits in (1, 2, 4)[: size.bit_length() - 1]:
        np.right_shift(text, kind(8 * digits), out=other)
        text *= kind(10**digits)
        text += other
        text &= _each((1 << 8 * digits) - 1, kind, 16 * digits)
    return Read(text, minus, absent, odd)


def _words(b: Bytes, stops: Ints, kind: Any, early: int) -> Any:
    """The word of bytes before each of `stops`, which need not stand where words do; anything for the `early` first."""
    size = np.dtype(kind).itemsize
    at = stops - size
    at[:early] = 0
    return np.ndarray((len(b) - size + 1,), kind, b, strides=(1,))[at]


@lru_cache(maxsize=64)
def _each(value: int, kind: Any, width: int = 8) -> Any:
    """A word with `value` in every `width` bits."""
    size = 8 * np.dtype(kind).itemsize
    return kind(sum(value << at for at in range(0, size, width)))
