"""`collect`: keep everything in memory, for programs and tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, ClassVar

from aiopipe.stage import Context, Items, Outcome, Sink

__all__ = ["Collect", "as_items"]


def as_items(parcel: Any, kind: str) -> Items:
    """A batch as rows (column name to value); items as they are."""
    if kind != "records":
        assert isinstance(parcel, Items)
        return parcel
    names = parcel.names
    columns = [parcel.values(n).to_pylist() for n in names]
    rows = [dict(zip(names, ("" if v is None else v for v in row), strict=True)) for row in zip(*columns, strict=True)]
    return _Rows(rows, parcel.rejects, segments=parcel.segments)


@dataclass(frozen=True, slots=True)
class _Rows(Items):
    """Rows that still know which files they come from, for the places of rejects."""

    segments: tuple[Any, ...] = ()


@dataclass(frozen=True, repr=False)
class Collect(Sink):
    """Keep all records as rows (or items as they are) in memory: `report.items` in the library."""

    word: ClassVar[str] = "collect"
    as_they_are: ClassVar[tuple[str, ...]] = ("files", "items")
    example: ClassVar[str] = "aiopipe pipe read 'sample_data/flights/*.csv' then head 2 then collect"

    def encode(self, parcel: Any, kind: str) -> Any:
        """Records as rows."""
        return as_items(parcel, kind)

    async def consume(self, parcels: AsyncIterator[Any], context: Context) -> Outcome:
        """Keep everything."""
        outcome = Outcome()
        async for parcel in parcels:
            outcome.items.extend(parcel.values)
            outcome.records += len(parcel.values)
        return outcome
