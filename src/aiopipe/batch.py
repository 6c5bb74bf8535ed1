"""Batch: records that parse themselves only as far as somebody looks.

A batch holds the bytes of its records as they were read and where each field ends. Stages narrow it
(`filter`, `take`), and add or rearrange columns; a column nobody names is never decoded, and a field nobody
changed leaves as the bytes it came in. How the positions are found is the codec's business, not this file's.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa

from aiopipe import kernels as pc
from aiopipe.arrays import Ints, Mask, gather, mask_array
from aiopipe.ends import Ends, Table
from aiopipe.errors import UnknownNameError, column_hint
from aiopipe.fields import decoded, quoted, unquoted
from aiopipe.model import FileRef, Position, Reject, files_from, files_in_columns
from aiopipe.tuples import NamedTuple

__all__ = ["Batch", "Body", "Column", "Header", "Segment", "duplicates", "from_columns", "in_columns", "quoted"]


class Header(NamedTuple):
    """What stands before the records of a file, and how its fields are written.

    names: the columns as stages call them. raw: the same as the file writes them, quotes and all. bom and
    newline: kept for the output. present: False when the file has no header record. delimiter, quote: one
    byte each (quote may be empty: nothing is quoted). encoding: of the field values; the bytes of records are
    always a superset of ASCII here, see codec.dialect. transcode: the file's own encoding, where its bytes
    became UTF-8 on the way in and must become it again on the way out.
    """

    names: tuple[str, ...]
    raw: tuple[bytes, ...]
    bom: bytes = b""
    newline: bytes = b"\n"
    present: bool = True
    delimiter: bytes = b","
    quote: bytes = b'"'
    encoding: str = "utf-8"
    transcode: str = ""


class Segment(NamedTuple):
    """The records of a chunk that come from one file. A tuple, because a chunk may have hundreds of them.

    part counts the file's chunks from 0, `last` marks the final one. offset is where its bytes begin in the
    chunk's data, byte where they begin in the file (-1: unknown, the file was transcoded); records and lines
    count all of them, good or not. head_lines: lines before the file's first record, on its first part.
    clipped: 1 when a line feed was put behind the last record to part it from its neighbour in the chunk;
    decode leaves it out again. first: the number of its first record in the chunk. more: a stage cut the
    part in slices, and another one follows.
    """

    file: FileRef
    part: int
    last: bool
    offset: int
    byte: int
    records: int = 0
    lines: int = 0
    head_lines: int = 0
    clipped: int = 0
    first: int = 0
    more: bool = False

    def emptied(self) -> Segment:
        """The same part of the file, without its records."""
        return self._replace(offset=0, byte=-1, records=0, lines=0, clipped=0, first=0)

    def counted(self, records: int, first: int, lines: int) -> Segment:
        """The same with its counts; spelt out, because `_replace` takes four times as long, once for every file."""
        file, part, last, offset, byte, _, _, head_lines, clipped, _, more = self
        return Segment(file, part, last, offset, byte, records, lines, head_lines, clipped, first, more)

    def reject(
        self,
        position: Position,
        stage: str,
        reason: str,
        raw: bytes,
        hint: str = "",
        kind: str = "record",
        trace: str = "",
    ) -> Reject:
        """A record of this segment set aside; its position counts from the chunk's start, see Reject."""
        lines = self.head_lines if self.part == 0 else 0
        return Reject(self.file, position, stage, reason, raw, hint, kind, trace, self.part, lines)


def in_columns(segments: Sequence[Segment]) -> tuple[tuple[Any, ...], ...]:
    """Segments and their files as columns, to be pickled: lists of plain values take a fifth of the time."""
    files, *rest = zip(*segments, strict=True) if segments else [()] * len(Segment._fields)
    return (files_in_columns(files), *rest)


def from_columns(columns: tuple[tuple[Any, ...], ...]) -> tuple[Segment, ...]:
    """What `in_columns` took apart."""
    files, *rest = columns
    return tuple(map(Segment, files_from(files), *rest))


@dataclass(slots=True, eq=False, repr=False)
class Body:
    """Bytes and where their records and fields lie; shared, never changed, by every batch cut from it.

    starts, stops: each record with its line end. ends: where each field ends.
    numbers: each record's place among all records of the chunk (None: 0, 1, 2, ...).
    bounds: first record of each segment, and the number of records: one more than there are segments.
    homes: for records a stage wrote anew, the body and record each of them came from.
    typed: columns of all records that have been converted, for the next stage that asks (see stages/_expressions).
    """

    data: bytes
    header: Header
    starts: Ints
    ends: Ends
    stops: Ints
    segments: tuple[Segment, ...]
    bounds: Ints
    numbers: Ints | None = None
    quoted: bool = False
    homes: Sequence[tuple[Body, int]] | None = None
    buffer: Any = field(init=False, repr=False, compare=False)
    typed: dict[Any, Any] = field(init=False, repr=False, compare=False, default_factory=dict)
    _line_ends: Ints | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        self.buffer = pa.py_buffer(self.data)

    def __reduce__(self) -> tuple[object, ...]:
        # Everything but the buffer, which is only another view of the data, and what can be found or made again.
        return (Body, tuple(getattr(self, f.name) for f in fields(self) if f.init))

    def __len__(self) -> int:
        return len(self.starts)

    def field(self, k: int, rows: Ints | None) -> Any:
        """Field `k` of the records `rows` as the file writes it: quotes stay."""
        starts, ends = self.ends.span(k, rows, self.starts)
        return gather(self.buffer, starts, ends)

    def bare(self, k: int, rows: Ints | None) -> tuple[Ints, Ints]:
        """Where field `k` of the records `rows` begins and ends, without the quotes around it where it has some.

        Where there are more quotes than those two, that is not its value (see fields.unquoted).
        """
        starts, ends = self.ends.span(k, rows, self.starts)
        if not self.quoted:
            return starts, ends
        b = np.frombuffer(self.data, np.uint8)
        wrapped = np.take(b, starts, mode="clip") == ord(self.header.quote)
        if wrapped.any():
            wrapped &= (np.take(b, ends - 1, mode="clip") == ord(self.header.quote)) & (ends - starts > 1)
            starts, ends = starts + wrapped, ends - wrapped
        return starts, ends

    def lines(self, rows: Ints | None) -> Any:
        """The records `rows` with their line ends, byte for byte."""
        if rows is None:
            return gather(self.buffer, self.starts, self.stops)
        return gather(self.buffer, self.starts[rows], self.stops[rows])

    def gapless(self) -> bool:
        """True when each record begins where the one before it ends: none is missing, no line is blank."""
        return bool((self.starts[1:] == self.stops[:-1]).all())

    def place(self, row: int) -> tuple[Segment, Position, bytes]:
        """Where record `row` stood in the input, counted from its chunk's start, and its bytes there."""
        if self.homes is not None:
            home, there = self.homes[row]
            return home.place(there)
        start, stop = int(self.starts[row]), int(self.stops[row])
        segment = self.segment_at(start)
        return segment, self.locate(segment, start, self.number(row)), self.data[start:stop]

    def number(self, row: int) -> int:
        """Record `row`'s place among all records of the chunk, malformed ones included, from 0."""
        return row if self.numbers is None else int(self.numbers[row])

    def segment_at(self, start: int) -> Segment:
        """The segment of the record that starts at byte `start` of the data."""
        return self.segments[bisect_right(self.segments, start, key=lambda s: s.offset) - 1]

    def locate(self, segment: Segment, start: int, number: int) -> Position:
        """The position of the record that starts at `start`, counted from the segment's first record."""
        ends = self._lines_end_at()
        line = int(np.searchsorted(ends, start) - np.searchsorted(ends, segment.offset))
        return Position(
            segment.file.path,
            line + 1,
            number - segment.first + 1,
            None if segment.byte < 0 else segment.byte + start - segment.offset,
        )

    def _lines_end_at(self) -> Ints:
        """Where lines end: each LF, and each CR without one. Found once, so that many rejects stay cheap."""
        if self._line_ends is None:
            b = np.frombuffer(self.data, np.uint8)
            ends = np.flatnonzero(b == 10)
            if b"\r" in self.data:
                crs = np.flatnonzero(b == 13)
                ends = np.union1d(ends, crs[b[np.minimum(crs + 1, len(b) - 1)] != 10])
            self._line_ends = ends
        return self._line_ends


class Column(NamedTuple):
    """A column of a batch: a field of its body as read, or values that a stage computed.

    values: when field < 0, an Arrow string array as long as the batch. written: the same as bytes, where a
    stage knows better than the encoder how each was written (a value it did not change keeps its quotes).
    """

    name: str
    field: int = -1
    values: Any = None
    written: Any = None

    @property
    def computed(self) -> bool:
        """True when a stage made the values; False when they are the file's own bytes."""
        return self.field < 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in flight, with the columns a pipeline sees at this point.

    body: their bytes. columns: names in order. rows: which records of the body are still in, None for all.
    rejects: those set aside so far, in order. noted: what a stage counted, for the report; see stage.Items.
    """

    body: Body
    columns: tuple[Column, ...]
    rows: Ints | None = None
    rejects: tuple[Reject, ...] = ()
    noted: tuple[tuple[str, int], ...] = ()

    def __len__(self) -> int:
        return len(self.body) if self.rows is None else len(self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes this batch keeps alive, about: data, positions and columns that were converted."""
        body = self.body
        typed = sum(int(values.nbytes) for values in list(body.typed.values()))
        return len(body.data) + body.ends.nbytes + int(body.starts.nbytes + body.stops.nbytes) + typed

    @property
    def names(self) -> tuple[str, ...]:
        """The column names in order."""
        return tuple(c.name for c in self.columns)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The files, or parts of files, that the records come from."""
        return self.body.segments

    def counts(self) -> list[int]:
        """How many records each segment still has."""
        bounds = self.body.bounds
        if self.rows is not None:
            bounds = np.searchsorted(self.rows, bounds)
        kept: list[int] = np.diff(bounds).tolist()
        return kept

    def apart(self) -> list[Batch]:
        """The batch taken apart by file."""
        if len(self.segments) == 1:
            return [self]
        out, at = [], 0
        rows = np.arange(len(self.body)) if self.rows is None else self.rows
        for i, (segment, count) in enumerate(zip(self.segments, self.counts(), strict=True)):
            body = replace(self.body, segments=(segment,), bounds=self.body.bounds[i : i + 2])
            columns = tuple(
                c._replace(
                    values=c.values.slice(at, count),
                    written=None if c.written is None else c.written.slice(at, count),
                )
                if c.computed
                else c
                for c in self.columns
            )
            rejects = tuple(r for r in self.rejects if r.file.index == segment.file.index)
            out.append(Batch(body, columns, rows[at : at + count], rejects))
            at += count
        return out

    def emptied(self) -> Batch:
        """What goes on in the place of records that could not be used: the same parts of files, as of empty ones."""
        segments = tuple(s.emptied() for s in self.segments)
        none: Ints = np.zeros(0, np.int64)
        bounds: Ints = np.zeros(len(segments) + 1, np.int64)
        header = self.body.header._replace(names=(), raw=())
        body = Body(b"", header, none, Table(np.zeros((0, 0), np.int64)), none, segments, bounds)
        return Batch(body, (), None, self.rejects)

    def column(self, name: str) -> Column:
        """The column called `name`; UnknownNameError names the nearest when there is none."""
        found = [c for c in self.columns if c.name == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise UnknownNameError(
                f"column {name!r} stands {len(found)} times in the header",
                position=self._file(),
                hint="read it with --duplicate-columns number (x, x_2, ...), then name one of them",
            )
        raise UnknownNameError(f"no column {name!r}", position=self._file(), hint=column_hint(name, self.names))

    def _file(self) -> Position | None:
        """Whose header this is: files of one chunk share it."""
        return Position(self.segments[0].file.path) if self.segments else None

    def raw(self, column: Column) -> Any:
        """The fields of `column` as bytes, as they will be written."""
        if not column.computed:
            return self.body.field(column.field, self.rows)
        return quoted(column.values, self.body.header) if column.written is None else column.written

    def values(self, name: str) -> Any:
        """The values of a column as an Arrow string array: unquoted and decoded."""
        return self.text(self.column(name))

    def text(self, column: Column) -> Any:
        """The same of one of `columns`, for when names stand more than once."""
        if column.computed:
            return column.values
        raw = self.body.field(column.field, self.rows)
        if self.body.quoted:
            raw = unquoted(raw, self.body.header.quote)
        return decoded(raw, self.body.header.encoding)

    def filter(self, mask: Mask) -> Batch:
        """The records where `mask` is true, in order."""
        if mask.all():
            return self
        rows = np.flatnonzero(mask) if self.rows is None else self.rows[mask]
        keep: Any = None
        columns = []
        for column in self.columns:
            if column.computed:
                keep = mask_array(mask) if keep is None else keep
                written = None if column.written is None else pc.filter(column.written, keep)
                column = column._replace(values=pc.filter(column.values, keep), written=written)
            columns.append(column)
        return replace(self, rows=rows, columns=tuple(columns))

    def with_columns(self, new: Mapping[str, Any]) -> Batch:
        """With computed columns: a name that is there is replaced in place, another is added at the end."""
        columns = list(self.columns)
        at = {c.name: i for i, c in enumerate(columns)}
        for name, values in new.items():
            column = Column(name, -1, values)
            if name in at:
                columns[at[name]] = column
            else:
                at[name] = len(columns)
                columns.append(column)
        return replace(self, columns=tuple(columns))

    def select(self, names: Sequence[str]) -> Batch:
        """Only the columns `names`, in that order."""
        return replace(self, columns=tuple(self.column(n) for n in names))

    def rename(self, names: Mapping[str, str]) -> Batch:
        """Columns called otherwise; their values are not touched."""
        for old in names:
            self.column(old)
        return replace(self, columns=tuple(c._replace(name=names.get(c.name, c.name)) for c in self.columns))

    def reject(
        self,
        mask: Mask,
        stage: str,
        reason: Callable[[int], str],
        hint: str = "",
        kind: str = "record",
    ) -> Batch:
        """Set aside the records where `mask` is true; `reason` gets each one's place in the batch."""
        bad = np.flatnonzero(mask)
        if len(bad) == 0:
            return self
        made = []
        for i in bad.tolist():
            row = i if self.rows is None else int(self.rows[i])
            segment, position, raw = self.body.place(row)
            made.append(segment.reject(position, stage, reason(i), raw, hint, kind))
        return replace(self.filter(~mask), rejects=self.rejects + tuple(made))

    def untouched(self) -> bool:
        """True when the columns are the body's own, all of them, in order: lines leave as they are."""
        return len(self.columns) == self.body.ends.columns and all(c.field == k for k, c in enumerate(self.columns))


def duplicates(names: Iterable[str]) -> dict[str, list[int]]:
    """Names that stand more than once, with their places counted from 1."""
    seen: dict[str, list[int]] = {}
    for i, name in enumerate(names, 1):
        seen.setdefault(name, []).append(i)
    return {name: places for name, places in seen.items() if len(places) > 1}
