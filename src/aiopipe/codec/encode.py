"""Batches as the bytes of files: original lines where nothing was touched, joined fields elsewhere."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aiopipe.arrays import join, pieces
from aiopipe.batch import Batch, Header, Segment, quoted
from aiopipe.model import Reject

__all__ = ["Encoded", "encode", "encode_header", "encode_json"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a batch contributes to its outputs: for each segment, bytes and the number of records in them.

    head: the header record as it is to be written, once a file (b"" for none). names: the columns, so that
    the sink can see whether parts of a file agree. open_end: the last piece ends without a line end.
    """

    segments: tuple[Segment, ...]
    bodies: tuple[Any, ...]
    counts: tuple[int, ...]
    head: bytes
    names: tuple[str, ...]
    newline: bytes
    rejects: tuple[Reject, ...] = ()
    transcode: str = ""

    def __len__(self) -> int:
        return sum(self.counts)

    @property
    def nbytes(self) -> int:
        """Bytes to be written."""
        return sum(len(b) for b in self.bodies)


def encode(batch: Batch, delimiter: str | None = None) -> Encoded:
    """The batch as CSV. With `delimiter`, and when it is not the input's, every field is written anew."""
    header = batch.body.header
    own = header.delimiter.decode()
    if delimiter is not None and delimiter != own:
        return _rewritten(batch, delimiter)
    body = batch.body
    if batch.untouched():
        whole = batch.rows is None and len(body.segments) == 1 and _gapless(batch)
        lines = None if whole else body.lines(batch.rows)
    else:
        whole, lines = False, _lines(batch)
    counts = batch.counts()
    if whole:
        bodies: list[Any] = (
            [memoryview(body.data)[int(body.starts[0]) : int(body.stops[-1])]] if counts[0] else [b""]
        )
    else:
        bodies = list(pieces(lines, np.cumsum([0, *counts]).tolist()))
    return Encoded(
        batch.segments,
        tuple(bodies),
        tuple(counts),
        encode_header(batch),
        batch.names,
        header.newline,
        batch.rejects,
        header.transcode,
    )


def _gapless(batch: Batch) -> bool:
    body = batch.body
    return len(body) > 0 and bool((body.starts[1:] == body.stops[:-1]).all())


def _lines(batch: Batch) -> Any:
    """Records whose columns were added, dropped, moved or computed: raw fields joined, own line ends kept."""
    body, columns = batch.body, batch.columns
    width = body.ends.shape[1]
    # The longest run of the body's own leading columns is cut out in one piece: the kept line of a derive.
    lead = 0
    while lead < min(len(columns), width) and columns[lead].field == lead:
        lead += 1
    parts: list[Any] = []
    if lead == width and lead:
        parts.append(body.stems(batch.rows))
    elif lead:
        parts.append(_leading(batch, lead))
    parts += [batch.raw(c) for c in columns[lead:]]
    if len(columns) == 1:  # a record of one empty field would be a blank line
        empty = pc.equal(pc.binary_length(parts[0]), 0)
        if body.header.quote and pc.any(empty).as_py():
            parts[0] = pc.if_else(empty, pa.scalar(body.header.quote * 2, pa.binary()), parts[0])
    parts[-1] = _ended(parts[-1], batch)
    return join(parts, body.header.delimiter)


def _leading(batch: Batch, count: int) -> Any:
    from aiopipe.arrays import gather

    body, rows = batch.body, batch.rows
    ends = body.ends[:, count - 1]
    if rows is None:
        return gather(body.buffer, body.starts, ends)
    return gather(body.buffer, body.starts[rows], ends[rows])


def _ended(last: Any, batch: Batch) -> Any:
    """The last column with each record's line end behind it."""
    body = batch.body
    terminators = body.terminators(batch.rows)
    return join([last if last.type == pa.binary() else last.view(pa.binary()), terminators], b"")


def _rewritten(batch: Batch, delimiter: str) -> Encoded:
    """The batch under another delimiter: values quoted anew where they need it."""
    header = batch.body.header
    other = Header(
        header.names,
        header.raw,
        header.bom,
        header.newline,
        header.present,
        delimiter.encode(),
        header.quote or b'"',
    )
    columns = [quoted(batch.values(c.name), other) for c in batch.columns]
    if len(columns) == 1:
        empty = pc.equal(pc.binary_length(columns[0]), 0)
        columns[0] = pc.if_else(empty, pa.scalar(other.quote * 2, pa.binary()), columns[0])
    columns[-1] = join([columns[-1], batch.body.terminators(batch.rows)], b"")
    counts = batch.counts()
    bodies = pieces(join(columns, other.delimiter), np.cumsum([0, *counts]).tolist())
    names = quoted(pa.array(batch.names, pa.string()), other).to_pylist()
    head = header.bom + other.delimiter.join(names) + (header.newline or b"\n") if header.present else b""
    return Encoded(
        batch.segments,
        tuple(bodies),
        tuple(counts),
        head,
        batch.names,
        header.newline,
        batch.rejects,
        header.transcode,
    )


def encode_header(batch: Batch) -> bytes:
    """The header record of a batch's columns: the file's own bytes for columns that kept their name."""
    header = batch.body.header
    if not header.present:
        return header.bom
    fields = []
    for column in batch.columns:
        if not column.computed and header.names[column.field] == column.name:
            fields.append(header.raw[column.field])
        elif column.computed and column.name in header.names:
            fields.append(header.raw[header.names.index(column.name)])
        else:
            fields.append(quoted(pa.array([column.name], pa.string()), header)[0].as_py())
    return header.bom + header.delimiter.join(fields) + header.newline


def encode_json(batch: Batch) -> Encoded:
    """The batch as JSON lines: one object a record, every value a string, UTF-8."""
    names = batch.names
    columns = [batch.values(n).to_pylist() for n in names]
    dump = json.JSONEncoder(ensure_ascii=False).encode
    lines = [dump(dict(zip(names, row, strict=True))) + "\n" for row in zip(*columns, strict=True)]
    bodies, at = [], 0
    counts = batch.counts()
    for count in counts:
        bodies.append("".join(lines[at : at + count]).encode())
        at += count
    return Encoded(batch.segments, tuple(bodies), tuple(counts), b"", names, b"\n", batch.rejects)
