"""The precise path: one record after the other by the rules of Python's csv module.

Slow and exact. It takes what the vectorised index cannot vouch for: quotes inside unquoted fields, text
after a closing quote, a lone CR as a line end, a quote that is never closed. The rules are those of
CPython's `Modules/_csv.c` with its defaults (strict=False), read as a state machine over positions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from aiopipe.codec.dialect import Dialect
from aiopipe.tuples import NamedTuple

__all__ = ["Record", "last_end", "records", "split_record"]


class Record(NamedTuple):
    """One record: [start, stop) with its line end, where each field ends, and an unclosed quote's place."""

    start: int
    stop: int
    ends: list[int]
    unclosed: int = -1


@lru_cache(maxsize=64)
def _patterns(delimiter: str, quote: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes], re.Pattern[bytes]]:
    d, q = re.escape(delimiter.encode()), re.escape(quote.encode()) or rb"(?!)"
    return re.compile(b"[" + d + rb"\r\n]"), re.compile(q), re.compile(b"[" + d + rb"\r\n]" + q)


def records(data: bytes, dialect: Dialect, start: int = 0, *, final: bool = True) -> Iterator[Record]:
    """The records of `data` from `start` on, blank lines left out.

    With final=False an unfinished last record, or one whose line end may still grow (a CR as last byte), is
    not given.
    """
    special, quote, _ = _patterns(dialect.delimiter, dialect.quote)
    mark, delimiter, size = dialect.q, dialect.d, len(data)
    at = start
    while at < size:
        begin, ends, unclosed = at, [], -1
        while True:  # one field a turn
            if at < size and data[at] == mark:
                opened, at = at, at + 1
                while True:
                    found = quote.search(data, at)
                    if found is None:
                        unclosed, at = opened, size
                        break
                    at = found.end()
                    if at < size and data[at] == mark:
                        at += 1
                        continue
                    break
            found = special.search(data, at)
            at = size if found is None else found.start()
            ends.append(at)
            if found is None or data[at] != delimiter:
                break
            at += 1
        if at >= size:
            if final and (len(ends) > 1 or ends[0] > begin):
                yield Record(begin, size, ends, unclosed)
            return
        if data[at] == 13:
            if at + 1 == size and not final:
                return
            at += 2 if data[at + 1 : at + 2] == b"\n" else 1
        else:
            at += 1
        if len(ends) > 1 or ends[0] > begin:  # a blank line is no record
            yield Record(begin, at, ends, unclosed)


def last_end(data: bytes, dialect: Dialect) -> int:
    """Where the last finished record, or blank line, of `data` ends; 0 when none is finished.

    Only fields that open with a quote are looked at, one by one; all between them is skipped at memory speed.
    """
    _, quote, opening = _patterns(dialect.delimiter, dialect.quote)
    mark, size = dialect.q, len(data)
    at = stop = 0
    opened = 0 if size and data[0] == mark else _after(opening, data, 0)
    while True:
        # A CR that is the last byte may be half of a CRLF.
        upto = size if opened < 0 else opened
        stop = max(stop, data.rfind(b"\n", at, upto) + 1, data.rfind(b"\r", at, min(upto, size - 1)) + 1)
        if opened < 0:
            return stop
        at = opened + 1
        while True:
            closing = quote.search(data, at)
            if closing is None:
                return stop
            at = closing.end()
            if at >= size or data[at] != mark:
                break
            at += 1
        opened = _after(opening, data, at)


def _after(opening: re.Pattern[bytes], data: bytes, at: int) -> int:
    """Where the next quote stands that opens a field, -1 for nowhere."""
    found = opening.search(data, at)
    return -1 if found is None else found.end() - 1


def split_record(data: bytes, dialect: Dialect, start: int = 0) -> tuple[list[bytes], Record] | None:
    """The first record of `data` as raw fields (quotes stay), or None where there is none."""
    for record in records(data, dialect, start):
        fields, at = [], record.start
        for end in record.ends:
            fields.append(data[at:end])
            at = end + 1
        return fields, record
    return None
