"""CSV bytes as hypothesis finds them most harmful, and slow readers that share no code with aiopipe."""

from __future__ import annotations

import csv
import io
import random
from functools import lru_cache
from typing import NamedTuple, TypeVar

from hypothesis import strategies as st

from aiopipe.batch import Header, Segment
from aiopipe.codec.chunk import Chunk
from aiopipe.codec.dialect import Dialect
from aiopipe.model import FileRef

T = TypeVar("T")
csv.field_size_limit(1 << 30)

VALUES = ["", "7", "007", "1.10", "-0", "1e5", " x", "x ", "NA", "é", "日本", "x\u2028y", "𝄞", "a b"]
DIALECTS = [Dialect(delimiter=d, quote=q) for d in ",;\t|" for q in ['"', '"', "'", ""]]


@lru_cache(maxsize=64)
def pool(dialect: Dialect, sane: bool, width: int) -> list[bytes | None]:
    """256 fields, one for each byte that hypothesis draws; None, in wild files, breaks the record's width."""
    rng = random.Random(7)
    d, q = dialect.delimiter, dialect.quote or '"'
    inside = [*VALUES, q * 2, d, "\n", "\r\n", "\r", f"{d}{q * 2}\n"]
    stray = [f"a{q}b", f"{q}a{q}b", f"{q}a{q}{q}", f"a{q}{q}", f"{q}a{q} ", f" {q}a{q}", q, q * 4, q * 2]
    raw = [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\x00", b"a\x00b"]
    made: list[bytes | None] = []
    for n in range(256):
        if sane or n < 200:
            parts = "".join(rng.choices(inside, k=rng.randrange(4)))
            plain = rng.choice(VALUES[sane and width == 1 :])
            made.append((q + parts + q if dialect.quote and n & 1 else plain).encode())
        elif n < 232:
            made.append(rng.choice(stray).encode())
        else:
            made.append(rng.choice(raw) if n < 244 else None)
    return made


class Sample(NamedTuple):
    """A file's records without its header, and what reads it."""

    data: bytes
    dialect: Dialect
    columns: int


ENDS = [[b"\n"], [b"\r\n"], [b"\r"], [b"\n", b"\r\n"], [b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b"\n\r"]]
# One byte drawn is one field, or one token of a soup: cheap to draw, and it shrinks well.
drawn = st.tuples(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=40))


def _soup(dialect: Dialect, raw: bytes) -> bytes:
    d, q = dialect.delimiter.encode(), dialect.quote.encode() or b'"'
    tokens = [b"a", d, q, b"\n", b"\r", b"\r\n", q + b"\n", d + q, b"b1", "é".encode(), q + d]
    return b"".join(tokens[c % len(tokens)] for c in raw)


def _records(fields: list[bytes | None], width: int, ends: list[bytes], raw: bytes, delimiter: bytes) -> bytes:
    out, line = bytearray(), []
    for place, c in enumerate(raw):
        field = fields[c]
        if field is not None:
            line.append(field)
        if field is None or len(line) >= width:
            out += delimiter.join(line) + ends[place % len(ends)]
            line = []
    if line:
        out += delimiter.join(line + [b"z"] * (width - len(line)))
    return bytes(out)


def _sample(seeds: tuple[int, int, bytes], sane: bool, columns: int | None) -> Sample:
    first, second, raw = seeds
    dialect = DIALECTS[first % len(DIALECTS)]
    width = columns or 1 + first // len(DIALECTS) % 4
    if not sane and second >= 160:
        return Sample(_soup(dialect, raw), dialect, width)
    ends = ENDS[second % (2 if sane else len(ENDS))]
    fields = pool(dialect, sane, width)
    return Sample(_records(fields, width, ends, raw, dialect.delimiter.encode()), dialect, width)


# 128 yes or no, as one number: a list of booleans would cost hypothesis far more than the test itself.
masks = st.integers(0, 2**128 - 1).map(lambda bits: [bool(bits >> i & 1) for i in range(128)])


def from_pool(values: list[T]) -> st.SearchStrategy[list[T]]:
    """Lists of `values`, one byte drawn for each."""
    return st.binary(max_size=40).map(lambda raw: [values[c % len(values)] for c in raw])


def samples(*, sane: bool = False, columns: int | None = None) -> st.SearchStrategy[Sample]:
    """Any CSV; with `sane` RFC 4180 with as many fields everywhere, one kind of line end, valid UTF-8."""
    return drawn.map(lambda seeds: _sample(seeds, sane, columns))


class Line(NamedTuple):
    """A record as `by_hand` reads it; `unclosed` when its quote is open at the end of the file."""

    start: int
    stop: int
    fields: list[bytes]
    values: list[bytes]
    unclosed: bool


def by_hand(data: bytes, dialect: Dialect) -> list[Line]:
    """The records of `data`, byte after byte, by the state machine of CPython's _csv.c; no blank lines."""
    d, q = dialect.delimiter.encode(), dialect.quote.encode() or None
    lines: list[Line] = []
    at = 0
    while at < len(data):
        start, fields, values, state, raw, value, ended = at, [], [], "start", b"", b"", False
        while at < len(data) and not ended:
            c = data[at : at + 1]
            at += 1
            if state == "quoted":
                raw += c
                if c == q:
                    state = "maybe"
                else:
                    value += c
            elif state == "maybe" and c == q:
                raw, value, state = raw + c, value + c, "quoted"
            elif c == d:
                fields.append(raw)
                values.append(value)
                raw, value, state = b"", b"", "start"
            elif c in (b"\n", b"\r"):
                at += c == b"\r" and data[at : at + 1] == b"\n"
                ended = True
            elif state == "start" and c == q:
                raw, state = raw + c, "quoted"
            else:
                raw, value, state = raw + c, value + c, "plain"
        fields.append(raw)
        values.append(value)
        if fields != [b""]:
            lines.append(Line(start, at, fields, values, state == "quoted"))
    return lines


def by_csv(text: str, dialect: Dialect) -> list[list[str]]:
    """The records of `text` as Python's csv module reads them, blank lines left out."""
    quoting = csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=dialect.delimiter,
        quotechar=dialect.quote or None,
        quoting=quoting,
    )
    return [row for row in reader if row]


def header(dialect: Dialect, columns: int) -> Header:
    """A header c0, c1, ... for the dialect."""
    names = tuple(f"c{i}" for i in range(columns))
    return Header(
        names,
        tuple(n.encode() for n in names),
        delimiter=dialect.delimiter.encode(),
        quote=dialect.quote.encode(),
        encoding=dialect.inner_encoding,
    )


def segment(offset: int = 0, byte: int = 0, index: int = 0, **more: int) -> Segment:
    """A segment of the file `f<index>.csv`."""
    return Segment(FileRef(f"f{index}.csv", f"f{index}.csv", index), 0, True, offset, byte, **more)


def good(sample: Sample) -> list[Line]:
    """The records that are neither ragged, unclosed, nor text of no encoding."""
    data, dialect, columns = sample
    return [
        r
        for r in by_hand(data, dialect)
        if len(r.fields) == columns and not r.unclosed and is_text(data[r.start : r.stop], dialect)
    ]


def is_text(raw: bytes, dialect: Dialect) -> bool:
    """No NUL, and every byte means something in the dialect's encoding."""
    try:
        raw.decode(dialect.inner_encoding)
    except UnicodeDecodeError:
        return False
    return b"\0" not in raw


def chunk_of(sample: Sample, **more: int) -> Chunk:
    """The sample as the only file of a chunk."""
    return Chunk(sample.data, header(sample.dialect, sample.columns), sample.dialect, (segment(**more),))


def bundle_of(files: list[bytes], dialect: Dialect, columns: int) -> Chunk:
    """Several files in a chunk, as the reader bundles them: those without a last line end get one between."""
    data, segments = bytearray(), []
    for n, content in enumerate(files):
        clip = n + 1 < len(files) and content[-1:] not in (b"\n", b"\r", b"")
        segments.append(segment(len(data), 10 * n, n, clipped=int(clip)))
        data += content + b"\n" * clip
    return Chunk(bytes(data), header(dialect, columns), dialect, tuple(segments))
