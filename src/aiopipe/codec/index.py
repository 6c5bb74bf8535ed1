"""Find every record and field of a chunk at once.

Three ways to look, one answer. Delimiters and line feeds of a chunk are bits, 64 places to a word. When each line
feed is the last of as many separators as there are columns, the chunk is a rectangle, and where a field ends is
a matter of counting, left to whoever asks. Quotes are the same with one step before: places with an odd number
of quotes before them lie inside a field and are dropped, provided that every opening quote stands at the start of
a field. Ragged and blank lines break the rectangle and are told apart by the number of delimiters between line
feeds. Whatever is left (a stray quote, a lone CR, an unclosed quote) takes the precise path. Property tests hold
the three together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiopipe import bits
from aiopipe.arrays import Bytes, Ints, Mask
from aiopipe.bits import Ranked, Words
from aiopipe.codec import precise
from aiopipe.codec.cut import inside_quotes
from aiopipe.codec.dialect import Dialect
from aiopipe.codec.found import Bad, Index, checked, ragged, unclosed
from aiopipe.ends import Counted, Table
from aiopipe.fields import unquote_one
from aiopipe.tuples import NamedTuple

__all__ = ["Index", "header_fields", "index", "index_precisely"]


class _Marks(NamedTuple):
    """A chunk's bytes, with its separators and the line feeds among them, quoted ones left out, as bits.

    A file without a final line end has one more separator, at its size.
    """

    b: Bytes
    separators: Words
    newlines: Words
    quoted: bool
    returns: bool
    plain: bool
    lines: int


def index(data: bytes, dialect: Dialect, columns: int) -> Index:
    """Find records and fields in `data`, which starts with a record and ends with one (or with the file)."""
    marks = _marks(data, dialect)
    if marks is None:
        return index_precisely(data, dialect, columns)
    found = _rectangle(marks, columns) if columns else None
    return checked(data, dialect, found if found is not None else _ragged(marks, columns), plain=marks.plain)


def _marks(data: bytes, dialect: Dialect) -> _Marks | None:
    """The separators of `data`; None when only the precise path can tell them."""
    delimiters, newlines, returns, quoted, plain = bits.scan(data, dialect.d, dialect.q if dialect.quote else None)
    separators = delimiters | newlines
    crs = bits.places_of(data, 13) if returns else None
    lines = bits.count(newlines)
    if crs is not None:
        alone = crs & ~bits.earlier(newlines)
        lines += bits.count(alone)
    if quoted:
        inside = inside_quotes(bits.places_of(data, dialect.q), separators if crs is None else separators | crs)
        if inside is None or inside[-1] >> 63:  # stray, or still open at the end
            return None
        separators &= ~inside
        newlines &= ~inside
        if crs is not None:
            alone &= ~inside
    if crs is not None and alone.any():
        return None
    if data[-1:] not in (b"\n", b""):
        bits.mark(separators, len(data))
        bits.mark(newlines, len(data))
        lines += 1
    return _Marks(np.frombuffer(data, np.uint8), separators, newlines, quoted, returns, plain, lines)


def _rectangle(marks: _Marks, columns: int) -> Index | None:
    """The common case: every record has `columns` fields. None when line feeds stand elsewhere."""
    separators = Ranked(marks.separators)
    n = bits.count(marks.newlines)
    if separators.total != n * columns:
        return None
    # Line feeds are few and quickly listed; where each is the last of its `columns` separators, counted from the
    # first of all, no record has more or fewer.
    ends = bits.places(marks.newlines)
    if not np.array_equal(separators.rank(ends), np.arange(columns - 1, n * columns, columns, dtype=np.int32)):
        return None
    starts, stops, stems = _lines(marks, ends)
    if columns == 1 and bool((stems == starts).any()):
        return None  # blank lines are no records
    return Index(starts, Counted(separators, starts, stems, columns), stops, None, [], marks.quoted, n, marks.lines)


def _lines(marks: _Marks, ends: Ints) -> tuple[Ints, Ints, Ints]:
    """Of lines with these separators behind them: where they start, stop, and where their last field ends."""
    starts = np.empty(len(ends), np.int64)
    starts[:1] = 0
    np.add(ends[:-1], 1, out=starts[1:])
    stops = ends + 1
    stops[-1:] = np.minimum(stops[-1:], len(marks.b))  # a file without a line end
    return starts, stops, ends - _crs_before(marks.b, ends, starts) if marks.returns else ends


def _crs_before(b: Bytes, newlines: Ints, starts: Ints) -> Mask:
    """Which line feeds have their CR before them (not so the end of a file without a line end)."""
    found: Mask = (b[np.maximum(newlines - 1, 0)] == 13) & (newlines > starts) & (newlines < len(b))
    return found


def _ragged(marks: _Marks, columns: int) -> Index:
    """Records of any number of fields: the right ones are kept, blank lines passed over, others are bad."""
    separators, line_end = bits.places(marks.separators), bits.places(marks.newlines)
    last = np.searchsorted(separators, line_end)
    starts, stops, stems = _lines(marks, line_end)
    fields = np.diff(last, prepend=-1)
    record = stems > starts
    numbers = np.cumsum(record) - 1
    good = record & (fields == columns)
    bad = [
        ragged(int(numbers[i]), int(starts[i]), int(stops[i]), int(fields[i]), columns)
        for i in np.flatnonzero(record & ~good).tolist()
    ]
    ends = separators[last[good][:, None] - np.arange(columns - 1, -1, -1)]
    if columns:
        ends[:, -1] = stems[good]
    total = int(np.count_nonzero(record))
    return Index(starts[good], Table(ends), stops[good], numbers[good], bad, marks.quoted, total, marks.lines)


def index_precisely(data: bytes, dialect: Dialect, columns: int) -> Index:
    """The same answer, record by record; also the reference that property tests hold the others to."""
    good: list[precise.Record] = []
    numbers: list[int] = []
    bad: list[Bad] = []
    count = -1
    for count, record in enumerate(precise.records(data, dialect)):
        if record.unclosed >= 0:
            bad.append(unclosed(count, record.start, record.stop))
        elif len(record.ends) != columns:
            bad.append(ragged(count, record.start, record.stop, len(record.ends), columns))
        else:
            good.append(record)
            numbers.append(count)
    found = Index(
        np.array([r.start for r in good], np.int64),
        Table(np.array([r.ends for r in good], np.int64).reshape(len(good), columns)),
        np.array([r.stop for r in good], np.int64),
        np.array(numbers, np.int64),
        bad,
        bool(dialect.quote) and dialect.quote.encode() in data,
        count + 1,
        count_lines(data, 0, len(data)),
    )
    return checked(data, dialect, found)


def count_lines(data: bytes, start: int, stop: int) -> int:
    """Lines of data[start:stop]: LF, CRLF or a lone CR ends one, in quotes too; the last may have no end."""
    ends = data.count(b"\n", start, stop) + data.count(b"\r", start, stop) - data.count(b"\r\n", start, stop)
    return ends + (stop > start and data[stop - 1] not in b"\r\n")


def header_fields(raw: Sequence[bytes], dialect: Dialect) -> list[str]:
    """Column names from the raw fields of a header record. UnicodeDecodeError where they are not text."""
    mark = dialect.quote.encode()
    return [(unquote_one(f, mark) if mark else f).decode(dialect.inner_encoding) for f in raw]
