"""Stages that tests can look into: they count, wait at gates, and fail where they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from aiopipe.stage import Apply, Context, Flow, Items, Outcome, Scope, Sink, Source


class Planned(Exception):  # noqa: N818 - no error: it is meant to happen
    """What a test's stage raises."""


@dataclass(frozen=True, repr=False)
class Numbers(Source):
    """0, 1, 2, ... one to a parcel of `weight` bytes; fails before `fails_at`."""

    word: ClassVar[str] = "numbers"
    gives: ClassVar[str] = "items"
    count: int = 10**9
    fails_at: int = -1
    seen: dict[str, Any] = field(default_factory=dict, compare=False)

    async def open(self, context: Context) -> AsyncIterator[Any]:
        try:
            for i in range(self.count):
                if i == self.fails_at:
                    raise Planned("source")
                self.seen["given"] = i + 1
                yield Items([i])
        finally:
            self.seen["closed"] = True


@dataclass(frozen=True, repr=False)
class Call(Apply):
    """A function of the values of a parcel, in a thread."""

    word: ClassVar[str] = "call"
    takes: ClassVar[tuple[str, ...]] = ("items",)
    function: Callable[[list[Any]], list[Any]] = list
    ordered: bool = True

    def apply(self, batch: Any, scope: Scope) -> Any:
        return Items(self.function(batch.values), batch.rejects)


@dataclass(frozen=True, repr=False)
class Through(Flow):
    """Hands parcels on; fails when it gets the value `fails_at`."""

    word: ClassVar[str] = "through"
    takes: ClassVar[tuple[str, ...]] = ("records", "items")
    fails_at: int = -1
    swallows: bool = False
    seen: dict[str, Any] = field(default_factory=dict, compare=False)

    async def flow(self, parcels: AsyncIterator[Any], scope: Scope, context: Context) -> AsyncIterator[Any]:
        try:
            async for parcel in parcels:
                if isinstance(parcel, Items) and self.fails_at in parcel.values:
                    raise Planned("flow")
                yield parcel
        except Exception:
            if not self.swallows:
                raise
        finally:
            self.seen["closed"] = True


@dataclass(frozen=True, repr=False)
class Gather(Sink):
    """Keeps values; calls `each` with every parcel (it may wait, or raise)."""

    word: ClassVar[str] = "gather"
    each: Any = None
    values: list[Any] = field(default_factory=list, compare=False)

    async def consume(self, parcels: AsyncIterator[Any], context: Context) -> Outcome:
        outcome = Outcome()
        async for parcel in parcels:
            if self.each is not None:
                await self.each(parcel)
            if isinstance(parcel, Items):
                self.values.extend(parcel.values)
            outcome.records += len(parcel)
        return outcome


async def forever(*_: Any) -> None:
    """Wait until cancelled."""
    await asyncio.Event().wait()
