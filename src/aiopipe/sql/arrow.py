"""Between Arrow and Python without pandas.

Where pandas is installed, pyarrow 26 imports it (0.5 to 0.9 s) at the first `pa.scalar`, `pa.array` or
`to_numpy`, with or without a type. Arrays laid over buffers, as here, do not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aiopipe.arrays import Mask

__all__ = ["double", "doubles", "indices", "integer", "joined", "mask", "null", "string", "strings", "valid"]


def mask(bits: Any) -> Any:
    """numpy booleans as an Arrow boolean array."""
    return pa.Array.from_buffers(pa.bool_(), len(bits), [None, _bitmap(bits)])


def indices(places: Any) -> Any:
    """Whole numbers from numpy as an Arrow array; a negative one is NULL, and takes NULL."""
    places = np.ascontiguousarray(places, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(places), [_bitmap(places >= 0), pa.py_buffer(places)])


def strings(values: list[str]) -> Any:
    """Python strings as an Arrow array."""
    encoded = [value.encode() for value in values]
    offsets: Any = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum([len(value) for value in encoded], out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def string(value: str) -> Any:
    """A VARCHAR scalar."""
    return strings([value])[0]


def integer(value: int) -> Any:
    """A BIGINT scalar."""
    return _one(pa.int64(), np.array([value], np.int64))


def double(value: float) -> Any:
    """A DOUBLE scalar."""
    return _one(pa.float64(), np.array([value], np.float64))


def null(kind: Any) -> Any:
    """The NULL of a type."""
    return pa.nulls(1, kind)[0]


def valid(values: Any) -> Mask:
    """Where an Arrow array has values."""
    known = pc.is_valid(values)
    packed = np.frombuffer(known.buffers()[1], np.uint8)
    bits = np.unpackbits(packed, count=known.offset + len(known), bitorder="little")
    return bits[known.offset :].astype(np.bool_)


def doubles(values: Any) -> Any:
    """A DOUBLE array as numpy numbers; NULL is NaN."""
    data = values.buffers()[1]
    if data is None or not len(values):
        return np.full(len(values), np.nan)
    numbers = np.frombuffer(data, np.float64, len(values), values.offset * 8)
    return np.where(valid(values), numbers, np.nan) if values.null_count else numbers


def joined(array: Any) -> Any:
    """A chunked array as one array; an array as it is."""
    if not isinstance(array, pa.ChunkedArray):
        return array
    if array.num_chunks == 1:
        return array.chunk(0)
    return pa.concat_arrays(array.chunks) if array.num_chunks else pa.nulls(0, array.type)


def _one(kind: pa.DataType, value: Any) -> Any:
    return pa.Array.from_buffers(kind, 1, [None, pa.py_buffer(value)])[0]


def _bitmap(bits: Any) -> pa.Buffer:
    packed: Any = np.packbits(bits, bitorder="little")
    return pa.py_buffer(packed)
