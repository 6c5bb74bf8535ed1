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

from aiopipe.errors import OutputError

__all__ = ["Ints", "Mask", "as_text", "gather", "holds_any", "join", "mask_to_numpy", "pieces", "weave"]

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


def weave(data: bytes, spans: Sequence[tuple[Ints, Ints]], others: Sequence[Any], order: Sequence[int]) -> Any:
    """One byte string per record, of pieces of `data` and values of other arrays, in a single copy.

    spans: starts and stops, one of each per record, side by side in the order they have in the data. others:
    binary arrays of one value per record, or of one value for all. order: what a record is made of; first the
    spans count, then the others. Thrice the speed of joining columns: all is laid out as one Arrow array,
    data first, and `take` gathers the pieces of all records at once.
    """
    width, n = 2 * len(spans), len(spans[0][0])
    if n == 0:
        return pa.array([], pa.binary())
    marks = np.empty((n, width), np.int32)
    for j, (starts, stops) in enumerate(spans):
        marks[:, 2 * j], marks[:, 2 * j + 1] = starts, stops
    offsets, contents, base, element = [marks.reshape(-1)], [data], len(data), width * n
    firsts = []
    for other in others:
        own, content = _laid_out(other)
        offsets.append(own + np.int32(base))
        contents.append(content)
        firsts.append(element)
        base, element = base + len(content), element + len(own)
    if base >= 1 << 31:
        raise OutputError("more than 2 GiB of records at once", hint="read in smaller blocks")
    every = pa.py_buffer(np.concatenate(offsets))
    pool = pa.Array.from_buffers(pa.binary(), element - 1, [None, every, pa.py_buffer(b"".join(contents))])
    chosen = np.empty((n, len(order)), np.int32)
    for place, piece in enumerate(order):
        if piece < len(spans):
            chosen[:, place] = np.arange(2 * piece, width * n, width)
        else:
            other = others[piece - len(spans)]
            chosen[:, place] = firsts[piece - len(spans)] + (np.arange(n) if len(other) > 1 else 0)
    woven = pool.take(pa.array(chosen.reshape(-1)))
    ends = np.frombuffer(woven.buffers()[1], np.int32, n * len(order) + 1)[:: len(order)]
    return pa.Array.from_buffers(pa.binary(), n, [None, pa.py_buffer(ends.copy()), woven.buffers()[2]])


def _laid_out(values: Any) -> tuple[npt.NDArray[np.int32], bytes]:
    """The offsets of a binary or string array, from 0, and its bytes."""
    _, offset_buffer, data = values.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32, len(values) + 1, values.offset * 4)
    first, last = int(offsets[0]), int(offsets[-1])
    return offsets - np.int32(first), b"" if data is None else data[first:last].to_pybytes()


def holds_any(values: Any, characters: bytes) -> bool:
    """Whether one of the ASCII `characters` stands anywhere in a binary or string array."""
    content = _laid_out(values)[1]
    return any(c in content for c in characters)


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
