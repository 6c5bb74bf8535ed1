"""Which records an expression fails on: DuckDB gives up a whole batch for one bad value.

TRY(...) gives NULL where the expression fails, so two more columns tell the failed records from those whose
value is NULL. Then DuckDB is asked for its message, once per distinct input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from aiopipe import kernels as pc
from aiopipe.arrays import Ints, mask_array, place_array, valid
from aiopipe.sql.session import describe_error, evaluation_errors

__all__ = ["isolate"]

ASKED = 100  # inputs whose message is asked for, 1 ms each; an expression that never works has thousands

Run = Callable[[str, pa.RecordBatch], Any]
"""Evaluates SELECT {select} over a batch."""


def isolate(run: Run, select: str, batch: pa.RecordBatch) -> tuple[Any, dict[int, str]]:
    """The values of a batch that fails as a whole: NULL at the records at fault, and a message for each."""
    pieces = list(_pieces(run, select, batch))
    failed = {int(row): message for rows, _, message in pieces if message is not None for row in rows}
    good = [(rows, values) for rows, values, message in pieces if message is None]
    places = np.full(batch.num_rows, -1, np.int64)
    offset = 0
    for rows, values in good:
        places[rows] = np.arange(offset, offset + len(values))
        offset += len(values)
    kind = good[0][1].type if good else run(select, batch.slice(0, 0)).type
    known = pa.concat_arrays([values for _, values in good]) if good else pa.nulls(0, kind)
    return pc.take(known, place_array(places)), dict(sorted(failed.items()))


Piece = tuple[Ints, Any, str | None]
"""Records, and either their values or the message that all of them fail with."""


def _pieces(run: Run, select: str, batch: pa.RecordBatch) -> Iterator[Piece]:
    import duckdb

    rows = np.arange(batch.num_rows)
    try:
        values = run(f"TRY({select})", batch)
        absent = ~valid(run(f"TRY(({select}) IS NULL)", batch))
    except duckdb.BinderException:  # TRY does not take error() and other volatile functions
        yield from _halves(run, select, batch, rows)
        return
    null = ~valid(values)
    yield rows[~null], values.filter(mask_array(~null)), None
    # Asked again without TRY: no failure may pass for a NULL, whatever an optimizer makes of IS NULL.
    yield from _halves(run, select, batch, rows[null & ~absent])
    for asked, alike in enumerate(_alike(batch, rows[null & absent])):
        if asked < ASKED:
            yield from _one(run, select, batch, alike)
        else:
            yield alike, None, _fails_on(batch, int(alike[0]))


def _halves(run: Run, select: str, batch: pa.RecordBatch, rows: Ints) -> Iterator[Piece]:
    """By bisection: what DuckDB takes in one go, and the single records it does not take."""
    if len(rows) <= 1:
        yield from _one(run, select, batch, rows)
        return
    try:
        yield rows, run(select, batch.take(place_array(rows))), None
    except evaluation_errors():
        middle = len(rows) // 2
        yield from _halves(run, select, batch, rows[:middle])
        yield from _halves(run, select, batch, rows[middle:])


def _one(run: Run, select: str, batch: pa.RecordBatch, rows: Ints) -> Iterator[Piece]:
    """The value or the message of records with the same input, by asking for the first of them."""
    if not len(rows):
        return
    try:
        value = run(select, batch.slice(int(rows[0]), 1))
    except evaluation_errors() as error:
        yield rows, None, describe_error(error)[0]
        return
    yield rows, pa.concat_arrays([value] * len(rows)), None


def _fails_on(batch: pa.RecordBatch, row: int) -> str:
    """A message of our own: the input on which the expression fails."""
    values = (f"{name} = {_shown(column[row])}" for name, column in zip(batch.schema.names, batch, strict=True))
    return f"fails on {', '.join(value if len(value) <= 80 else value[:77] + '...' for value in values)}"


def _shown(value: Any) -> str:
    """A scalar as Python writes it; a time with a zone as text, for pyarrow takes it through pandas."""
    zoned = pa.types.is_timestamp(value.type) and value.type.tz is not None
    return repr((value.cast(pa.string()) if zoned else value).as_py())


def _alike(batch: pa.RecordBatch, rows: Ints) -> Iterator[Ints]:
    """The records grouped by equal input: a bad value is often the same one, thousands of times."""
    groups: dict[tuple[str, ...], list[int]] = {}
    inputs = batch.take(place_array(rows))
    keys = zip(*(map(repr, column) for column in inputs.columns), strict=True)
    for row, key in zip(rows.tolist(), keys, strict=True):
        groups.setdefault(key, []).append(row)
    return (np.array(group) for group in groups.values())
