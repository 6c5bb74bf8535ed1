"""The few array moves everything else is made of: cut pieces out of a buffer, join columns into lines.

numpy finds positions, Arrow moves bytes; both let go of the GIL, which is why threads scale here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Ints", "Mask", "as_text", "gather", "join", "mask_to_numpy", "pieces"]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def gather(data: pa.Buffer, starts: Ints, stops: Ints, kind: pa.DataType | None = None) -> Any:
    """The byte strings data[starts[i]:stops[i]] as one Arrow array; starts and stops must not decrease.

    One Arrow array is laid over the buffer with the offsets start, stop, start, stop, ...: its even elements
    are what is asked for, the odd ones the gaps between.
    """
    kind = pa.binary() if kind is None else kind
    n = len(starts)
    if n == 0:
        return pa.array([], kind)
    if n > 1 and np.array_equal(starts[1:], stops[:-1]):  # no gaps: nothing to copy
        offsets = np.empty(n + 1, np.int32)
        offsets[:-1] = starts
        offsets[-1] = stops[-1]
        return pa.Array.from_buffers(kind, n, [None, pa.py_buffer(offsets), data])
    offsets = np.empty(2 * n + 1, np.int32)
    offsets[0:-1:2] = starts
    offsets[1::2] = stops
    offsets[-1] = stops[-1]
    both = pa.Array.from_buffers(kind, 2 * n, [None, pa.py_buffer(offsets), data])
    return both.take(pa.array(np.arange(0, 2 * n, 2, dtype=np.int32)))


def as_text(column: Any) -> Any:
    """The same bytes seen as UTF-8 strings, without a copy; they must have been checked before."""
    return column if column.type == pa.string() else column.view(pa.string())


def join(columns: Sequence[Any], separator: bytes) -> Any:
    """Join columns of equal length, or scalars, element by element: one byte string per record."""
    if len(columns) == 1:
        return columns[0]
    binary = [c if c.type == pa.binary() else c.view(pa.binary()) for c in columns]
    return pc.binary_join_element_wise(*binary, pa.scalar(separator, pa.binary()))


def pieces(lines: Any, bounds: Sequence[int]) -> list[memoryview]:
    """The data of a binary array cut at element `bounds` (n + 1 of them), as n views; nothing is copied."""
    if len(lines) == 0:
        return [memoryview(b"")] * (len(bounds) - 1)
    _, offset_buffer, data = lines.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32, len(lines) + 1, lines.offset * 4)
    view = memoryview(data if data is not None else b"")
    return [view[offsets[a] : offsets[b]] for a, b in pairwise(bounds)]


def mask_to_numpy(mask: Any) -> Mask:
    """An Arrow boolean array as numpy booleans; NULL counts as false, as in SQL's WHERE."""
    if mask.null_count:
        mask = pc.fill_null(mask, False)
    result: Mask = mask.to_numpy(zero_copy_only=False)
    return result
