"""Types of columns: decided once from a sample, and fields turned into typed values by one set of rules.

Names are DuckDB's. A field is empty or a null token: NULL. Anything else that does not fit is reported,
never silently NULL.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from aiopipe import kernels as pc
from aiopipe.arrays import Mask, mask_to_numpy, null, place_array, text_array
from aiopipe.errors import UsageError, nearest

__all__ = ["TYPES", "cast", "guess", "parse_type"]

# type -> the whole text of a field that has it. A leading zero is no number: it would be lost (007). Nor is
# an integer that int64 may not hold, or one among fractions that a double may not: keys would become equal.
_DATE = r"(?!0000)[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"
_SHAPES: dict[str, re.Pattern[str]] = {
    "BIGINT": re.compile(r"-?(?:0|[1-9][0-9]{0,17})"),
    "DOUBLE": re.compile(r"-?(?:(?:0|[1-9][0-9]{0,14})(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"),
    "DATE": re.compile(_DATE),
    "TIMESTAMP": re.compile(f"{_DATE}(?:{_TIME})?"),
    "TIMESTAMPTZ": re.compile(f"{_DATE}{_TIME}(?:Z|[+-][0-9]{{2}}:?[0-9]{{2}})"),
    "BOOLEAN": re.compile(r"true|false", re.IGNORECASE | re.ASCII),
}
_ARROW: dict[str, pa.DataType] = {
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMPTZ": pa.timestamp("us", "UTC"),
    "BOOLEAN": pa.bool_(),
    "VARCHAR": pa.string(),
}
_ALIASES = {
    "INT": "BIGINT", "INTEGER": "BIGINT", "SMALLINT": "BIGINT", "INT8": "BIGINT", "INT64": "BIGINT",
    "LONG": "BIGINT", "FLOAT": "DOUBLE", "FLOAT8": "DOUBLE", "REAL": "DOUBLE", "NUMERIC": "DOUBLE",
    "STRING": "VARCHAR", "TEXT": "VARCHAR", "STR": "VARCHAR", "BOOL": "BOOLEAN", "DATETIME": "TIMESTAMP",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ",
}  # fmt: skip
TYPES = tuple(_ARROW)
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")
# Text that often stands for "no value"; only to word the advice, never taken for NULL by itself.
_NULL_LOOKS = {"na", "n/a", "nan", "null", "none", "nil", "-", "--", "?", ".", "\\n", "#n/a", "missing"}


def parse_type(name: str) -> str:
    """The canonical name of a type a user wrote; UsageError with the nearest known one otherwise."""
    upper = " ".join(name.upper().split())
    upper = _ALIASES.get(upper, upper)
    if upper in _ARROW:
        return upper
    match = _DECIMAL.fullmatch(upper)
    if match and 1 <= int(match[1]) <= 38 and int(match[2]) <= int(match[1]):
        return f"DECIMAL({match[1]},{match[2]})"
    raise UsageError(f"no type {name!r}", hint=nearest(upper, [*TYPES, "DECIMAL(18,3)"]))


def arrow_type(name: str) -> pa.DataType:
    """The Arrow type that values of a canonical type have."""
    match = _DECIMAL.fullmatch(name)
    return pa.decimal128(int(match[1]), int(match[2])) if match else _ARROW[name]


def guess(values: Iterable[str], nulls: Collection[str]) -> tuple[str, str | None]:
    """The type that every value of a sample fits, and a token that stands in the way of a better one.

    The token is given when at least half of the values are numbers (or dates) and the others are few enough
    to look like a stand-in for "no value": a column the caller should ask its user about.
    """
    distinct: dict[str, int] = {}
    for value in values:
        if value and value not in nulls:
            distinct[value] = distinct.get(value, 0) + 1
    if not distinct:
        return "VARCHAR", None
    fits = {name: _fitting(distinct, name, shape) for name, shape in _SHAPES.items()}
    for name, fitting in fits.items():
        if len(fitting) == len(distinct):
            return name, None
    total = sum(distinct.values())
    for fitting in fits.values():
        odd = [v for v in distinct if v not in fitting]
        if 2 * sum(distinct[v] for v in fitting) >= total and (all(v.strip().lower() in _NULL_LOOKS for v in odd)):
            return "VARCHAR", odd[0]
    return "VARCHAR", None


def _fitting(values: Iterable[str], name: str, shape: re.Pattern[str]) -> set[str]:
    """The values that look like a type and are of it: 2023-02-29 is no date."""
    looks = [v for v in values if shape.fullmatch(v)]
    _, bad = cast(text_array(looks), name, ())
    return set(looks if bad is None else (v for v, b in zip(looks, bad, strict=True) if not b))


def cast(values: Any, type_name: str, nulls: Collection[str]) -> tuple[Any, Mask | None]:
    """Strings as typed values, and where a field does not fit (None: everywhere it does).

    A field that does not fit is NULL in the result; the caller rejects its record.
    """
    values = _null(values, nulls)
    if type_name == "VARCHAR":
        return values, None
    kind = arrow_type(type_name)
    try:
        return _convert(values, kind), None
    except pa.ArrowInvalid:
        pass
    misfits = _misfits(pc.drop_null(pc.unique(values)), kind)
    bad = pc.is_in(values, misfits)
    return _convert(pc.if_else(bad, null(pa.string()), values), kind), mask_to_numpy(bad)


def _misfits(values: Any, kind: pa.DataType) -> Any:
    """Which of the distinct `values` do not convert, by halves: one in many costs few conversions."""
    try:
        _convert(values, kind)
        return values[:0]
    except pa.ArrowInvalid:
        if len(values) == 1:
            return values
    middle = len(values) // 2
    return pa.concat_arrays([_misfits(values[:middle], kind), _misfits(values[middle:], kind)])


def _convert(values: Any, kind: pa.DataType) -> Any:
    """Arrow's conversion, which is strict, and stricter still; ArrowInvalid where one value does not fit."""
    typed = pc.cast(values, kind)
    if pa.types.is_integer(kind):
        # Arrow reads 0x1F as 31; a CSV's number is decimal.
        text = _bytes_of(values)  # a quick look; what it finds may belong to a NULL
        marks = [x for x in ("x", "X") if x.encode() in text]
        if any(pc.any(pc.match_substring(values, x)).as_py() for x in marks):
            raise pa.ArrowInvalid("hexadecimal")
    elif pa.types.is_floating(kind):
        endless = pc.is_inf(typed)
        if pc.any(endless).as_py() and any("0" <= v[-1] <= "9" for v in pc.filter(values, endless).to_pylist()):
            raise pa.ArrowInvalid("out of range")  # 1e999 is not infinity
    return typed


def _bytes_of(values: Any) -> bytes:
    """The bytes of a string array's values, one behind the other (NULLs' may be among them)."""
    if not len(values):
        return b""
    _, offsets, data = values.buffers()
    edges = np.frombuffer(offsets, np.int32, len(values) + 1, 4 * values.offset)
    return b"" if data is None else bytes(memoryview(data)[edges[0] : edges[-1]])


def _null(values: Any, nulls: Collection[str]) -> Any:
    """Empty fields and null tokens as NULL: a validity bitmap over the same bytes, nothing is copied."""
    n = len(values)
    if not n:
        return values
    validity, offset_buffer, data = values.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32, n + 1, 4 * values.offset)
    lengths = np.diff(offsets)
    gone = lengths == 0
    for length, tokens in _by_length(frozenset(nulls)):
        alike = np.flatnonzero(lengths == length)  # few fields are as long as NA: only they are looked at
        if len(alike):
            gone[alike] |= mask_to_numpy(pc.is_in(pc.take(values, place_array(alike)), tokens))
    if validity is not None:
        gone |= mask_to_numpy(pc.is_null(values))
    if not gone.any():
        return values
    bits: Any = np.packbits(~gone, bitorder="little")
    return pa.Array.from_buffers(pa.string(), n, [pa.py_buffer(bits), pa.py_buffer(offsets), data])


@lru_cache(maxsize=256)
def _by_length(nulls: frozenset[str]) -> list[tuple[int, Any]]:
    """The tokens that are not empty, as Arrow arrays of those with equally many bytes."""
    lengths = {len(token.encode()) for token in nulls if token}
    return [(n, text_array(sorted(t for t in nulls if len(t.encode()) == n))) for n in sorted(lengths)]
