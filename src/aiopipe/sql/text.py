"""Values as text, as DuckDB's CAST(... AS VARCHAR) writes them, in half of its time.

A DOUBLE is written as the shortest number that reads back as the same, which is also what DuckDB means to do.
DuckDB 1.4 to 2.0 fail at three: 2**81, 2**91 and 2**807 come out doubled (4.835703278458517e+24 for
2.4178516392292583e+24). So text of DOUBLE is always made here, whoever computed the values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from aiopipe import kernels as pc
from aiopipe.arrays import doubles, mask_array, text_array, valid

__all__ = ["WRITTEN", "as_text"]

WRITTEN = {"BIGINT", "BOOLEAN", "DOUBLE", "VARCHAR"}
"""The types `as_text` writes; others are better left to DuckDB."""

# Between these Arrow and DuckDB write a number alike, but for the ".0" of a whole one.
_SMALL, _LARGE = 1e-4, 1e10
_FEW = 8  # up to one value in so many is cheaper written anew than the whole column joined


def as_text(values: Any) -> Any:
    """An Arrow array of one of the types WRITTEN as strings; NULL stays NULL."""
    if values.type == pa.string():
        return values
    return _doubles(values) if values.type == pa.float64() else pc.cast(values, pa.string())


def _doubles(values: Any) -> Any:
    numbers = doubles(values)  # NULL is NaN here
    size = np.abs(numbers)
    plain = ((size >= _SMALL) & (size < _LARGE)) | (size == 0)
    with np.errstate(invalid="ignore"):  # a signalling NaN
        whole = plain & (np.floor(numbers) == numbers)
    known = valid(values)
    odd = ~plain & known
    counted = _whole(values, numbers) if (whole | ~known).all() else None
    if counted is not None:
        return counted
    text = pc.cast(values, pa.string())
    if np.count_nonzero(whole) < len(whole) / _FEW:
        odd |= whole
    else:
        longer = _longer(text)
        text = longer if whole.all() else pc.if_else(mask_array(whole), longer, text)
    return _patch(text, numbers, odd) if odd.any() else text


def _whole(values: Any, numbers: Any) -> Any | None:
    """Whole numbers as text, by way of integers, which are written five times as fast; None where one is -0.0."""
    if (np.signbit(numbers) & (numbers == 0)).any():
        return None
    text = pc.cast(pc.cast(values, pa.int64(), safe=False), pa.string())
    return _longer(text)


def _longer(text: Any) -> Any:
    """Each with .0 behind it: a slice behind the longest number, replaced in half of the time of joining."""
    return pc.binary_replace_slice(text, 64, 64, ".0")


def _patch(text: Any, numbers: Any, odd: Any) -> Any:
    """Very small and very large numbers, infinity and NaN: Python's repr writes them as DuckDB does."""
    written = [_repr(x) for x in numbers[odd]]
    return pc.replace_with_mask(text, mask_array(odd), text_array(written))


def _repr(number: np.float64) -> str:
    text = repr(float(number))
    return "-nan" if text == "nan" and np.signbit(number) else text
