"""Batches as the bytes of files: original lines where nothing was touched, joined fields elsewhere."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import accumulate, pairwise
from typing import Any, SupportsIndex

import numpy as np
import pyarrow as pa

from aiopipe import kernels as pc
from aiopipe.arrays import Ints, byte_array, byte_scalar, mask_array, mask_to_numpy, pieces, text_array, weave
from aiopipe.batch import Batch, Column, Header, Segment, from_columns, in_columns
from aiopipe.errors import OutputError
from aiopipe.fields import missing, quoted, unwritable
from aiopipe.model import Reject

__all__ = ["Encoded", "encode", "encode_header", "encode_json"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Encoded:
    """What a batch contributes to its outputs: each segment's bytes and how many records are in them.

    bodies: bytes or views of them; the last record of a file ends as it did in the input, perhaps without a
    line end. head: the header record as it is to be written, once a file (b"" for none). names: the columns,
    so that the sink can see whether parts of a file agree. newline: the input's, for what the sink adds.
    rows, numbers: of the batch and its body, so that the place of a record in the output can be told.
    puts: instead of bodies, the files that these have become already, beside their targets; readings: how their inputs
    were, if that is wanted; group: whose they are (see storage.groups).
    """

    segments: tuple[Segment, ...]
    bodies: tuple[Any, ...]
    counts: tuple[int, ...]
    head: bytes
    names: tuple[str, ...]
    newline: bytes
    rejects: tuple[Reject, ...] = ()
    transcode: str = ""
    rows: Ints | None = None
    numbers: Ints | None = None
    puts: Any = None
    readings: Any = None
    group: int = -1

    def __len__(self) -> int:
        return sum(self.counts)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[object, ...]:
        # Views do not pickle. Between processes the bytes travel, all bodies as one: beside the pickle, where
        # somebody carries them there, else in it.
        bodies = self.bodies
        together = memoryview(bodies[0]) if len(bodies) == 1 else b"".join(bodies)
        solid: Any = pickle.PickleBuffer(together) if int(protocol) >= 5 else bytes(together)
        rest = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("bodies", "segments")}
        return (_revived, (rest, in_columns(self.segments), solid, tuple(map(len, bodies))))

    @property
    def nbytes(self) -> int:
        """Bytes to be written."""
        return sum(len(b) for b in self.bodies)


def _revived(rest: dict[str, Any], segments: Any, together: bytes, lengths: tuple[int, ...]) -> Encoded:
    """What `Encoded.__reduce_ex__` took apart."""
    edges = list(accumulate(lengths, initial=0))
    return Encoded(from_columns(segments), tuple(together[a:b] for a, b in pairwise(edges)), **rest)


def encode(batch: Batch, delimiter: str | None = None) -> Encoded:
    """The batch as CSV. With `delimiter`, and when it is not the input's, every field is written anew.

    A record with a value that the file cannot hold (a character that its encoding lacks, a delimiter where
    nothing is quoted) becomes a reject of the stage `write`. OutputError when a column's name is such.
    """
    header = batch.body.header
    anew = delimiter is not None and delimiter.encode() != header.delimiter
    if anew and delimiter is not None:
        header = header._replace(delimiter=delimiter.encode(), quote=header.quote or b'"')
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
        batch.rows,
        batch.body.numbers,
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
    body, rows = batch.body, batch.rows
    starts, stops = (body.starts, body.stops) if rows is None else (body.starts[rows], body.stops[rows])
    width = body.ends.columns
    spans: dict[int, tuple[Ints, Ints]] = {}  # by their first field; `width` is the line end
    others: list[Any] = [byte_array([header.delimiter])]
    order: list[int] = []  # a span's first field, or -1 - i for others[i]
    parts = list(_parts(batch, header, anew))
    for part in parts:
        final = part is parts[-1]
        if isinstance(part, range):
            # The delimiter behind a run comes along, and so does the line end behind the last field.
            follows = part.stop < width and not final
            begin = starts if part.start == 0 else body.ends.of(part.start - 1, rows) + 1
            ends_line = part.stop == width and final
            end = stops if ends_line else body.ends.of(part.stop - 1, rows) + follows
            spans[part.start] = (begin, end)
            order.append(part.start)
            if follows or ends_line:
                continue
        else:
            others.append(part)
            order.append(-len(others))
        order.append(width if final else -1)
    if width in order:
        spans[width] = (body.ends.of(width - 1, rows), stops)
    firsts = sorted(spans)
    places = [firsts.index(o) if o >= 0 else len(firsts) - 1 - o for o in order]
    return weave(body.data, [spans[f] for f in firsts], others, places)


def _parts(batch: Batch, header: Header, anew: bool) -> Iterator[range | Any]:
    """The columns as runs of neighbouring fields, to be cut out in one piece, and as arrays of bytes."""
    if len(batch.columns) == 1:
        yield _alone(batch, header, anew)
        return
    run = range(0)
    seen: set[int] = set()
    for column in batch.columns:
        raw = not anew and not column.computed and column.field not in seen
        if raw and run and column.field == run.stop:
            run = range(run.start, run.stop + 1)
        else:
            if run:
                yield run
            run = range(column.field, column.field + 1) if raw else range(0)
        seen.add(column.field)
        if not raw:
            yield quoted(batch.text(column), header) if anew else _binary(batch.raw(column))
    if run:
        yield run


def _alone(batch: Batch, header: Header, anew: bool) -> Any:
    """The only column: an empty field is quoted, as its record would be a blank line."""
    column = batch.columns[0]
    only = quoted(batch.text(column), header) if anew else _binary(batch.raw(column))
    empty = _empty(only)
    if header.quote and empty.any():
        only = pc.if_else(mask_array(empty), byte_scalar(header.quote * 2), only)
    return only


def _binary(values: Any) -> Any:
    return values if values.type == pa.binary() else values.view(pa.binary())


def _empty(raw: Any) -> Any:
    return mask_to_numpy(pc.equal(raw, byte_scalar(b"")))


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
    name = text_array([column.name])
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
    rows, numbers = batch.rows, batch.body.numbers
    return Encoded(
        batch.segments, tuple(bodies), tuple(counts), b"", names, b"\n", batch.rejects, rows=rows, numbers=numbers
    )
