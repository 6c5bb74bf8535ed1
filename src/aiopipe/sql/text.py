"""Values as text, byte for byte as DuckDB's CAST(... AS VARCHAR) writes them, in half of its time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aiopipe.sql.arrow import mask

__all__ = ["as_text"]

# Between these Arrow and DuckDB write a number alike, but for the ".0" of a whole one.
_SMALL, _LARGE = 1e-4, 1e15
FEW = 8  # up to one value in so many is cheaper written anew than the whole column joined


def as_text(values: Any) -> Any:
    """An Arrow array as strings; None for a type that is better left to DuckDB."""
    kind = values.type
    if kind == pa.string():
        return values
    if kind == pa.int64() or kind == pa.bool_():
        return pc.cast(values, pa.string())
    return _doubles(values) if kind == pa.float64() else None


def _doubles(values: Any) -> Any:
    text = pc.cast(values, pa.string())
    numbers = values.to_numpy(zero_copy_only=False)  # NULL is NaN here
    size = np.abs(numbers)
    plain = ((size >= _SMALL) & (size < _LARGE)) | (size == 0)
    with np.errstate(invalid="ignore"):
        whole = plain & (np.floor(numbers) == numbers)
    odd = ~plain & values.is_valid().to_numpy(zero_copy_only=False)
    if np.count_nonzero(whole) < len(whole) / FEW:
        odd |= whole
    else:
        longer = pc.binary_join_element_wise(text, _string(".0"), _string(""))
        text = longer if whole.all() else pc.if_else(mask(whole), longer, text)
    return _patch(text, numbers, odd) if odd.any() else text


def _patch(text: Any, numbers: Any, odd: Any) -> Any:
    """Very small and very large numbers, and infinity: Python's repr writes them as DuckDB does."""
    written = [repr(x) for x in numbers[odd].tolist()]
    if "nan" in written:
        return None  # DuckDB also writes the sign of a NaN
    strings = pa.concat_arrays([pa.repeat(_string(w), 1) for w in written])
    return pc.replace_with_mask(text, mask(odd), strings)


def _string(value: str) -> Any:
    return pa.scalar(value, pa.string())
