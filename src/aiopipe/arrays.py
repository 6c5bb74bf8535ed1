"""The few array moves everything else is made of: cut pieces out of a buffer, weave columns into lines.

numpy finds positions, Arrow moves bytes; both let go of the GIL, which is why threads scale here.

The way between Python and Arrow leads through buffers, here and nowhere else: where pandas is installed,
pyarrow 26 imports it (0.9 s and 60 MB) at the first `pa.scalar`, `pa.array`, `to_numpy` or Python value given
to a kernel, with or without a type; where it is not, many of them search the path for it at each call. Arrays laid
over buffers do neither; tests/test_no_pandas.py runs every stage to see to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from aiopipe import kernels as pc
from aiopipe.errors import OutputError

__all__ = [
    "EMPTY",
    "Bytes",
    "Doubles",
    "Ints",
    "Mask",
    "Offsets",
    "Words",
    "as_text",
    "byte_array",
    "byte_scalar",
    "double",
    "doubles",
    "gather",
    "holds_any",
    "integer",
    "mask_array",
    "mask_to_numpy",
    "null",
    "pieces",
    "place_array",
    "text_array",
    "text_scalar",
    "unchunked",
    "valid",
    "weave",
]

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]
    Bytes = NDArray[np.uint8]
    Words = NDArray[np.uint64]
    Doubles = NDArray[np.float64]
    Offsets = NDArray[np.int32]
else:  # numpy.typing takes 25 ms to import, for names that only a type checker reads
    Ints = Mask = Bytes = Words = Doubles = Offsets = np.ndarray


def gather(data: pa.Buffer, starts: Ints, stops: Ints, kind: pa.DataType | None = None) -> Any:
    """The byte strings data[starts[i]:stops[i]] as one Arrow array; starts and stops must not decrease.

    One Arrow array is laid over the buffer with the offsets start, stop, start, stop, ...: its even elements
    are what is asked for, the odd ones the gaps between.
    """
    kind = pa.binary() if kind is None else kind
    n = len(starts)
    if n == 0:
        return pa.nulls(0, kind)
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
    return pc.take(both, _laid_over(pa.int32(), np.arange(0, 2 * n, 2, dtype=np.int32)))


def as_text(column: Any) -> Any:
    """The same bytes seen as UTF-8 strings, without a copy; they must have been checked before."""
    return column if column.type == pa.string() else column.view(pa.string())


def weave(data: bytes, spans: Sequence[tuple[Ints, Ints]], others: Sequence[Any], order: Sequence[int]) -> Any:
    """One byte string per record, of pieces of `data` and values of other arrays, in a single copy.

    spans: starts and stops, one of each per record, side by side in the order they have in the data. others:
    binary arrays of one value per record, or of one value for all. order: what a record is made of; first the
    spans count, then the others. Thrice the speed of joining columns: all is laid out as one Arrow array,
    data first, and `take` gathers the pieces of all records at once.
    """
    width, n = 2 * len(spans), len(spans[0][0])
    if n == 0:
        return pa.nulls(0, pa.binary())
    data, spans = _close(data, spans)
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
    _addressable(base)
    every = pa.py_buffer(np.concatenate(offsets))
    pool = pa.Array.from_buffers(pa.binary(), element - 1, [None, every, pa.py_buffer(b"".join(contents))])
    chosen = np.empty((n, len(order)), np.int32)
    for place, piece in enumerate(order):
        if piece < len(spans):
            chosen[:, place] = np.arange(2 * piece, width * n, width)
        else:
            other = others[piece - len(spans)]
            chosen[:, place] = firsts[piece - len(spans)] + (np.arange(n) if len(other) > 1 else 0)
    woven = pc.take(pool, _laid_over(pa.int32(), chosen.reshape(-1)))
    ends = np.frombuffer(woven.buffers()[1], np.int32, n * len(order) + 1)[:: len(order)]
    return pa.Array.from_buffers(pa.binary(), n, [None, pa.py_buffer(ends.copy()), woven.buffers()[2]])


def _close(data: bytes, spans: Sequence[tuple[Ints, Ints]]) -> tuple[Any, Sequence[tuple[Ints, Ints]]]:
    """The same pieces of less data, where the records in which they lie are few: all of it would be copied."""
    first, last = spans[0][0], spans[-1][1]
    if _GATHERED * len(first) + 2 * int((last - first).sum()) > len(data):
        return data, spans
    lines = gather(pa.py_buffer(data), first, last)
    own, content = _laid_out(lines)
    moved = first - own[:-1]
    return content, [(starts - moved, stops - moved) for starts, stops in spans]


_GATHERED = 160  # bytes that are copied in the time that it takes to gather one record more


def _laid_out(values: Any) -> tuple[Offsets, bytes]:
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
    return [view[a:b] for a, b in pairwise(offsets[bounds].tolist())]


def mask_to_numpy(mask: Any) -> Mask:
    """An Arrow boolean array as numpy booleans; NULL counts as false, as in SQL's WHERE."""
    known, values = mask.buffers()
    bits = _bits(values, mask.offset, len(mask))
    return bits & _bits(known, mask.offset, len(mask)) if mask.null_count else bits


def valid(values: Any) -> Mask:
    """Where an Arrow array has values."""
    return mask_to_numpy(pc.is_valid(values))


def doubles(values: Any) -> Doubles:
    """A DOUBLE array as numpy numbers; NULL is NaN."""
    data = values.buffers()[1]
    if data is None or not len(values):
        return np.full(len(values), np.nan)
    numbers = np.frombuffer(data, np.float64, len(values), values.offset * 8)
    return np.where(valid(values), numbers, np.nan) if values.null_count else numbers


def mask_array(mask: Mask) -> Any:
    """numpy booleans as an Arrow boolean array."""
    return pa.Array.from_buffers(pa.bool_(), len(mask), [None, _bitmap(mask)])


def place_array(places: Any) -> Any:
    """Whole numbers from numpy as an Arrow array; a negative one is NULL, and takes NULL."""
    places = np.ascontiguousarray(places, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(places), [_bitmap(places >= 0), pa.py_buffer(places)])


def text_array(values: Sequence[str]) -> Any:
    """Python strings as an Arrow array; TypeError where one is none, UnicodeEncodeError for a lone surrogate."""
    text = "".join(values)
    content = text.encode()  # once for all: 11,000 values take 0.6 ms, 0.9 ms where they are not ASCII
    _addressable(len(content))
    offsets = _offsets(values)
    if len(content) > len(text):
        # Bytes 0x80 to 0xBF go on with a character; before each stand as many characters as other bytes.
        more = np.flatnonzero(np.frombuffer(content, np.int8) < -64)
        more -= np.arange(len(more))
        offsets += np.searchsorted(more, offsets, side="right").astype(np.int32)
    return pa.Array.from_buffers(pa.string(), len(values), [None, pa.py_buffer(offsets), pa.py_buffer(content)])


def byte_array(values: Sequence[bytes]) -> Any:
    """Byte strings as an Arrow array."""
    content = b"".join(values)
    _addressable(len(content))
    buffers = [None, pa.py_buffer(_offsets(values)), pa.py_buffer(content)]
    return pa.Array.from_buffers(pa.binary(), len(values), buffers)


@lru_cache(maxsize=256)
def text_scalar(value: str) -> Any:
    """A VARCHAR scalar."""
    return text_array([value])[0]


@lru_cache(maxsize=256)
def byte_scalar(value: bytes) -> Any:
    """A scalar of bytes."""
    return byte_array([value])[0]


def integer(value: int) -> Any:
    """A BIGINT scalar."""
    return _laid_over(pa.int64(), np.array([value], np.int64))[0]


def double(value: float) -> Any:
    """A DOUBLE scalar."""
    return _laid_over(pa.float64(), np.array([value], np.float64))[0]


def null(kind: pa.DataType) -> Any:
    """The NULL of a type."""
    return pa.nulls(1, kind)[0]


def unchunked(array: Any) -> Any:
    """A chunked array as one array; an array as it is."""
    if not isinstance(array, pa.ChunkedArray):
        return array
    if array.num_chunks == 1:
        return array.chunk(0)
    return pa.concat_arrays(array.chunks) if array.num_chunks else pa.nulls(0, array.type)


def _offsets(values: Sequence[Any]) -> Offsets:
    """Where each value begins when they stand one behind the other, and where the last one ends."""
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, values), np.int32, len(values)), out=offsets[1:])
    return offsets


def _addressable(size: int) -> None:
    """OutputError where 32-bit offsets do not reach."""
    if size >= 1 << 31:
        raise OutputError("more than 2 GiB of records at once", hint="read in smaller blocks")


def _laid_over(kind: pa.DataType, numbers: Any) -> Any:
    return pa.Array.from_buffers(kind, len(numbers), [None, pa.py_buffer(numbers)])


def _bitmap(mask: Mask) -> pa.Buffer:
    return pa.py_buffer(np.packbits(mask, bitorder="little"))


def _bits(bitmap: pa.Buffer | None, offset: int, size: int) -> Mask:
    """Bits [offset, offset + size) of a bitmap as booleans."""
    if bitmap is None or not size:
        return np.zeros(size, np.bool_)
    first, skip = divmod(offset, 8)
    packed = np.frombuffer(bitmap, np.uint8, offset=first)
    return np.unpackbits(packed, count=skip + size, bitorder="little")[skip:].view(np.bool_)


EMPTY = text_scalar("")
