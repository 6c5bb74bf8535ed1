"""The edge between two stages: a queue bounded in items and bytes, closable from both ends.

    producer --put--> [ item item item ] --get--> consumer
             --close()   no more will come: get() hands out what is left, then raises Closed,
                         or the error that ended the producer
             raises Closed <--  cancel()   no more is wanted: put() raises, what is left is dropped

One item is always let in, however large, so that a bound below an item's size slows but never stops a run.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Channel", "Closed", "Statistics"]

T = TypeVar("T")


class Closed(Exception):  # noqa: N818 - an outcome, not an error: StopIteration's sibling
    """The other end of the channel is gone."""


@dataclass(slots=True, eq=False, repr=False)
class Statistics:
    """What went through a channel, and who waited for whom.

    items, nbytes: put so far. waited_to_put, waited_to_get: seconds. peak_items, peak_bytes: fullest.
    """

    items: int = 0
    nbytes: int = 0
    waited_to_put: float = 0.0
    waited_to_get: float = 0.0
    peak_items: int = 0
    peak_bytes: int = 0


class Channel(Generic[T]):
    """A bounded queue between one producer and one consumer in the same event loop."""

    def __init__(self, name: str, max_items: int, max_bytes: int) -> None:
        self.name = name
        self.max_items = max_items
        self.max_bytes = max_bytes
        self.statistics = Statistics()
        self.unwanted = False  # something was left, or would have come, when the consumer had enough
        self._queue: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._closed = False
        self._cancelled = False
        self._error: Exception | None = None
        self._putter: asyncio.Future[None] | None = None
        self._getter: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def cancelled(self) -> bool:
        """True once the consumer wants no more."""
        return self._cancelled

    async def put(self, item: T, nbytes: int = 0) -> None:
        """Add an item, waiting for room; Closed when the consumer wants no more."""
        statistics = self.statistics
        if self._full(nbytes):
            begun = time.perf_counter()
            while self._full(nbytes) and not self._cancelled:
                self._putter = asyncio.get_running_loop().create_future()
                await self._putter
            statistics.waited_to_put += time.perf_counter() - begun
        if self._cancelled:
            raise Closed(self.name)
        if self._closed:
            raise RuntimeError(f"put into {self.name} after close()")
        self._queue.append((item, nbytes))
        self._bytes += nbytes
        statistics.items += 1
        statistics.nbytes += nbytes
        statistics.peak_items = max(statistics.peak_items, len(self._queue))
        statistics.peak_bytes = max(statistics.peak_bytes, self._bytes)
        _wake(self._getter)

    async def get(self) -> T:
        """The next item, waiting for one; when none will come any more, Closed or what ended the producer."""
        if not self._queue and not self._closed:
            begun = time.perf_counter()
            while not self._queue and not self._closed:
                self._getter = asyncio.get_running_loop().create_future()
                await self._getter
            self.statistics.waited_to_get += time.perf_counter() - begun
        if not self._queue:
            raise self._error or Closed(self.name)
        item, nbytes = self._queue.popleft()
        self._bytes -= nbytes
        _wake(self._putter)
        return item

    def close(self, error: Exception | None = None) -> None:
        """Producer: no more will come, because of `error` if one is given; the first call counts."""
        if not self._closed:
            self._error = error
        self._closed = True
        _wake(self._getter)

    def cancel(self) -> None:
        """Consumer: no more is wanted. What is queued is dropped, and a waiting producer is told."""
        self.unwanted = self.unwanted or not self._closed or bool(self._queue)
        self._cancelled = True
        self._closed = True
        self._queue.clear()
        self._bytes = 0
        _wake(self._putter)
        _wake(self._getter)

    def _full(self, nbytes: int) -> bool:
        queue = self._queue
        return bool(queue) and (len(queue) >= self.max_items or self._bytes + nbytes > self.max_bytes)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
