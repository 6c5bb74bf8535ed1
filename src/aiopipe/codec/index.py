"""Find every record and field of a chunk at once.

Three ways to look, one answer. Delimiters and line feeds of a chunk, as positions from numpy, reshaped to
(records, columns), are every field's end, when the last column is all line feeds. Quotes are the same with
one step before: positions with an odd number of quotes before them lie inside a field and are dropped,
provided that the quotes alternate as RFC 4180 has them. Ragged and blank lines break the rectangle and are
told apart by the number of delimiters between line feeds. Whatever is left (a stray quote, a lone CR, an
unclosed quote) takes the precise path. Property tests hold the three together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from aiopipe.arrays import Ints, Mask
from aiopipe.codec import precise
from aiopipe.codec.cut import quotes_agree
from aiopipe.codec.dialect import Dialect

__all__ = ["Index", "index", "index_precisely"]


class Bad(NamedTuple):
    """A malformed record: its place among all records of the chunk, where it lies, and what is wrong."""

    number: int
    start: int
    stop: int
    reason: str
    hint: str


class Index(NamedTuple):
    """Where the good records and their fields lie (see batch.Body), and the bad ones.

    records and lines count everything in the chunk.
    """

    starts: Ints
    ends: Ints
    stops: Ints
    numbers: Ints | None
    bad: list[Bad]
    quoted: bool
    plain_newlines: bool
    records: int
    lines: int


class _Table(NamedTuple):
    """Records before anything is judged: `last` is each one's line feed among the separators."""

    starts: Ints
    stops: Ints
    fields: Ints
    separators: Ints
    last: Ints


def index(data: bytes, dialect: Dialect, columns: int) -> Index:
    """Find records and fields in `data`, which starts with a record and ends with one (or with the file)."""
    quoted = bool(dialect.quote) and dialect.quote.encode() in data
    b = np.frombuffer(data, np.uint8)
    newline = b == 10
    wanted = b == dialect.d
    wanted |= newline
    if quoted:
        isq = b == dialect.q
        q = np.flatnonzero(isq)
        if len(q) & 1 or not quotes_agree(b, q, dialect):
            return index_precisely(data, dialect, columns)
        inside = np.add.accumulate(isq, dtype=np.uint8)
        inside &= 1
        wanted &= inside == 0
    returns = b"\r" in data
    if returns:
        r = np.flatnonzero(b == 13)
        if quoted:
            r = r[inside[r] == 0]
        if len(r) and (r[-1] + 1 >= len(b) or not newline[r + 1].all()):
            return index_precisely(data, dialect, columns)
    separators = np.flatnonzero(wanted)
    lines = int(np.count_nonzero(newline))
    if len(data) and data[-1] != 10:
        separators = np.append(separators, len(data))
        lines += 1
    if not quoted:
        ended = lines
    else:
        outer = separators if len(data) and data[-1] == 10 else separators[:-1]
        ended = int(np.count_nonzero(newline[outer])) + len(separators) - len(outer)
    if columns and len(separators) == ended * columns:
        found = _rectangle(data, b, separators, ended, columns, returns, newline, quoted, lines)
        if found is not None:
            return _checked(data, dialect, found)
    return _checked(data, dialect, _ragged(data, b, separators, columns, returns, newline, quoted, lines))


def _rectangle(
    data: bytes,
    b: npt.NDArray[np.uint8],
    separators: Ints,
    n: int,
    columns: int,
    returns: bool,
    newline: Mask,
    quoted: bool,
    lines: int,
) -> Index | None:
    """The common case: every record has `columns` fields. None when line feeds stand elsewhere."""
    ends = separators.reshape(n, columns)
    last = ends[:, -1]
    closing = last if data[-1:] == b"\n" else last[:-1]
    if not newline[closing].all():
        return None
    starts = np.empty(n, np.int64)
    starts[:1] = 0
    starts[1:] = last[:-1] + 1
    stops = last + 1
    if n and data[-1] != 10:
        stops[-1] = len(data)
    if returns:
        ends = ends.copy()
        ends[:, -1] -= _returns_before(b, last, starts if columns == 1 else ends[:, -2] + 1)
    if columns == 1 and bool((ends[:, 0] == starts).any()):
        return None  # blank lines are no records
    return Index(starts, ends, stops, None, [], quoted, not returns, n, lines)


def _returns_before(b: npt.NDArray[np.uint8], newlines: Ints, starts: Ints) -> Mask:
    """Which line feeds have their CR before them (not at the end of a file without a line end)."""
    before = np.maximum(newlines - 1, 0)
    found: Mask = (b[before] == 13) & (newlines > starts) & (newlines < len(b))
    return found


def _ragged(
    data: bytes,
    b: npt.NDArray[np.uint8],
    separators: Ints,
    columns: int,
    returns: bool,
    newline: Mask,
    quoted: bool,
    lines: int,
) -> Index:
    """Records of any number of fields: the right ones are kept, blank lines passed over, others are bad."""
    is_end = np.ones(len(separators), np.bool_)
    inner = separators < len(b)
    is_end[inner] = newline[separators[inner]]
    last = np.flatnonzero(is_end)
    line_end = separators[last]
    starts = np.empty(len(last), np.int64)
    starts[:1] = 0
    starts[1:] = line_end[:-1] + 1
    stops = np.minimum(line_end + 1, len(b))
    fields = np.diff(last, prepend=-1)
    stems = line_end - _returns_before(b, line_end, starts) if returns else line_end
    blank = stems == starts
    numbers = np.cumsum(~blank) - 1
    good = (fields == columns) & ~blank
    bad = [
        Bad(int(numbers[i]), int(starts[i]), int(stops[i]), *ragged_reason(int(fields[i]), columns))
        for i in np.flatnonzero(~good & ~blank).tolist()
    ]
    chosen = last[good]
    ends = separators[chosen[:, None] - np.arange(columns - 1, -1, -1)]
    if returns and len(ends):
        ends[:, -1] = stems[good]
    return Index(
        starts[good],
        ends,
        stops[good],
        numbers[good],
        bad,
        quoted,
        not returns,
        int(np.count_nonzero(~blank)),
        lines,
    )


def ragged_reason(fields: int, columns: int) -> tuple[str, str]:
    """What to say of a record with `fields` fields under a header with `columns`."""
    return (
        f"{fields} field{'s' if fields != 1 else ''}, header has {columns}",
        "mend the record, or set such records aside with --rejects FILE",
    )


def index_precisely(data: bytes, dialect: Dialect, columns: int) -> Index:
    """The same answer, record by record; also the reference that property tests hold the others to."""
    good: list[precise.Record] = []
    numbers: list[int] = []
    bad: list[Bad] = []
    count = -1
    for count, record in enumerate(precise.records(data, dialect)):
        if record.unclosed >= 0:
            reason = "a quote is opened and never closed"
            hint = "close the quote, or say --quote none if quotes mean nothing in this file"
            bad.append(Bad(count, record.start, record.stop, reason, hint))
        elif len(record.ends) != columns:
            bad.append(Bad(count, record.start, record.stop, *ragged_reason(len(record.ends), columns)))
        else:
            good.append(record)
            numbers.append(count)
    lines = data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")
    return _checked(
        data,
        dialect,
        Index(
            np.array([r.start for r in good], np.int64),
            np.array([r.ends for r in good], np.int64).reshape(len(good), columns),
            np.array([r.stop for r in good], np.int64),
            np.array(numbers, np.int64),
            bad,
            bool(dialect.quote) and dialect.quote.encode() in data,
            b"\r" not in data,
            count + 1,
            lines + (data[-1:] not in (b"\n", b"\r", b"")),
        ),
    )


def _checked(data: bytes, dialect: Dialect, found: Index) -> Index:
    """Take out records with NUL bytes, bytes that are no UTF-8, or more bytes than the limit."""
    faults: dict[int, tuple[str, str]] = {}
    if len(data) > dialect.max_record:
        for i in np.flatnonzero(found.stops - found.starts > dialect.max_record).tolist():
            size = int(found.stops[i] - found.starts[i])
            faults[i] = (
                f"a record of {size} bytes, over the limit of {dialect.max_record}",
                "raise --max-record",
            )
    if b"\0" in data:
        at = np.flatnonzero(np.frombuffer(data, np.uint8) == 0)
        rows = np.searchsorted(found.starts, at, side="right") - 1
        for i in np.unique(rows[(rows >= 0)]).tolist():
            if b"\0" in data[int(found.starts[i]) : int(found.stops[i])]:
                faults[i] = (
                    "a NUL byte",
                    "the file may be UTF-16 (say --encoding utf-16) or damaged",
                )
    if dialect.inner_encoding == "utf-8" and not data.isascii() and not _valid_utf8(data):
        for i in range(len(found.starts)):
            record = data[int(found.starts[i]) : int(found.stops[i])]
            if not record.isascii():
                try:
                    record.decode()
                except UnicodeDecodeError as error:
                    faults[i] = (
                        f"byte 0x{record[error.start]:02X} is not valid UTF-8",
                        "say --encoding cp1252 (or latin-1, ...) if the file is not UTF-8",
                    )
    elif dialect.inner_encoding == "ascii" and not data.isascii():
        for i in range(len(found.starts)):
            if not data[int(found.starts[i]) : int(found.stops[i])].isascii():
                faults[i] = ("a byte that is not ASCII", "say --encoding utf-8 (or cp1252, ...)")
    return _without(found, faults) if faults else found


def _valid_utf8(data: bytes) -> bool:
    offsets = pa.py_buffer(np.array([0, len(data)], np.int32))
    text = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(data)])
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _without(found: Index, faults: dict[int, tuple[str, str]]) -> Index:
    keep = np.ones(len(found.starts), np.bool_)
    keep[list(faults)] = False
    numbers = found.numbers if found.numbers is not None else np.arange(len(found.starts))
    new = [Bad(int(numbers[i]), int(found.starts[i]), int(found.stops[i]), *why) for i, why in faults.items()]
    return found._replace(
        starts=found.starts[keep],
        ends=found.ends[keep],
        stops=found.stops[keep],
        numbers=numbers[keep],
        bad=sorted([*found.bad, *new]),
    )


def header_fields(raw: Sequence[bytes], dialect: Dialect) -> list[str]:
    """Column names from the raw fields of a header record. UnicodeDecodeError where they are not text."""
    from aiopipe.batch import unquote_one

    mark = dialect.quote.encode()
    return [(unquote_one(f, mark) if mark else f).decode(dialect.inner_encoding) for f in raw]
