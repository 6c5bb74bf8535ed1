"""Find every record and field of a chunk at once.

Three ways to look, one answer. Delimiters and line feeds of a chunk, as positions from numpy, reshaped to
(records, columns), are every field's end, when the last column is all line feeds. Quotes are the same with
one step before: positions with an odd number of quotes before them lie inside a field and are dropped,
provided that every opening quote stands at the start of a field. Ragged and blank lines break the rectangle
and are told apart by the number of delimiters between line feeds. Whatever is left (a stray quote, a lone
CR, an unclosed quote) takes the precise path. Property tests hold the three together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aiopipe.arrays import Ints, Mask
from aiopipe.codec import bits, precise
from aiopipe.codec.cut import inside_quotes
from aiopipe.codec.dialect import Dialect
from aiopipe.codec.found import Bad, Index, checked, ragged, unclosed
from aiopipe.fields import unquote_one

__all__ = ["Index", "header_fields", "index", "index_precisely"]


class _Marks(NamedTuple):
    """A chunk's bytes, which of them are line feeds, and the separators outside quotes, in order.

    A file without a final line end has one more separator, at its size. ended: line feeds among them.
    """

    b: npt.NDArray[np.uint8]
    newline: Mask
    separators: Ints
    ended: int
    quoted: bool
    returns: bool
    lines: int


def index(data: bytes, dialect: Dialect, columns: int) -> Index:
    """Find records and fields in `data`, which starts with a record and ends with one (or with the file)."""
    marks = _marks(data, dialect)
    if marks is None:
        return index_precisely(data, dialect, columns)
    found = _rectangle(marks, columns) if columns else None
    return checked(data, dialect, found if found is not None else _ragged(marks, columns))


def _marks(data: bytes, dialect: Dialect) -> _Marks | None:
    """The separators of `data`; None when only the precise path can tell them."""
    b = np.frombuffer(data, np.uint8)
    newline = b == 10
    wanted = b == dialect.d
    wanted |= newline
    ended = lines = int(np.count_nonzero(newline))
    returns = b"\r" in data
    quoted = bool(dialect.quote) and dialect.quote.encode() in data
    if quoted:
        separators, newlines = bits.pack(wanted), bits.pack(newline)
        crs = bits.pack(b == 13) if returns else None
        inside = inside_quotes(bits.pack(b == dialect.q), separators if crs is None else separators | crs)
        if inside is None or inside[-1] >> 63:  # stray, or still open at the end
            return None
        if crs is not None:
            alone = crs & ~bits.earlier(newlines)
            if (alone & ~inside).any():
                return None
            lines += bits.count(alone)
        wanted = bits.unpack(separators & ~inside, len(b))
        ended = bits.count(newlines & ~inside)
    elif returns:
        after = np.flatnonzero(b == 13) + 1
        if after[-1] == len(b) or not newline[after].all():
            return None
    places = np.flatnonzero(wanted)
    if data[-1:] not in (b"\n", b""):
        places, lines = np.append(places, len(b)), lines + 1
    return _Marks(b, newline, places, ended, quoted, returns, lines)


def _rectangle(marks: _Marks, columns: int) -> Index | None:
    """The common case: every record has `columns` fields. None when line feeds stand elsewhere."""
    b, newline, separators = marks.b, marks.newline, marks.separators
    n, odd = divmod(len(separators), columns)
    if odd:
        return None
    ends = separators.reshape(n, columns)
    last = ends[:, -1]
    open_end = n > 0 and int(last[-1]) == len(b)
    # Every last separator is a line feed, and no other is one.
    closing = last[:-1] if open_end else last
    if marks.ended != len(closing) or not newline[closing].all():
        return None
    starts = np.empty(n, np.int64)
    starts[:1] = 0
    starts[1:] = last[:-1] + 1
    stops = last + 1
    if open_end:
        stops[-1] = len(b)
    stems = last - _crs_before(b, last, starts) if marks.returns else last
    if columns == 1 and bool((stems == starts).any()):
        return None  # blank lines are no records
    if marks.returns:
        ends[:, -1] = stems  # the separators are nobody else's
    return Index(starts, ends, stops, None, [], marks.quoted, n, marks.lines)


def _crs_before(b: npt.NDArray[np.uint8], newlines: Ints, starts: Ints) -> Mask:
    """Which line feeds have their CR before them (not so the end of a file without a line end)."""
    found: Mask = (b[np.maximum(newlines - 1, 0)] == 13) & (newlines > starts) & (newlines < len(b))
    return found


def _ragged(marks: _Marks, columns: int) -> Index:
    """Records of any number of fields: the right ones are kept, blank lines passed over, others are bad."""
    b, newline, separators = marks.b, marks.newline, marks.separators
    is_end = np.ones(len(separators), np.bool_)
    inner = separators < len(b)
    is_end[inner] = newline[separators[inner]]
    last = np.flatnonzero(is_end)
    line_end = separators[last]
    starts = np.empty(len(last), np.int64)
    starts[:1] = 0
    starts[1:] = line_end[:-1] + 1
    stops = np.minimum(line_end + 1, len(b))
    stems = line_end - _crs_before(b, line_end, starts) if marks.returns else line_end
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
    return Index(starts[good], ends, stops[good], numbers[good], bad, marks.quoted, total, marks.lines)


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
        np.array([r.ends for r in good], np.int64).reshape(len(good), columns),
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
