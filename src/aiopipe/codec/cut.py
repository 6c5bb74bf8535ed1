"""Cut a stream of blocks into chunks of whole records, without knowing yet where fields lie."""

from __future__ import annotations

import numpy as np

from aiopipe import bits
from aiopipe.bits import Words
from aiopipe.codec import precise
from aiopipe.codec.dialect import Dialect
from aiopipe.errors import RecordError

__all__ = ["Cutter", "clean_quotes", "inside_quotes", "whole"]


def clean_quotes(data: bytes, dialect: Dialect) -> bool:
    """True when every quote in `data` opens a field, closes it, or is doubled inside one.

    `data` starts with a record. A quote still open at its end is no fault: the rest may come.
    """
    if not dialect.quote or not bits.holds(data, dialect.q):
        return True
    found = bits.scan(data, dialect.d, None)
    bounds = found.delimiters | found.newlines
    if found.returns:
        bounds |= bits.places_of(data, 13)
    return inside_quotes(bits.places_of(data, dialect.q), bounds) is not None


def inside_quotes(quotes: Words, bounds: Words) -> Words | None:
    """The places inside quotes, given those of all quotes, delimiters and line ends; None for stray quotes.

    That a quote opens at the start of a field, or behind the one it is doubled with, is all there is to ask:
    text behind a closing quote belongs to the field, and a quote in that text would open where none may.
    """
    inside = bits.odd_so_far(quotes)
    opening = quotes & inside & ~bits.later(bounds | quotes)
    opening[0] &= ~np.uint64(1)  # the data begins with a field
    return None if opening.any() else inside


def whole(data: bytes, dialect: Dialect) -> bool:
    """Whether `data`, which starts with a record, ends with one. False as well where a quick look does not tell."""
    if not data.endswith(b"\n"):
        return False
    if not dialect.quote or not bits.holds(data, dialect.q):
        return True
    return not _odd(data, dialect.q) and clean_quotes(data, dialect)


def _odd(data: bytes, byte: int) -> bool:
    """Whether `byte` stands in `data` an odd number of times; numpy counts many ten times as fast as bytes.count."""
    return bool(np.count_nonzero(np.frombuffer(data, np.uint8) == byte) & 1)


_CALM = 64 << 10  # bytes that wait for the rest of their record without being much to join or look through
_SMALL = 256 << 10  # bytes of a block that take less long to look through than a thread to wake


class Cutter:
    """Blocks in, chunks of whole records out; what is unfinished waits for the next block.

    Without quotes the cut is after the last line feed. With quotes it is after the last line feed that has an
    even number of quotes before it, provided that quotes stand where RFC 4180 has them. Where they do not, or
    where no such line feed is in sight, the precise path finds the cut: at once the first time, and then each
    time that what waits has doubled, so that a long record costs linear time. RecordError when a record is
    longer than `dialect.max_record`; no more than that and one block is ever held.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._quote = dialect.quote.encode()
        self._waiting: list[bytes] = []
        self._size = 0
        self._quoted = False  # whether what waits holds quotes,
        self._odd = False  # and an odd number of them
        self._trusted = True  # whether that number tells what is inside quotes
        self._look_at = 0  # how much must wait before the precise path looks again

    def feed(self, block: bytes) -> bytes:
        """Add a block; the whole records that are now complete, b"" when there are none yet."""
        quoted = bool(self._quote) and bits.holds(block, self._dialect.q)
        odd = quoted and _odd(block, self._dialect.q)
        cut = self._cut(block, odd) if self._trusted else 0
        if cut:
            # A view: slicing would copy the block once more.
            chunk = b"".join([*self._waiting, memoryview(block)[:cut]])
            if not (quoted or self._quoted) or clean_quotes(chunk, self._dialect):
                self._keep(block[cut:])
                return chunk
            self._trusted = False
        self._waiting.append(block)
        self._size += len(block)
        self._quoted |= quoted
        self._odd ^= odd
        too_much = self._size > self._dialect.max_record
        chunk = self._look() if self._size >= self._look_at or too_much else b""
        if not chunk and self._size > self._dialect.max_record:
            raise RecordError(
                f"a record is longer than {self._dialect.max_record} bytes",
                hint="a quote that is never closed looks like this; mend it, or raise --max-record",
            )
        return chunk

    def is_quick(self, block: bytes) -> bool:
        """Whether `feed(block)` takes well under a millisecond, so that an event loop may do it itself."""
        calm = self._trusted and not self._odd and self._size <= _CALM and len(block) <= _SMALL
        return calm and b"\n" in block and not (self._quote and self._quote in block)

    @property
    def waits(self) -> bool:
        """Whether it holds the beginning of a record."""
        return self._size > 0

    def finish(self) -> bytes:
        """What is left when the stream has ended: whole records, the last perhaps without a line end."""
        rest = b"".join(self._waiting)
        self._keep(b"")
        return rest

    def _keep(self, rest: bytes) -> None:
        self._waiting = [rest] if rest else []
        self._size = len(rest)
        self._quoted = bool(self._quote) and bits.holds(rest, self._dialect.q)
        self._odd = self._quoted and _odd(rest, self._dialect.q)
        self._trusted = True
        self._look_at = 0

    def _cut(self, block: bytes, odd: bool) -> int:
        """Past the last line feed of the block that ends a record if quotes are clean; 0 for nowhere.

        odd: whether the block has an odd number of quotes.
        """
        end = block.rfind(b"\n")
        if end < 0 or not self._quote:
            return end + 1
        odd, stop = self._odd ^ odd, len(block)
        while end >= 0:
            odd ^= bool(block.count(self._quote, end, stop) & 1)
            if not odd:
                return end + 1
            stop = end
            end = block.rfind(b"\n", 0, end)
        return 0

    def _look(self) -> bytes:
        """Cut what waits by the precise path."""
        data = b"".join(self._waiting)
        stop = precise.last_end(data, self._dialect)
        self._keep(data[stop:])
        self._trusted = clean_quotes(data[stop:], self._dialect)
        self._look_at = 2 * self._size
        return data[:stop]
