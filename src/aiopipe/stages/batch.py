"""`batch`: several items as one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from aiopipe.errors import UsageError
from aiopipe.options import option
from aiopipe.stage import Context, Flow, Items, Scope
from aiopipe.stages.collect import as_items

__all__ = ["Batch"]

_END: Any = object()


@dataclass(frozen=True, repr=False)
class Batch(Flow):
    """Make one item, a list, of several: COUNT of them, or fewer where --bytes or --within say so.

    Records become rows first (dicts of column name to text). A batch is complete when one of the limits is reached;
    the last one holds the rest. A function behind it is called with a list: one statement or one request for many
    rows. What is in batches is told apart in the report; unbatch takes them apart again.
    """

    word: ClassVar[str] = "batch"
    takes: ClassVar[tuple[str, ...]] = ("records", "files", "items")
    regroups: ClassVar[bool] = True
    example: ClassVar[str] = "aiopipe pipe read sample_data/airlines.csv then batch 5 then write - --format jsonl"

    count: int | None = option(None, kind="int", positional="one", help="items in a batch")
    bytes: Any = option(None, kind="size", metavar="SIZE", help="bytes in a batch, about; one item may have more")
    within: Any = option(None, kind="time", metavar="TIME", help="how long the first item of a batch waits for others")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count is None and self.bytes is None and self.within is None:
            raise UsageError("batch needs a limit", stage="batch", hint="such as batch 100, --bytes 1MB, --within 2s")
        if (self.count is not None and self.count < 1) or (self.bytes is not None and self.bytes < 1):
            raise UsageError("a batch holds at least one item", stage="batch", hint="give it 1 or more")

    def gives(self, kind: str) -> str:
        """Items: lists."""
        return "items"

    async def flow(self, parcels: AsyncIterator[Any], scope: Scope, context: Context) -> AsyncIterator[Any]:
        """The items of all parcels in lists."""
        whole = _Whole(self.count, self.bytes)
        loop = asyncio.get_running_loop()
        until: float | None = None  # when the batch in hand is given, full or not
        coming: asyncio.Future[Any] | None = None
        try:
            while True:
                coming = coming or asyncio.ensure_future(_next(parcels))
                await asyncio.wait([coming], timeout=None if until is None else max(0.0, until - loop.time()))
                if not coming.done():
                    yield Items([whole.rest()])
                    until = None
                    continue
                parcel, coming = coming.result(), None
                if parcel is _END:
                    break
                items = parcel if isinstance(parcel, Items) else await context.hop(as_items, parcel, "records")
                some = list(whole.add(items.values))
                if some:
                    until = None
                    yield Items(some)
                if self.within is not None and whole.items and until is None:
                    until = loop.time() + self.within
            if whole.items:
                yield Items([whole.rest()])
        finally:
            if coming is not None:
                coming.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await coming


async def _next(parcels: AsyncIterator[Any]) -> Any:
    return await anext(parcels, _END)


class _Whole:
    """The batch in hand."""

    def __init__(self, count: int | None, size: int | None) -> None:
        self._count = count
        self._size = size
        self.items: list[Any] = []
        self._weight = 0

    def add(self, items: Iterable[Any]) -> Iterator[list[Any]]:
        """Take items; the batches that they complete."""
        for item in items:
            weight = _weight(item) if self._size is not None else 0
            if self.items and self._size is not None and self._weight + weight > self._size:
                yield self.rest()
            self.items.append(item)
            self._weight += weight
            if len(self.items) == self._count or (self._size is not None and self._weight >= self._size):
                yield self.rest()

    def rest(self) -> list[Any]:
        """What is in hand; nothing is, afterwards."""
        items, self.items, self._weight = self.items, [], 0
        return items


def _weight(item: Any) -> int:
    """Bytes of an item, about: of a row, its values' text."""
    if isinstance(item, dict):
        return sum(_weight(value) for value in item.values())
    return len(item) if isinstance(item, (str, bytes, bytearray)) else len(str(item))
