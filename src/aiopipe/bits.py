"""Places in a block of bytes as bits, 64 to a word: sets of places that cost an eighth of a byte each.

Three things are read off the words without a list of all places: what quotes enclose (`odd_so_far`), how many
places lie up to one of them (rank), and where the k-th one is (select). The prefix-xor is that of simdjson
(Langdale and Lemire, "Parsing Gigabytes of JSON per Second", 3.1.1), with shifts in place of a carry-less
multiplication; select in a word is Vigna's ("Broadword implementation of rank/select queries", 2008).
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from typing import Any, cast

import numpy as np

from aiopipe.arrays import Bytes, Ints, Mask, Words
from aiopipe.tuples import NamedTuple

__all__ = [
    "SAMPLE",
    "Ranked",
    "Scan",
    "Words",
    "count",
    "earlier",
    "enough",
    "holds",
    "later",
    "lowest",
    "mark",
    "odd_so_far",
    "pack",
    "places",
    "places_of",
    "scan",
    "without_lowest",
]

if sys.byteorder != "little":  # pragma: no cover
    raise ImportError("aiopipe needs a little-endian machine")

# Bytes looked at together: they and their mask stay in a core's own cache from one look to the next.
_TILE = 256 << 10


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.masks = np.empty((2, _TILE), np.bool_)


_scratch = _Scratch()
_memchr: Any = None
if os.name == "posix":
    _memchr = ctypes.CDLL(None).memchr
    _memchr.argtypes, _memchr.restype = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t), ctypes.c_void_p


def holds(data: bytes, byte: int) -> bool:
    """Whether `byte` stands in `data`. The C library's own search, for `in` would keep the GIL all the while."""
    if _memchr is None or len(data) < _TILE:
        return byte in data
    return _memchr(data, byte, len(data)) is not None


class Scan(NamedTuple):
    """What one look at a block finds: where delimiters and line feeds stand, and what stands there at all.

    returns, quotes: whether there are such bytes. plain: neither NUL nor any byte beyond ASCII.
    """

    delimiters: Words
    newlines: Words
    returns: bool
    quotes: bool
    plain: bool


def scan(data: bytes, delimiter: int, quote: int | None) -> Scan:
    """Look at a block, tile after tile, so that each byte comes from memory once."""
    size = len(data)
    b = np.frombuffer(data, np.uint8)
    signed = b.view(np.int8)
    words = _words(size, 2)
    returns = quotes = False
    least = 1
    # Few calls, and large ones: at each of them another thread may take the GIL, and must be waited for.
    for start in range(0, size, _TILE):
        stop = min(start + _TILE, size)
        tile, masks = b[start:stop], _scratch.masks[:, : stop - start]
        np.equal(tile, delimiter, out=masks[0])
        np.equal(tile, 10, out=masks[1])
        _put(words, start, masks)
        least = min(least, int(signed[start:stop].min()))
        returns = returns or data.find(13, start, stop) >= 0
        quotes = quotes or (quote is not None and data.find(quote, start, stop) >= 0)
    return Scan(words[0], words[1], returns, quotes, least > 0)


def places_of(data: bytes, byte: int) -> Words:
    """Where `byte` stands, lowest bit first. There is always a bit to spare, for the place len(data)."""
    b = np.frombuffer(data, np.uint8)
    words = _words(len(b), 1)
    for start in range(0, len(b), _TILE):
        tile = b[start : start + _TILE]
        masks = _scratch.masks[:1, : len(tile)]
        np.equal(tile, byte, out=masks[0])
        _put(words, start, masks)
    found: Words = words[0]
    return found


def _words(size: int, rows: int) -> Words:
    words = np.empty((rows, size // 64 + 1), np.uint64)
    words[:, -1] = 0
    return words


def _put(words: Words, start: int, masks: Mask) -> None:
    """Masks as bits, from place `start` on, which is a multiple of 8."""
    packed = np.packbits(masks, axis=1, bitorder="little")
    words.view(np.uint8)[:, start >> 3 : (start >> 3) + packed.shape[1]] = packed


def pack(mask: Mask) -> Words:
    """The bits of a mask, lowest first; one to spare, so never no words."""
    words = _words(len(mask), 1)
    _put(words, 0, mask.reshape(1, -1))
    found: Words = words[0]
    return found


def mark(words: Words, place: int) -> None:
    """Add a place."""
    words[place >> 6] |= np.uint64(1 << (place & 63))


def places(words: Words) -> Ints:
    """All places in order."""
    at = np.flatnonzero(words != 0)
    left = words[at]
    numbers = np.bitwise_count(left)
    if int(numbers.max(initial=0)) > _CROWDED:
        return np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little").view(np.bool_))
    found, left = _first_of(at, left)
    more = np.flatnonzero(left)
    if not len(more):
        return found
    # The first of each word, then the second of those that have two, and so on.
    slots: Ints = np.cumsum(numbers, dtype=np.int64)
    result = np.empty(int(slots[-1]), np.int64)
    slots -= numbers
    result[slots] = found
    while len(more):
        at, left, slots = at[more], left[more], slots[more] + 1
        result[slots], left = _first_of(at, left)
        more = np.flatnonzero(left)
    return result


_CROWDED = 12  # places in a word, from where on a list of all of them is quicker made byte by byte


def _first_of(at: Ints, left: Words) -> tuple[Ints, Words]:
    """The first place of each of the words numbered `at`, whose bits are `left`; and the bits without it."""
    below = left - _ONE
    left = left & below
    below &= ~left
    # What is set in `below` now is what lies below the first place, as many bits as that has places before it.
    found = at << 6
    found += np.bitwise_count(below)
    return found, left


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


class Ranked:
    """Words with the number of places before each of them: rank and select in a few operations a place."""

    __slots__ = ("before", "through", "total", "words")

    def __init__(self, words: Words) -> None:
        numbers = np.bitwise_count(words)
        self.words = words
        self.through = np.cumsum(numbers, dtype=np.int32)  # a block has less than 2 GiB
        self.before = self.through - numbers
        self.total = int(self.through[-1])

    def __reduce__(self) -> tuple[object, ...]:
        return (Ranked, (self.words,))

    @property
    def nbytes(self) -> int:
        """Bytes it keeps alive."""
        return 2 * self.words.nbytes

    def rank(self, at: Ints) -> Ints:
        """How many places lie before each of `at`."""
        word = at >> 6
        below = (at & 63).view(np.uint64)
        np.left_shift(_ONE, below, out=below)
        below -= _ONE
        below &= self.words[word]
        found: Ints = self.before[word]
        found += np.bitwise_count(below)
        return found

    def every(self, first: int, step: int, number: int) -> Ints:
        """The places numbered first, first + step, ..., `number` of them; numbers count from 0."""
        # How many of the wanted lie up to the end of each word is a division: no search.
        upto = (self.through + (step - 1 - first)) // step
        upto[1:] -= upto[:-1].copy()
        word = np.repeat(np.arange(len(upto)), upto)[:number]
        return self._select(word, np.arange(first, first + number * step, step))

    def some(self, numbers: Ints, near: Ints | None = None) -> Ints:
        """The places with these numbers, which count from 0.

        near: places not far before them, from where they are looked for; a search through all words takes thrice
        as long.
        """
        if near is None:
            return self._select(np.searchsorted(self.through, numbers, side="right"), numbers)
        word = near >> 6
        for _ in range(_STEPS):
            short = self.through[word] <= numbers
            if not short.any():
                return self._select(word, numbers)
            word += short
        return self.some(numbers)

    def near(self, at: Ints, number: int) -> Words | None:
        """From each of `at` on, 57 places or more as a word of their own; None where most have fewer than `number`.

        There must be so many at all; `at` does not decrease. A place found so costs a third of what select takes.
        """
        return self._from(at) if enough(self._from(at[:: len(at) // SAMPLE + 1]), number) else None

    def _from(self, at: Ints) -> Words:
        last = 8 * (len(self.words) - 1)
        byte = at >> 3
        if len(byte) and byte[-1] > last:
            np.minimum(byte, last, out=byte)
        passed = (at - (byte << 3)).view(np.uint64)
        # Words that begin at any byte: one look, where the two words that a place lies in would be two.
        found: Words = np.ndarray((last + 1,), np.uint64, self.words, strides=(1,))[byte]
        found >>= passed
        return found

    def _select(self, word: Ints, numbers: Ints) -> Ints:
        wanted = (numbers - self.before[word]).view(np.uint64)
        found: Ints = (word << 6) + _select_in(self.words[word], wanted)
        return found

    def first_from(self, at: Ints) -> Ints:
        """The first place at or behind each of `at`; there must be one."""
        word = at >> 6
        left = self.words[word] & (_ALL << (at & 63).view(np.uint64))
        found: Ints = (word << 6) + lowest(left)
        missing = np.flatnonzero(left == 0)
        if len(missing):
            word = word[missing] + 1
            left = self.words[word]
            if not left.all():  # further than one word away
                word = np.searchsorted(self.through, self.before[word], side="right")
                left = self.words[word]
            found[missing] = (word << 6) + lowest(left)
        return found


_STEPS = 8  # words to walk before a search is quicker
SAMPLE = 64  # places that tell whether those asked for are near
_ONE, _ALL = np.uint64(1), np.uint64(2**64 - 1)
_PAIRS, _FOURS, _BYTES = (np.uint64(int(h * (16 // len(h)), 16)) for h in ("55", "33", "0f"))
_EACH, _TOPS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)


def enough(sample: Words, number: int) -> bool:
    """Whether most words have so many places."""
    return bool(4 * np.count_nonzero(np.bitwise_count(sample) >= number) >= 3 * len(sample))


def lowest(words: Words) -> Bytes:
    """The number of each word's lowest bit; 64 where none is set."""
    below = words - _ONE
    below &= ~words
    return cast(Bytes, np.bitwise_count(below))


def without_lowest(words: Words, number: int) -> Words:
    """The words without their `number` lowest bits. Changes them in place."""
    below = np.empty_like(words)
    for _ in range(number):
        np.subtract(words, _ONE, out=below)
        words &= below
    return words


def _select_in(words: Words, wanted: Words) -> Ints:
    """The number of the bit of each word that has `wanted` bits below it."""
    sums = words - ((words >> 1) & _PAIRS)
    sums = (sums & _FOURS) + ((sums >> 2) & _FOURS)
    sums = ((sums + (sums >> 4)) & _BYTES) * _EACH  # in each byte: the bits up to and including it
    # Bytes that end before the wanted bit; each adds 8 to its place.
    shift = np.bitwise_count(((wanted * _EACH | _TOPS) - sums) & _TOPS).astype(np.uint64) << 3
    inside = wanted - (((sums << 8) >> shift) & 0xFF)
    byte = (words >> shift) & 0xFF
    found: Ints = (shift + _IN_BYTE[(byte << 3 | inside).view(np.int64)]).view(np.int64)
    return found


def _table() -> Bytes:
    """For each byte and k: the number of its bit that has k bits below it."""
    table = np.zeros((256, 8), np.uint8)
    for byte in range(256):
        for k, bit in enumerate(i for i in range(8) if byte >> i & 1):
            table[byte, k] = bit
    return table.reshape(-1)


_IN_BYTE = _table()
