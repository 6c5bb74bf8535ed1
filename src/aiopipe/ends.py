"""Where the fields of a batch's records end: as a table, or as separators that are counted when somebody asks.

Most columns of most files are never named. Listing where each of their fields ends takes longer than all the
rest of a filter, so a rectangular block keeps its separators as bits, and field k of record r ends at separator
r * columns + k: a select, for the columns and the records that are asked for. Where that is near the record's start,
as it mostly is, the bits from there on are looked at by themselves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from aiopipe.arrays import Ints, Words
from aiopipe.bits import SAMPLE, Ranked, enough, lowest, places, without_lowest

__all__ = ["Counted", "Ends", "Table"]


class Ends(ABC):
    """records, columns: how many. A field's end is the place of the separator behind it."""

    records: int
    columns: int

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes they keep alive."""

    @abstractmethod
    def of(self, k: int, rows: Ints | None) -> Ints:
        """Where field k of the records `rows` ends (None: of all)."""

    @abstractmethod
    def table(self) -> Ints:
        """All of them, (records, columns)."""

    @abstractmethod
    def head(self, records: int) -> Ends:
        """Those of the first `records` records."""

    def span(self, k: int, rows: Ints | None, starts: Ints) -> tuple[Ints, Ints]:
        """Where field k of the records `rows` begins and ends. starts: where all records begin."""
        if k == 0:
            return starts if rows is None else starts[rows], self.of(0, rows)
        return self.of(k - 1, rows) + 1, self.of(k, rows)


class Table(Ends):
    """Ends as they are: (records, columns)."""

    def __init__(self, ends: Ints) -> None:
        self.ends = ends
        self.records, self.columns = ends.shape

    @property
    def nbytes(self) -> int:
        """Bytes of the table."""
        return self.ends.nbytes

    def of(self, k: int, rows: Ints | None) -> Ints:
        """A column of the table."""
        return self.ends[:, k] if rows is None else self.ends[rows, k]

    def table(self) -> Ints:
        """The table itself."""
        return self.ends

    def head(self, records: int) -> Table:
        """Its first lines."""
        return Table(self.ends[:records])


_FAR = 4  # columns near the starts of the records, in the time of one that is not


class Counted(Ends):
    """Ends of records that all have the same number of fields, with no separator elsewhere.

    separators: records * columns of them, or more (of records behind the last). starts: where the records begin.
    last: where the last fields end, which is before a CR where the record's line end has one.
    """

    def __init__(self, separators: Ranked, starts: Ints, last: Ints, columns: int) -> None:
        self.separators = separators
        self.starts = starts
        self.last = last
        self.records, self.columns = len(last), columns
        self._asked = 0
        self._seen: tuple[Ints | None, Ints, Words | None] | None = None
        self._table: Ints | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return (Counted, (self.separators, self.starts, self.last, self.columns))

    @property
    def nbytes(self) -> int:
        """Bytes of the bits, and of what was kept of them: the table, the places near the starts."""
        kept = [a for a in (self._table, *(self._seen or ())) if a is not None and a is not self.starts]
        return self.separators.nbytes + int(self.last.nbytes) + sum(int(a.nbytes) for a in kept)

    def of(self, k: int, rows: Ints | None) -> Ints:
        """The separators numbered k, columns + k, 2 * columns + k, ..."""
        if k == self.columns - 1:
            return self.last if rows is None else self.last[rows]
        at, near = self._near(k, rows)
        if self._listed:
            return self.table()[:, k] if rows is None else self.table()[rows, k]
        if near is not None:
            return self._next(without_lowest(near, k), at, k, rows)
        if rows is not None and 4 * len(rows) < self.records:
            return self.separators.some(rows * self.columns + k, at)
        ends = self.separators.every(k, self.columns, self.records)
        return ends if rows is None else ends[rows]

    def span(self, k: int, rows: Ints | None, starts: Ints) -> tuple[Ints, Ints]:
        """As in `Ends`; where a field ends is quickly found from where it begins."""
        if k in (0, self.columns - 1) or self._table is not None:
            return super().span(k, rows, starts)
        at, near = self._near(k, rows)
        if near is None:
            begin = self.of(k - 1, rows) + 1
            return begin, self.separators.first_from(begin)
        begin = self._next(without_lowest(near, k - 1), at, k - 1, rows)
        begin += 1
        return begin, self._next(without_lowest(near, 1), at, k, rows)

    def _near(self, k: int, rows: Ints | None) -> tuple[Ints, Words | None]:
        """Where the records start, and the places right behind, unless separator k is further away.

        Kept for the next column of the same records: an encoder asks for one after the other.
        """
        seen = self._seen
        if self._table is not None:
            return self.starts, None
        if seen is None or seen[0] is not rows:
            seen = (rows, self.starts if rows is None else self.starts[rows], None)
        _, at, near = seen
        if near is None:
            near = self.separators.near(at, k + 1)
            self._seen = (rows, at, near)
        elif not enough(near[:: len(near) // SAMPLE + 1], k + 1):
            near = None
        if rows is None or 4 * len(rows) >= self.records:
            self._asked += _FAR if near is None else 1
        return at, None if near is None else near.copy()

    def _next(self, near: Words, at: Ints, k: int, rows: Ints | None) -> Ints:
        """Where separator k of the records is, where those right behind `at` are `near`, but for the ones before k."""
        offset = lowest(near)
        found = at + offset
        far = np.flatnonzero(offset == 64)
        if len(far):
            numbers = (far if rows is None else rows[far]) * self.columns + k
            found[far] = self.separators.some(numbers, at[far])
        return found

    @property
    def _listed(self) -> bool:
        """Whether there is a list of all separators, or should be one by now: it takes as long as so many columns."""
        return self._table is not None or self._asked > 4 + self.columns // 2

    def table(self) -> Ints:
        """All separators, listed."""
        if self._table is None:
            listed = places(self.separators.words)[: self.records * self.columns].reshape(self.records, self.columns)
            listed[:, -1] = self.last
            self._table = listed
        return self._table

    def head(self, records: int) -> Counted:
        """The same bits with fewer records."""
        return Counted(self.separators, self.starts[:records], self.last[:records], self.columns)
