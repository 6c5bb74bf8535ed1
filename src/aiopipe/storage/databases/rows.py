"""Rows on their way to a table: the values of a batch's columns, and the batch, which knows where each row stood."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from aiopipe import kernels as pc
from aiopipe.arrays import null, text_scalar
from aiopipe.batch import Batch, Segment
from aiopipe.errors import UnknownNameError
from aiopipe.model import Reject

__all__ = ["Rows", "rows_of", "tuples"]

# Rows made into Python objects in one go. Arrow keeps the interpreter while it makes a column of them: with 1000 rows a
# service in the same process was late by 22 ms instead of 10 (p99.9 of its gaps).
_SLICE = 100


@dataclass(frozen=True, slots=True)
class Rows:
    """values: one Arrow string array for each name, as long as the batch; null where the table is to hold NULL."""

    batch: Batch
    names: tuple[str, ...]
    values: tuple[Any, ...]
    rejects: tuple[Reject, ...] = ()

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def nbytes(self) -> int:
        """Bytes kept alive, about."""
        return self.batch.nbytes + sum(int(v.nbytes) for v in self.values)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The files, or parts of files, that the rows come from."""
        return self.batch.segments

    def spans(self) -> Iterator[tuple[Segment, int, int]]:
        """Each segment with the rows [start, stop) that come from it."""
        at = 0
        for segment, count in zip(self.segments, self.batch.counts(), strict=True):
            yield segment, at, at + count
            at += count

    def refused(self, row: int, reason: str) -> Reject:
        """Row `row`, which the table would not have, set aside."""
        batch = self.batch
        segment, position, raw = batch.body.place(row if batch.rows is None else int(batch.rows[row]))
        return segment.reject(position, "write", reason, raw, "mend the record, or change the table's constraint")

    def part(self, start: int, stop: int) -> list[Any]:
        """The values of the rows [start, stop)."""
        return [v.slice(start, stop - start) for v in self.values]


def rows_of(batch: Batch, empty: str) -> Rows:
    """A batch's rows. empty: "null" where an empty field is NULL, "text" where it is ''."""
    seen: set[str] = set()
    for name in batch.names:
        if name in seen:
            batch.column(name)  # says that it stands there twice
        if not name:
            raise UnknownNameError("a column has no name", stage="write", hint="rename it, or drop it before write")
        seen.add(name)
    values = [batch.text(c) for c in batch.columns]
    if empty == "null":
        nothing, none = text_scalar(""), null(pa.string())
        values = [pc.if_else(pc.equal(v, nothing), none, v) for v in values]
    return Rows(batch, batch.names, tuple(values), batch.rejects)


def tuples(rows: Rows, start: int, stop: int, last: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """The rows [start, stop) as Python values, each with `last` behind."""
    for at in range(start, stop, _SLICE):
        for row in zip(*(v.to_pylist() for v in rows.part(at, min(at + _SLICE, stop))), strict=True):
            yield row + last
