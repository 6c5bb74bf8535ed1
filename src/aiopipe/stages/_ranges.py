"""Cutting batches by record count, file by file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from aiopipe.batch import Batch, Column

__all__ = ["keep_ranges", "slices", "truncated"]


def keep_ranges(batch: Batch, ranges: Sequence[tuple[int, int]]) -> Batch:
    """Of each segment only the records [start, stop), counted among those still in."""
    mask = np.zeros(len(batch), np.bool_)
    at = 0
    for count, (start, stop) in zip(batch.counts(), ranges, strict=True):
        mask[at + min(start, count) : at + min(stop, count)] = True
        at += count
    return batch.filter(mask)


def truncated(batch: Batch, count: int) -> Batch:
    """The first `count` records, and no file after the one that holds the last of them.

    Every file that is left counts as finished: nothing more of it will come.
    """
    counts: list[int] = batch.counts()
    ends = np.cumsum(counts)
    upto = min(int(np.searchsorted(ends, count)) + 1, len(counts))
    mask = np.zeros(len(batch), np.bool_)
    mask[:count] = True
    cut = batch.filter(mask)
    body = cut.body
    segments = body.segments[:upto]
    if segments and (not segments[-1].last or segments[-1].more):
        segments = (*segments[:-1], segments[-1]._replace(last=True, more=False))
    end = int(body.bounds[upto])
    narrowed: Any = replace(
        body,
        segments=segments,
        bounds=body.bounds[: upto + 1],
        starts=body.starts[:end],
        ends=body.ends.head(end),
        stops=body.stops[:end],
        numbers=None if body.numbers is None else body.numbers[:end],
    )
    indexes = {s.file.index for s in segments}
    rejects = tuple(r for r in cut.rejects if r.file.index in indexes)
    rows = cut.rows if cut.rows is not None else (None if end == len(body) else np.arange(end))
    return replace(cut, body=narrowed, rows=rows, rejects=rejects)


def slices(batch: Batch, size: Callable[[], int]) -> Iterator[Batch]:
    """The batch in slices of about `size()` records; each holds only the segments that it has records of.

    `size` is asked anew for each. All but the last slice of a segment say that more follows. Rejects travel with the
    first one.
    """
    if len(batch) <= size():
        yield batch
        return
    rows = np.arange(len(batch.body)) if batch.rows is None else batch.rows
    body, rejects = batch.body, batch.rejects
    counts = batch.counts()
    at, segment, used = 0, 0, 0  # records given, the segment in hand, records of it given
    while segment < len(counts):
        wanted = size()
        room, first, parts = wanted, segment, []
        while segment < len(counts) and (room > 0 or counts[segment] == used):
            take = min(room, counts[segment] - used)
            room -= take
            used += take
            whole = used == counts[segment]
            parts.append(body.segments[segment] if whole else body.segments[segment]._replace(more=True))
            if not whole:
                break
            segment, used = segment + 1, 0
        stop = at + wanted - room
        narrowed = replace(body, segments=tuple(parts), bounds=body.bounds[first : first + len(parts) + 1])
        columns = tuple(_column_slice(c, at, stop) for c in batch.columns)
        yield replace(batch, body=narrowed, rows=rows[at:stop], columns=columns, rejects=rejects)
        at, rejects = stop, ()


def _column_slice(column: Column, start: int, stop: int) -> Column:
    if not column.computed:
        return column
    written = None if column.written is None else column.written.slice(start, stop - start)
    return column._replace(values=column.values.slice(start, stop - start), written=written)
