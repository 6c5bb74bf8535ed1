"""A chunk as the reader hands it on, and how it becomes a batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from aiopipe.batch import Batch, Body, Column, Header, Segment
from aiopipe.codec.dialect import Dialect
from aiopipe.codec.index import Bad, index
from aiopipe.model import Reject

__all__ = ["Chunk", "decode"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole records of one file, or of several small ones with the same header, as bytes.

    Every segment's data ends with a line end, or with the chunk.
    """

    data: bytes
    header: Header
    dialect: Dialect
    segments: tuple[Segment, ...]

    @property
    def nbytes(self) -> int:
        """Bytes it keeps alive."""
        return len(self.data)

    def __len__(self) -> int:
        return 0  # nobody has counted yet


def decode(chunk: Chunk) -> Batch:
    """Find the records and fields of a chunk; malformed records become rejects of the stage `read`."""
    found = index(chunk.data, chunk.dialect, len(chunk.header.names))
    segments, bounds = chunk.segments, np.array([0, len(found.starts)])
    if len(segments) > 1:
        offsets = np.array([s.offset for s in segments[1:]], np.int64)
        cuts = np.searchsorted(found.starts, offsets)
        bounds = np.concatenate([[0], cuts, [len(found.starts)]])
        per_segment = np.diff(bounds)
        for bad in found.bad:
            per_segment[np.searchsorted(offsets, bad.start, side="right")] += 1
        edges = [s.offset for s in segments] + [len(chunk.data)]
        firsts = np.cumsum(per_segment) - per_segment
        segments = tuple(
            replace(s, records=int(n), first=int(f), lines=_lines(chunk.data, a, b))
            for s, n, f, a, b in zip(segments, per_segment, firsts, edges[:-1], edges[1:], strict=True)
        )
    else:
        segments = (replace(segments[0], records=found.records, lines=found.lines),)
    body = Body(
        chunk.data,
        chunk.header,
        found.starts,
        found.ends,
        found.stops,
        segments,
        bounds,
        found.numbers,
        found.quoted,
        found.plain_newlines,
    )
    columns = tuple(Column(name, k) for k, name in enumerate(chunk.header.names))
    return Batch(body, columns, None, tuple(_rejected(body, bad) for bad in found.bad))


def _lines(data: bytes, start: int, stop: int) -> int:
    count = data.count(b"\n", start, stop)
    if b"\r" in data:
        text = data[start:stop]
        count += text.count(b"\r") - text.count(b"\r\n")
    return count + (stop > start and data[stop - 1] not in b"\r\n")


def _rejected(body: Body, bad: Bad) -> Reject:
    at = len([s for s in body.segments[1:] if s.offset <= bad.start])
    segment = body.segments[at]
    position = body.locate(segment, bad.start, bad.number)
    return Reject(segment.file, position, "read", bad.reason, body.data[bad.start : bad.stop], bad.hint)
