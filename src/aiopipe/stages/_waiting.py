"""Users' functions that wait: `async def` in the loop, `def` in threads of its own, many calls at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

from aiopipe.stage import Context, Items
from aiopipe.stages._attempts import Attempts
from aiopipe.stages._calls import CAUGHT, CONCURRENCY, items_made
from aiopipe.stages._flow import Entry, Work
from aiopipe.stages._in_turn import calls_as_told
from aiopipe.stages._rebuild import rebuilt
from aiopipe.stages._rows import rows_of

__all__ = ["calling"]

_MOST = 1024  # rows of a part: 1.5 MB of Python objects


def calling(stage: Any, parcels: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
    """The parcels with what the function of a `map` makes of their rows."""
    limit = stage.concurrency or (CONCURRENCY if stage.is_async else context.workers)
    function = stage.call if stage.is_async else _in_threads(stage.call, context, limit)
    attempts = Attempts("map", timeout=stage.timeout, retry=stage.retries, rate=stage.rate_limit, breaker=stage.breaker)

    async def unpack(part: Any) -> tuple[Any, list[Any]]:
        if isinstance(part, Items):
            return None, part.values
        if not part.columns:
            return None, []  # an empty file has no columns, and no rows
        unpacked: tuple[Any, list[Any]] = await context.hop(_rows_and_dicts, part)
        return unpacked

    async def pack(entry: Entry) -> Any:
        parcel, results, faults = entry.parcel, entry.results, entry.faults
        if isinstance(parcel, Items):
            parcel = items_made(parcel, results, faults, stage.on_error)
        elif entry.extra is not None:
            arguments = (parcel, entry.extra, results, faults, stage.columns, stage.on_error)
            parcel = await context.hop(rebuilt, *arguments)
        if attempts.counts:
            parcel = replace(parcel, noted=parcel.noted + attempts.taken())
        return parcel

    work = Work("map", attempts.around(function), limit, stage.ordered, unpack, pack, _MOST)
    return calls_as_told(work, parcels, context)


def _rows_and_dicts(batch: Any) -> tuple[Any, list[Any]]:
    rows = rows_of(batch)
    return rows, list(rows.dicts())


class _Raised:
    """What a function raised in a thread: some exceptions no future can carry."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _call_one(function: Callable[[Any], Any], value: Any) -> Any:
    try:
        return function(value)
    except CAUGHT as error:
        return _Raised(error)


def _in_threads(function: Callable[[Any], Any], context: Context, count: int) -> Callable[[Any], Awaitable[Any]]:
    submit = context.own_pool(count)  # type: ignore[attr-defined]

    async def call(value: Any) -> Any:
        result = await submit(_call_one, function, value)
        if type(result) is _Raised:
            raise result.error
        return result

    return call
