"""Fields as typed values from where they stand in the data, without a column of text first."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from aiopipe import kernels as pc
from aiopipe.arrays import Bytes, Ints, Mask, mask_array
from aiopipe.codec import digits
from aiopipe.codec.types import arrow_type

__all__ = ["IN_PLACE", "cast_in_place"]

# The types it makes, with the numpy type that is as wide.
IN_PLACE: dict[str, Any] = {
    "BIGINT": np.int64,
    "DOUBLE": np.float64,
    "DATE": np.int32,
    "TIMESTAMP": np.int64,
    "TIMESTAMPTZ": np.int64,
}


class _Fields(NamedTuple):
    """The fields data[starts[i]:stops[i]], and the tokens that mean "no value"."""

    data: pa.Buffer
    b: Bytes
    starts: Ints
    stops: Ints
    nulls: tuple[bytes, ...]

    def some(self, places: Ints) -> _Fields:
        """Some of them, in order."""
        return self._replace(starts=self.starts[places], stops=self.stops[places])


class _Made(NamedTuple):
    """Values, anything where there is none, and where there are some."""

    values: Any
    there: Mask


def cast_in_place(data: pa.Buffer, starts: Ints, stops: Ints, type_name: str, nulls: Collection[str]) -> Any | None:
    """The values data[starts[i]:stops[i]] as `codec.types.cast` gives them; starts and stops do not decrease.

    None where one does not fit, and for types other than IN_PLACE: `cast` knows more.
    """
    if type_name not in IN_PLACE or not len(starts) or not data.size:
        return None
    tokens = tuple(token.encode() for token in nulls if token)
    fields = _Fields(data, np.frombuffer(data, np.uint8), starts, stops, tokens)
    made = _by_digits(fields, type_name) if type_name in ("BIGINT", "DOUBLE") else None
    made = made or _by_arrow(fields, type_name)
    if made is None:
        return None
    known = None if made.there.all() else mask_array(made.there).buffers()[1]
    return pa.Array.from_buffers(arrow_type(type_name), len(starts), [known, pa.py_buffer(made.values)])


def _by_digits(fields: _Fields, type_name: str) -> _Made | None:
    """Numbers of which nearly all are short and whole; the others are Arrow's. None: they are not such numbers."""
    _, b, starts, stops, tokens = fields
    size = digits.suits(b, starts, stops, tokens)
    if not size:
        return None
    numbers, minus, absent, odd = digits.read(b, starts, stops, size, tokens)
    values = numbers.astype(IN_PLACE[type_name])
    if type_name == "DOUBLE":
        sign = minus.astype(np.uint64)
        sign <<= np.uint64(63)
        bits = values.view(np.uint64)
        bits ^= sign  # -0 is another number than 0
    else:
        sign = np.negative(minus.astype(np.int64))
        values ^= sign
        values -= sign
    there = ~absent
    others = np.flatnonzero(odd)
    if len(others):
        made = _by_arrow(fields.some(others), type_name)
        if made is None:
            return None
        values[others], there[others] = made
    return _Made(values, there)


def _by_arrow(fields: _Fields, type_name: str) -> _Made | None:
    """Nothing is gathered: Arrow converts one array of values and the gaps between them, the gaps being NULL."""
    data, _, starts, stops, _ = fields
    n, kind = len(starts), arrow_type(type_name)
    if type_name == "BIGINT" and _hexadecimal(fields):
        return None
    there = ~_absent(fields)
    offsets = np.empty(2 * n + 1, np.int32)
    offsets[0:-1:2] = starts
    offsets[1::2] = stops
    offsets[-1] = stops[-1]
    values = np.zeros(2 * n, np.bool_)
    values[::2] = there
    bits = mask_array(values).buffers()[1]
    both = pa.Array.from_buffers(pa.string(), 2 * n, [bits, pa.py_buffer(offsets), data])
    try:
        typed = pc.cast(both, kind)
    except pa.ArrowInvalid:
        return None
    if type_name == "DOUBLE" and pc.any(pc.is_inf(typed)).as_py():
        return None  # written so, or out of range
    return _Made(np.frombuffer(typed.buffers()[1], IN_PLACE[type_name], 2 * n)[::2].copy(), there)


def _absent(fields: _Fields) -> Mask:
    """Which fields are empty, or null tokens."""
    _, b, starts, stops, tokens = fields
    lengths = stops - starts
    gone: Mask = lengths == 0
    for token in tokens:
        alike = np.flatnonzero(lengths == len(token))
        for i, byte in enumerate(token):  # nearly all are told apart by the first
            alike = alike[b[starts[alike] + i] == byte]
        gone[alike] = True
    return gone


def _hexadecimal(fields: _Fields) -> bool:
    """Whether a field might be such as 0x1F, which Arrow reads as 31; a CSV's number is decimal."""
    seconds = np.take(fields.b, fields.starts + 1, mode="clip")
    seconds |= 32
    marked = seconds == ord("x")
    return bool(marked.any()) and bool((marked & (fields.stops - fields.starts > 2)).any())
