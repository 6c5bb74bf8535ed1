"""Batches as the bytes of files: original lines where nothing was touched, joined fields elsewhere."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aiopipe.arrays import gather, join, mask_to_numpy, pieces
from aiopipe.batch import Batch, Column, Header, Segment
from aiopipe.errors import OutputError
from aiopipe.fields import missing, quoted, unwritable
from aiopipe.model import Reject

__all__ = ["Encoded", "encode", "encode_header", "encode_json"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a batch contributes to its outputs: each segment's bytes and how many records are in them.

    bodies: bytes or views of them; the last record of a file ends as it did in the input, perhaps without a
    line end. head: the header record as it is to be written, once a file (b"" for none). names: the columns,
    so that the sink can see whether parts of a file agree. newline: the input's, for what the sink adds.
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

    def __reduce__(self) -> tuple[object, ...]:
        # Views do not pickle; between processes the bytes travel.
        solid = replace(self, bodies=tuple(bytes(b) for b in self.bodies))
        return (Encoded, tuple(getattr(solid, f.name) for f in fields(self)))

    @property
    def nbytes(self) -> int:
        """Bytes to be written."""
        return sum(len(b) for b in self.bodies)


def encode(batch: Batch, delimiter: str | None = None) -> Encoded:
    """The batch as CSV. With `delimiter`, and when it is not the input's, every field is written anew.

    A record with a value that the file cannot hold (a character that its encoding lacks, a delimiter where
    nothing is quoted) becomes a reject of the stage `write`. OutputError when a column's name is such.
    """
    header = batch.body.header
    anew = delimiter is not None and delimiter.encode() != header.delimiter
    if anew and delimiter is not None:
        header = replace(header, delimiter=delimiter.encode(), quote=header.quote or b'"')
    elif batch.untouched():
        return _encoded(batch, header, _original(batch))
    batch = _writable(batch, header, anew)
    return _encoded(batch, header, _joined(batch, header, anew), anew)


def _encoded(batch: Batch, header: Header, lines: Any, anew: bool = False) -> Encoded:
    counts = batch.counts()
    bodies = lines if isinstance(lines, list) else pieces(lines, np.cumsum([0, *counts]).tolist())
    return Encoded(
        batch.segments,
        tuple(bodies),
        tuple(counts),
        _head(batch, header, anew),
        batch.names,
        header.newline,
        batch.rejects,
        header.transcode,
    )


def _original(batch: Batch) -> Any:
    """The records as they were read; where none is missing, a view of the whole chunk."""
    body = batch.body
    if batch.rows is None and len(body.segments) == 1 and len(body) and body.gapless():
        return [memoryview(body.data)[int(body.starts[0]) : int(body.stops[-1])]]
    return body.lines(batch.rows)


def _writable(batch: Batch, header: Header, anew: bool) -> Batch:
    """The batch without the records that the file could not hold."""
    for column in batch.columns:
        if anew or (column.computed and column.written is None):
            values = batch.text(column)
            bad = unwritable(values, header)
            if bad is not None:
                return _writable(_refused(batch, bad, column, values, header), header, anew)
    if len(batch.columns) == 1 and not header.quote:
        empty = _empty(batch.raw(batch.columns[0]))
        reason = "an empty value alone in its record, in a file without quotes, would be a blank line"
        batch = batch.reject(empty, "write", lambda _: reason, "keep a second column, or filter such records out")
    return batch


def _refused(batch: Batch, bad: Any, column: Column, values: Any, header: Header) -> Batch:
    def reason(i: int) -> str:
        lacking = missing(values[i].as_py(), header.encoding)
        if lacking:
            return f"{column.name}: {header.encoding} has no character {lacking!r}"
        return f"{column.name}: a delimiter or line end in the value, and nothing is quoted in this file"

    return batch.reject(bad, "write", reason, "change the value in an earlier stage, or drop the column")


def _joined(batch: Batch, header: Header, anew: bool) -> Any:
    """Records whose columns were added, dropped, moved or computed: raw fields joined, own line ends kept."""
    parts = [quoted(batch.text(c), header) for c in batch.columns] if anew else _raw(batch)
    if len(parts) == 1 and header.quote:  # a record of one empty field would be a blank line
        empty = _empty(parts[0])
        if empty.any():
            parts[0] = pc.if_else(pa.array(empty), pa.scalar(header.quote * 2, pa.binary()), parts[0])
    parts[-1] = _ended(parts[-1], batch)
    return join(parts, header.delimiter)


def _raw(batch: Batch) -> list[Any]:
    """The fields as bytes. The body's own leading columns come as one piece: the kept line of a derive."""
    lead = 0
    width = batch.body.ends.shape[1]
    while lead < min(len(batch.columns), width) and batch.columns[lead].field == lead:
        lead += 1
    parts = [_leading(batch, lead)] if lead else []
    return parts + [batch.raw(c) for c in batch.columns[lead:]]


def _leading(batch: Batch, count: int) -> Any:
    body, rows = batch.body, batch.rows
    ends = body.ends[:, count - 1]
    if rows is None:
        return gather(body.buffer, body.starts, ends)
    return gather(body.buffer, body.starts[rows], ends[rows])


def _empty(raw: Any) -> Any:
    return mask_to_numpy(pc.equal(pc.binary_length(raw), pa.scalar(0, pa.int32())))


def _ended(last: Any, batch: Batch) -> Any:
    """The last column with each record's line end behind it."""
    end = batch.body.newline()
    ends = batch.body.terminators(batch.rows) if end is None else pa.scalar(end, pa.binary())
    return join([last, ends], b"")


def encode_header(batch: Batch) -> bytes:
    """The header record of a batch's columns: the file's own bytes for columns that kept their name."""
    return _head(batch, batch.body.header, False)


def _head(batch: Batch, header: Header, anew: bool) -> bytes:
    if not header.present:
        return header.bom
    written = [_name(column, header, anew) for column in batch.columns]
    if written == [b""]:
        written = [header.quote * 2]
    return header.bom + header.delimiter.join(written) + header.newline


def _name(column: Column, header: Header, anew: bool) -> bytes:
    """A column's name as bytes: those of the file where it has the column, or had one of that name."""
    if not anew:
        if not column.computed and header.names[column.field] == column.name:
            return header.raw[column.field]
        if column.computed and column.name in header.names:
            return header.raw[header.names.index(column.name)]
    name = pa.array([column.name], pa.string())
    if unwritable(name, header) is not None:
        raise OutputError(
            f"the column name {column.name!r} cannot be written in this file ({header.encoding}"
            + (")" if header.quote else ", without quotes)"),
            hint="rename the column",
        )
    raw: bytes = quoted(name, header)[0].as_py()
    return raw


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
