"""`skip`: all but the first records."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, ClassVar

from aiopipe.errors import UsageError
from aiopipe.options import option
from aiopipe.stage import Context, Flow, Items, Scope
from aiopipe.stages._ranges import keep_ranges

__all__ = ["Skip"]


@dataclass(frozen=True, repr=False)
class Skip(Flow):
    """Leave out the first COUNT records of all input, or of each file."""

    word: ClassVar[str] = "skip"
    takes: ClassVar[tuple[str, ...]] = ("records", "files", "items")
    example: ClassVar[str] = (
        "aiopipe pipe read 'sample_data/flights/*.csv' then skip 100 --per-file then head 2 then write -"
    )

    count: int = option(kind="int", positional="one", help="how many records")
    per_file: bool = option(False, kind="flag", help="count each file by itself")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count < 0:
            raise UsageError(f"count is {self.count}", stage="skip", hint="give it 0 or more")

    @property
    def per_unit(self) -> bool:
        """Only where it counts each file by itself."""
        return self.per_file

    async def flow(self, parcels: AsyncIterator[Any], scope: Scope, context: Context) -> AsyncIterator[Any]:
        """The parcels without their beginning."""
        left = self.count
        taken: dict[int, int] = {}
        async for parcel in parcels:
            if isinstance(parcel, Items):
                yield Items(parcel.values[left:], parcel.rejects)
                left -= min(left, len(parcel))
                continue
            ranges, total = [], len(parcel)
            for segment, count in zip(parcel.segments, parcel.counts(), strict=True):
                gone = taken.get(segment.file.index, 0) if self.per_file else 0
                drop = min(count, max(0, (self.count - gone) if self.per_file else left))
                if self.per_file:
                    taken[segment.file.index] = gone + count
                    if segment.last:
                        del taken[segment.file.index]
                else:
                    left -= drop
                ranges.append((drop, count))
            yield keep_ranges(parcel, ranges) if total else parcel
