"""Arrow arrays from numpy without pyarrow's guessing, which imports pandas (0.9 s) where it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

__all__ = ["indices", "joined", "mask", "strings"]


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


def joined(array: Any) -> Any:
    """A chunked array as one array; an array as it is."""
    if not isinstance(array, pa.ChunkedArray):
        return array
    if array.num_chunks == 1:
        return array.chunk(0)
    return pa.concat_arrays(array.chunks) if array.num_chunks else pa.nulls(0, array.type)


def _bitmap(bits: Any) -> pa.Buffer:
    packed: Any = np.packbits(bits, bitorder="little")
    return pa.py_buffer(packed)
