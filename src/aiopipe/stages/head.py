"""`head`: the first records, and then no more reading."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, ClassVar

from aiopipe.errors import UsageError
from aiopipe.options import option
from aiopipe.stage import Context, Flow, Items, Scope
from aiopipe.stages._ranges import keep_ranges, truncated

__all__ = ["Head"]


@dataclass(frozen=True, repr=False)
class Head(Flow):
    """Keep the first COUNT records of all input, or of each file.

    Over all input, reading stops and files are closed as soon as the count is reached. Stages before this one
    work on whole blocks, so a record a little behind the last one kept may still be rejected by them.
    """

    word: ClassVar[str] = "head"
    takes: ClassVar[tuple[str, ...]] = ("records", "files", "items")
    example: ClassVar[str] = "aiopipe pipe read 'sample_data/flights/*.csv' then head 2 --per-file then write -"

    count: int = option(10, kind="int", positional="one", help="how many records")
    per_file: bool = option(False, kind="flag", help="count each file by itself")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count < 0:
            raise UsageError(f"count is {self.count}", stage="head", hint="give it 0 or more")

    @property
    def per_unit(self) -> bool:
        """Only where it counts each file by itself."""
        return self.per_file

    async def flow(self, parcels: AsyncIterator[Any], scope: Scope, context: Context) -> AsyncIterator[Any]:
        """The parcels, cut after the count."""
        left = self.count
        taken: dict[int, int] = {}
        async for parcel in parcels:
            if isinstance(parcel, Items):
                yield Items(parcel.values[:left], parcel.rejects)
                left -= min(left, len(parcel))
            elif self.per_file:
                ranges = []
                for segment, count in zip(parcel.segments, parcel.counts(), strict=True):
                    before = taken.get(segment.file.index, 0)
                    ranges.append((0, max(0, self.count - before)))
                    if segment.last:
                        taken.pop(segment.file.index, None)
                    else:
                        taken[segment.file.index] = before + count
                yield keep_ranges(parcel, ranges)
                continue
            elif len(parcel) < left or (len(parcel) == left and self.count):
                left -= len(parcel)
                yield parcel if left else truncated(parcel, len(parcel))
            else:
                yield truncated(parcel, left)
                left = 0
            if left <= 0:
                return
