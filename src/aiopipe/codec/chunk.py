"""A chunk as the reader hands it on, and how it becomes a batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from aiopipe.arrays import Ints
from aiopipe.batch import Batch, Body, Column, Header, Segment
from aiopipe.codec.dialect import Dialect
from aiopipe.codec.found import Bad, Index
from aiopipe.codec.index import count_lines, index
from aiopipe.ends import Table
from aiopipe.model import Reject

__all__ = ["Chunk", "decode"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole records of one file, or of several small ones with the same header, as bytes.

    Every segment's data ends with a line end, or with the chunk. Where a file's own bytes do not, the reader
    puts one LF behind them and says so with `clipped=1` in that segment: it parts this file from the next, is
    no part of any record, and never reaches an output. origin: where the same bytes can be read again, at the
    segment's `byte`: a path, and the signature that the file has (None: nowhere).
    """

    data: bytes
    header: Header
    dialect: Dialect
    segments: tuple[Segment, ...]
    origin: tuple[str, Any] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes it keeps alive."""
        return len(self.data)

    def __len__(self) -> int:
        return 0  # nobody has counted yet

    def apart(self) -> list[Chunk]:
        """The chunk taken apart by file."""
        if len(self.segments) == 1:
            return [self]
        return [
            replace(self, data=self.data[a:b], segments=(s._replace(offset=0, clipped=0),))
            for s, (a, b) in zip(self.segments, _edges(self), strict=True)
        ]

    def emptied(self) -> Chunk:
        """What goes on in the place of records that could not be used: the same parts of files, as of empty ones."""
        header = self.header._replace(names=(), raw=())
        segments = tuple(s.emptied() for s in self.segments)
        return replace(self, data=b"", header=header, segments=segments, origin=None)


def decode(chunk: Chunk) -> Batch:
    """Find the records and fields of a chunk; malformed records become rejects of the stage `read`."""
    data, segments = chunk.data, chunk.segments
    found = index(data, chunk.dialect, len(chunk.header.names))
    if len(segments) == 1 and not segments[0].clipped:
        bounds: Ints = np.array([0, len(found.starts)])
        segments = (segments[0]._replace(records=found.records, lines=found.lines),)
    else:
        if _straddled(found, np.array([s.offset for s in segments[1:]], np.int64)):
            found = _one_by_one(chunk)
        found = _clipped(found, chunk)
        bounds = np.searchsorted(found.starts, [*(s.offset for s in segments), len(data)])
        segments = _counted(chunk, found, bounds)
    body = Body(
        data,
        chunk.header,
        found.starts,
        found.ends,
        found.stops,
        segments,
        bounds,
        found.numbers,
        found.quoted,
    )
    return Batch(body, _columns(chunk.header.names), None, tuple(_rejected(body, bad) for bad in found.bad))


@lru_cache(maxsize=64)
def _columns(names: tuple[str, ...]) -> tuple[Column, ...]:
    """The columns of a file: the same for all of its chunks."""
    return tuple(Column(name, k) for k, name in enumerate(names))


def _edges(chunk: Chunk) -> list[tuple[int, int]]:
    """Where each segment's own bytes begin and end in the chunk."""
    offsets = [*(s.offset for s in chunk.segments), len(chunk.data)]
    return [(a, b - s.clipped) for s, (a, b) in zip(chunk.segments, pairwise(offsets), strict=True)]


def _straddled(found: Index, offsets: Ints) -> bool:
    """Whether a record lies across an offset: a file ended inside quotes, and they ran on into the next."""
    before = np.searchsorted(found.starts, offsets) - 1
    begun = before >= 0
    if bool((found.stops[before[begun]] > offsets[begun]).any()):
        return True
    return any(bool(((bad.start < offsets) & (offsets < bad.stop)).any()) for bad in found.bad)


def _one_by_one(chunk: Chunk) -> Index:
    """Each segment looked at by itself."""
    parts, records, lines = [], 0, 0
    for start, stop in _edges(chunk):
        part = index(chunk.data[start:stop], chunk.dialect, len(chunk.header.names))
        numbers = part.numbers if part.numbers is not None else np.arange(len(part.starts))
        bad = [b._replace(number=b.number + records, start=b.start + start, stop=b.stop + start) for b in part.bad]
        parts.append(
            part._replace(
                starts=part.starts + start,
                ends=Table(part.ends.table() + start),
                stops=part.stops + start,
                numbers=numbers + records,
                bad=bad,
            )
        )
        records, lines = records + part.records, lines + part.lines
    return Index(
        np.concatenate([p.starts for p in parts]),
        Table(np.concatenate([p.ends.table() for p in parts])),
        np.concatenate([p.stops for p in parts]),
        np.concatenate([p.numbers for p in parts if p.numbers is not None]),
        [bad for p in parts for bad in p.bad],
        any(p.quoted for p in parts),
        records,
        lines,
    )


def _clipped(found: Index, chunk: Chunk) -> Index:
    """The records without the line ends that the reader put between files."""
    if not any(segment.clipped for segment in chunk.segments):
        return found
    stops, bad = found.stops.copy(), found.bad
    for segment, (_, stop) in zip(chunk.segments, _edges(chunk), strict=True):
        if segment.clipped:
            last = int(np.searchsorted(found.starts, stop)) - 1
            if last >= 0:
                stops[last] = min(int(stops[last]), stop)
            bad = [b._replace(stop=min(b.stop, stop)) if b.start < stop else b for b in bad]
    return found._replace(stops=stops, bad=bad)


def _counted(chunk: Chunk, found: Index, bounds: Ints) -> tuple[Segment, ...]:
    """The segments with their numbers of records, good or bad, and of lines."""
    records = np.diff(bounds)
    offsets = [s.offset for s in chunk.segments]
    for bad in found.bad:
        records[np.searchsorted(offsets, bad.start, side="right") - 1] += 1
    firsts = np.cumsum(records) - records
    if found.lines == found.records and not found.quoted:
        lines = records.tolist()  # every record is a line, and every line a record: nothing to count
    else:
        lines = [count_lines(chunk.data, a, b) for a, b in _edges(chunk)]
    counts = zip(chunk.segments, records.tolist(), firsts.tolist(), lines, strict=True)
    return tuple(s.counted(*numbers) for s, *numbers in counts)


def _rejected(body: Body, bad: Bad) -> Reject:
    segment = body.segment_at(bad.start)
    position = body.locate(segment, bad.start, bad.number)
    return segment.reject(position, "read", bad.reason, body.data[bad.start : bad.stop], bad.hint)
