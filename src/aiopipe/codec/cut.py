"""Cut a stream of blocks into chunks of whole records, without knowing yet where fields lie."""

from __future__ import annotations

import numpy as np

from aiopipe.codec import precise
from aiopipe.codec.dialect import Dialect
from aiopipe.errors import RecordError

__all__ = ["Cutter", "clean_quotes"]


def clean_quotes(data: bytes, dialect: Dialect) -> bool:
    """True when every quote in `data` opens a field, closes it, or is doubled inside one (RFC 4180).

    `data` starts with a record. A quote still open at its end is no fault: the rest may come.
    """
    mark = dialect.quote.encode()
    if not mark or mark not in data:
        return True
    b = np.frombuffer(data, np.uint8)
    q = np.flatnonzero(b == dialect.q)
    return quotes_agree(b, q, dialect)


def quotes_agree(b: np.ndarray, q: np.ndarray, dialect: Dialect) -> bool:
    """Whether the quotes at positions `q` of `b` open and close fields in turn, as RFC 4180 has them."""
    opens, closes = q[0::2], q[1::2]
    before = b[np.maximum(opens - 1, 0)]
    good = (opens == 0) | (before == dialect.d) | (before == 10) | (before == 13)
    good[1:] |= opens[1:] == closes[: len(opens) - 1] + 1
    if not good.all():
        return False
    size = len(b)
    after = b[np.minimum(closes + 1, size - 1)]
    ended = (closes + 1 == size) | (after == dialect.d) | (after == 10) | (after == dialect.q)
    returns = after == 13
    if returns.any():
        past = b[np.minimum(closes + 2, size - 1)]
        ended |= returns & ((past == 10) | (closes + 2 >= size))
    return bool(ended.all())


class Cutter:
    """Blocks in, chunks of whole records out; what is unfinished waits for the next block.

    Without quotes the cut is after the last line feed. With quotes it is after the last line feed that has an
    even number of quotes before it, provided that the quotes are those of RFC 4180; where they are not, the
    precise path finds the cut. RecordError when a record is longer than `dialect.max_record`.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._quote = dialect.quote.encode()
        self._waiting: list[bytes] = []
        self._size = 0
        self._odd = 0  # parity of the quotes in what waits

    def feed(self, block: bytes) -> bytes:
        """Add a block; the whole records that are now complete, b"" when there are none yet."""
        cut = self._cut(block)
        if cut <= 0:
            self._waiting.append(block)
            self._size += len(block)
            if self._quote:
                self._odd ^= block.count(self._quote) & 1
            chunk = self._precise_chunk() if cut < 0 or self._suspicious() else b""
        else:
            chunk, rest = b"".join([*self._waiting, block[:cut]]), block[cut:]
            if self._quote and self._quote in chunk and not clean_quotes(chunk, self._dialect):
                self._waiting = [chunk, rest]
                chunk = self._precise_chunk()
            else:
                self._keep(rest)
        if self._size > self._dialect.max_record:
            raise RecordError(
                f"a record is longer than {self._dialect.max_record} bytes",
                hint="a quote that is never closed looks like this; mend it, or raise --max-record",
            )
        return chunk

    def finish(self) -> bytes:
        """What is left when the stream has ended: whole records, the last perhaps without a line end."""
        rest = b"".join(self._waiting)
        self._keep(b"")
        return rest

    def _keep(self, rest: bytes) -> None:
        self._waiting = [rest] if rest else []
        self._size = len(rest)
        self._odd = rest.count(self._quote) & 1 if self._quote else 0

    def _cut(self, block: bytes) -> int:
        """Where to cut the block: past a line feed that ends a record, 0 for nowhere, -1 for "look closely"."""
        end = block.rfind(b"\n")
        if not self._quote or (not self._odd and self._quote not in block):
            if end < 0 and (b"\r" in block or (self._waiting and b"\r" in self._waiting[-1][-1:])):
                return -1
            return end + 1
        if end < 0:
            return -1 if b"\r" in block else 0
        odd = self._odd ^ (block.count(self._quote) & 1)
        stop = len(block)
        while end >= 0:
            odd ^= block.count(self._quote, end, stop) & 1
            if not odd:
                return end + 1
            stop = end
            end = block.rfind(b"\n", 0, end)
        return 0

    def _suspicious(self) -> bool:
        """Whether what waits holds quotes that do not alternate, so that its parity says nothing."""
        if not self._quote or not any(self._quote in w for w in self._waiting):
            return False
        self._waiting = [b"".join(self._waiting)]
        return not clean_quotes(self._waiting[0], self._dialect)

    def _precise_chunk(self) -> bytes:
        data = b"".join(self._waiting)
        stop = 0
        for record in precise.records(data, self._dialect, final=False):
            stop = record.stop
        self._keep(data[stop:])
        return data[:stop]
