"""What an index of a chunk says, and the faults that only whole records show: NUL, encoding, length."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyarrow as pa

from aiopipe.arrays import Ints
from aiopipe.codec.dialect import Dialect
from aiopipe.ends import Ends, Table
from aiopipe.tuples import NamedTuple

__all__ = ["Bad", "Index", "checked", "ragged", "unclosed"]


class Bad(NamedTuple):
    """A malformed record: its place among all records of the chunk, where it lies, and what is wrong."""

    number: int
    start: int
    stop: int
    reason: str
    hint: str


class Index(NamedTuple):
    """Where the good records and their fields lie (see batch.Body), and the bad ones.

    numbers: each good record's place among all (None: 0, 1, 2, ...). records and lines count everything in
    the chunk, blank lines and line ends inside quotes as well.
    """

    starts: Ints
    ends: Ends
    stops: Ints
    numbers: Ints | None
    bad: list[Bad]
    quoted: bool
    records: int
    lines: int


def ragged(number: int, start: int, stop: int, fields: int, columns: int) -> Bad:
    """A record with another number of fields than the header has."""
    reason = f"{fields} field{'s' if fields != 1 else ''}, header has {columns}"
    return Bad(number, start, stop, reason, "mend the record, or set such records aside with --rejects FILE")


def unclosed(number: int, start: int, stop: int) -> Bad:
    """A record whose quote is open where the file ends."""
    hint = "close the quote, or say --quote none if quotes mean nothing in this file"
    return Bad(number, start, stop, "a quote is opened and never closed", hint)


def checked(data: bytes, dialect: Dialect, found: Index, *, plain: bool = False) -> Index:
    """Take out records with NUL bytes, bytes that mean nothing in the encoding, or more than the limit.

    plain: it is known that all bytes are ASCII and none is NUL.
    """
    faults: dict[int, tuple[str, str]] = {}
    if len(data) > dialect.max_record:
        faults.update(_too_long(found, dialect.max_record))
    if not plain and not data.isascii():
        faults.update(_undecodable(data, found, dialect.inner_encoding))
    if not plain and b"\0" in data:
        faults.update(_nul(data, found))
    return _without(found, faults) if faults else found


def _too_long(found: Index, limit: int) -> dict[int, tuple[str, str]]:
    sizes = found.stops - found.starts
    return {
        i: (f"a record of {int(sizes[i])} bytes, over the limit of {limit}", "raise --max-record")
        for i in np.flatnonzero(sizes > limit).tolist()
    }


def _nul(data: bytes, found: Index) -> dict[int, tuple[str, str]]:
    at = np.flatnonzero(np.frombuffer(data, np.uint8) == 0)
    # A record holds a NUL when one more lies before its stop than before its start.
    held = np.searchsorted(at, found.stops) > np.searchsorted(at, found.starts)
    why = ("a NUL byte", "the file may be UTF-16 (say --encoding utf-16) or damaged")
    return dict.fromkeys(np.flatnonzero(held).tolist(), why)


def _undecodable(data: bytes, found: Index, encoding: str) -> dict[int, tuple[str, str]]:
    if encoding == "utf-8":
        if _valid_utf8(data):
            return {}
    elif len(data.translate(None, meaningless(encoding))) == len(data):
        return {}
    faults = {}
    for i, (start, stop) in enumerate(zip(found.starts.tolist(), found.stops.tolist(), strict=True)):
        record = data[start:stop]
        if not record.isascii():
            try:
                record.decode(encoding)
            except UnicodeDecodeError as error:
                other = "cp1252" if encoding != "cp1252" else "latin-1"
                faults[i] = (
                    f"byte 0x{record[error.start]:02X} is not valid {encoding.upper()}",
                    f"say --encoding {other} (or whatever it is) if the file is not {encoding.upper()}",
                )
    return faults


@lru_cache(maxsize=32)
def meaningless(encoding: str) -> bytes:
    """The bytes that stand for no character in a one-byte encoding, such as 0x81 in cp1252."""
    return bytes(i for i in range(256) if not bytes([i]).decode(encoding, "ignore"))


def _valid_utf8(data: bytes) -> bool:
    # Arrow checks at memory speed and makes no str of it.
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
        ends=Table(found.ends.table()[keep]),
        stops=found.stops[keep],
        numbers=numbers[keep],
        bad=sorted([*found.bad, *new]),
    )
