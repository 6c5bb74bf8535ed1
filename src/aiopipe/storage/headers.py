"""The header of a CSV file: its names, where its records begin, and what a header cannot be."""

from __future__ import annotations

from aiopipe.batch import Header, duplicates
from aiopipe.codec import precise
from aiopipe.codec.dialect import Dialect, boms
from aiopipe.codec.index import header_fields
from aiopipe.errors import RecordError

__all__ = ["has_record", "read_header"]


def has_record(data: bytes, dialect: Dialect) -> bool:
    """Whether a whole record stands in `data`, its line end included."""
    return next(precise.records(data, dialect, 0, final=False), None) is not None


def read_header(data: bytes, dialect: Dialect, known: Header | None = None) -> tuple[Header, int, int]:
    """The header at the beginning of a file, where its records start, and how many lines come before them.

    `known` is given back when the header is the same, so that neighbours share it.
    """
    bom = boms.get(dialect.inner_encoding, b"")
    bom = bom if bom and data.startswith(bom) else b""
    first = precise.split_record(data, dialect, len(bom))
    if first is None:
        return Header((), (), bom, b"", dialect.header, dialect.delimiter.encode(), dialect.quote.encode(),
                      dialect.inner_encoding), len(data), data.count(b"\n")  # fmt: skip
    fields, record = first
    if not dialect.header:
        names = [f"column{i}" for i in range(1, len(fields) + 1)]
        fields, stop, newline = [n.encode() for n in names], len(bom), b"\n"
    else:
        names = _names(fields, dialect, data, record)
        stop, newline = record.stop, data[record.ends[-1] : record.stop]
    header = Header(
        tuple(names),
        tuple(fields),
        bom,
        newline,
        dialect.header,
        dialect.delimiter.encode(),
        dialect.quote.encode(),
        dialect.inner_encoding,
    )
    lines = data.count(b"\n", 0, stop) if b"\n" in newline or not newline else data[:stop].count(b"\r")
    return known if header == known and known is not None else header, stop, lines


# The first bytes of what people call .csv and is not (RFC 1952, RFC 8878, the formats' own documents).
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
    b"BZh91AY&SY": "bzip2",
    b"PK\3\4": "zip, or an .xlsx",
}


def _names(fields: list[bytes], dialect: Dialect, data: bytes, record: precise.Record) -> list[str]:
    packed = next((word for magic, word in _PACKED.items() if data.startswith(magic)), None)
    if packed is not None:
        raise RecordError(
            f"the file is compressed ({packed})",
            hint="unpack it into a pipe: zcat FILE | aiopipe pipe read - then ...",
        )
    if record.unclosed >= 0:
        raise RecordError(
            "a quote in the header is never closed",
            hint="close it, or say --quote none if quotes mean nothing in this file",
        )
    if b"\0" in data[record.start : record.stop]:
        raise RecordError(
            "a NUL byte in the header",
            hint="the file may be UTF-16 (say --encoding utf-16) or no text at all",
        )
    try:
        names = header_fields(fields, dialect)
    except UnicodeDecodeError as error:
        raise RecordError(
            f"the header is not {dialect.encoding}: byte 0x{error.object[error.start]:02X}",
            hint="say --encoding cp1252 (or latin-1, utf-16, ...)",
        ) from None
    twice = duplicates(names)
    if twice and dialect.number_duplicates:
        return _numbered(names)
    return names


def _numbered(names: list[str]) -> list[str]:
    """x, x, x as x, x_2, x_3; a number that is taken is passed over."""
    taken, out, count = set(names), [], dict[str, int]()
    for name in names:
        if name not in count:
            count[name] = 1
            out.append(name)
            continue
        while f"{name}_{count[name] + 1}" in taken:
            count[name] += 1
        count[name] += 1
        out.append(f"{name}_{count[name]}")
        taken.add(out[-1])
    return out
