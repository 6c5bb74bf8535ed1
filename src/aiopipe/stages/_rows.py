"""Records as rows for users' functions: a fresh dict for each, a few hundred at a time.

Why a few hundred: their objects weigh twenty times the bytes they stand for. A whole chunk of them falls out of
the processor's caches, and every look at them then costs three times as much.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from keyword import iskeyword
from typing import Any

from aiopipe.arrays import pieces
from aiopipe.batch import Batch

__all__ = ["Rows", "rows_in_slices", "rows_of"]

SLICE = 256
_DISPLAYED = 1000  # columns: beyond it, the source of a dict display takes longer to compile than it saves
_SHARED = 30  # columns: so many keys CPython lets dicts share
_CSV_LIMIT = 131_072  # csv refuses longer fields unless a process-wide setting is changed: we do not


@dataclass(frozen=True, slots=True)
class Rows:
    """Some records as rows: the column names, and the values of all records one after the other."""

    names: tuple[str, ...]
    values: list[str]

    def __len__(self) -> int:
        return len(self.values) // (len(self.names) or 1)  # no columns: what is left of a file that was given up

    def fields(self) -> Iterator[list[str]]:
        """The values of each record."""
        values, width = self.values, len(self.names)
        return (values[i : i + width] for i in range(0, len(values), width or 1))

    def column(self, place: int) -> list[str]:
        """The values of one column."""
        return self.values[place :: len(self.names)]

    def dicts(self) -> Iterator[dict[str, str]]:
        """A fresh dict for each record."""
        if not self.names:
            return iter(())
        # One iterator, asked for each of the columns in turn: no record is cut out first.
        return map(_maker(self.names), *[iter(self.values)] * len(self.names))


@lru_cache(64)
def _maker(names: tuple[str, ...]) -> Callable[..., dict[str, str]]:
    """A function of one value for each name that gives the dict: half the time of dict(zip(names, values)).

    Written out as source, as namedtuple does it: a dict display knows its size, and need not grow four times. Names
    that can be attributes are set on an object, whose `__dict__` it is: those share one table of keys (PEP 412), and
    take half the time once more.
    """
    if len(names) > _DISPLAYED:
        return lambda *values: dict(zip(names, values))  # noqa: B905 - their numbers are known to agree
    places = [f"v{i}" for i in range(len(names))]
    each = list(zip(names, places, strict=True))
    made: Callable[..., dict[str, str]]
    if len(names) > _SHARED or not all(map(_is_attribute, names)):
        items = ", ".join(f"{name!r}: {place}" for name, place in each)
        made = eval(f"lambda {', '.join(places)}: {{{items}}}")
        return made

    class Holder:  # of these names alone: one table has room for those of one header
        pass

    lines = [f"def make({', '.join(places)}):", " holder = Holder()"]
    lines += [f" holder.{name} = {place}" for name, place in each]
    scope: dict[str, Any] = {"Holder": Holder}
    exec("\n".join([*lines, " return holder.__dict__"]), scope)
    made = scope["make"]
    return made


def _is_attribute(name: str) -> bool:
    """Whether the name, set as an attribute, is a key of just that name: Python has its own use for others."""
    return name.isascii() and name.isidentifier() and not name.startswith("_") and not iskeyword(name)


def rows_of(batch: Batch) -> Rows:
    """The records of a batch as rows; UnknownNameError where two columns share a name."""
    return Rows(batch.names, [v for rows in rows_in_slices(batch) for v in rows.values])


def rows_in_slices(batch: Batch, size: int = SLICE) -> Iterator[Rows]:
    """The same, at most `size` records at once. Nothing is yielded for a batch without records."""
    names = batch.names
    if len(set(names)) < len(names):
        for name in names:
            batch.column(name)  # raises for the one that stands twice
    bounds = [*range(0, len(batch), size), len(batch)]
    split = _splitter(batch)
    texts = pieces(batch.body.lines(batch.rows), bounds) if split is not None else []
    slow: list[str] | None = None
    for number, (start, stop) in enumerate(pairwise(bounds)):
        first, last = start * len(names), stop * len(names)
        values = split(texts[number]) if split is not None else None
        if values is None or len(values) != last - first:
            slow = _by_column(batch) if slow is None else slow
            values = slow[first:last]
        yield Rows(names, values)


def _by_column(batch: Batch) -> list[str]:
    """The slow and sure way: every column by itself."""
    columns = [["" if v is None else v for v in batch.values(n).to_pylist()] for n in batch.names]
    return [value for record in zip(*columns, strict=True) for value in record]


def _splitter(batch: Batch) -> Any:
    """The quick ways for untouched records: str.split, or csv where there are quotes; None for neither.

    A splitter gives fewer values than there are fields where records run together: bundled files without a
    final line end.
    """
    body, header = batch.body, batch.body.header
    if not batch.untouched() or len(batch) == 0:
        return None
    encoding, delimiter = header.encoding, header.delimiter.decode()
    if not body.quoted and b"\r" not in body.data:

        def split(piece: memoryview) -> list[str]:
            text = str(piece, encoding)
            return text.removesuffix("\n").replace("\n", delimiter).split(delimiter)

        return split
    if int((body.stops - body.starts).max(initial=0)) >= _CSV_LIMIT:
        return None
    quote = header.quote.decode() or None

    def parse(piece: memoryview) -> list[str]:
        reader = csv.reader(
            io.StringIO(str(piece, encoding), newline=""),
            delimiter=delimiter,
            quotechar=quote,
            quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        )
        return [value for record in reader for value in record]

    return parse
