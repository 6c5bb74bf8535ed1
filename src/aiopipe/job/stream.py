"""Iterate a stream of rows: the run goes on in a task of its own, and ends when the block is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from aiopipe.stage import Outcome, Pipeline, Sink
from aiopipe.storage.settle import settled

if TYPE_CHECKING:
    from aiopipe.job.report import Report
    from aiopipe.stage import Context, Stream

__all__ = ["RowStream"]


class RowStream:
    """`async with stream.stream() as rows: async for row in rows: ...`

    The TaskGroup lives in a task that this object owns, never around a `yield` (PEP 789): leaving the block
    cancels that task and waits until files, threads and processes are gone. After the block has run to its
    end, `report` is the run's report.
    """

    def __init__(self, stream: Stream, job: dict[str, Any]) -> None:
        self._stream = stream
        self._job = job
        self._queue: asyncio.Queue[list[Any] | None] = asyncio.Queue(2)
        self._task: asyncio.Task[Report] | None = None
        self._rows: AsyncGenerator[Any, None] | None = None
        self._leaving = False
        self.report: Report | None = None

    async def __aenter__(self) -> RowStream:
        pipeline = Pipeline((*self._stream.stages, _Handover(self._queue)))
        self._task = asyncio.create_task(self._run(pipeline), name="aiopipe stream")
        self._rows = self._iterate()
        return self

    async def _run(self, pipeline: Pipeline) -> Report:
        try:
            return await pipeline.run(**self._job)
        finally:
            if not self._leaving:
                await self._queue.put(None)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = self._task
        assert task is not None and self._rows is not None
        # Whoever leaves early has had enough, as with `head`: what fails beyond that concerns nobody.
        self._leaving = True
        task.cancel()
        try:
            await settled(asyncio.wait([task]))
        finally:
            await self._rows.aclose()
        if not task.cancelled() and task.exception() is None:
            self.report = task.result()

    def __aiter__(self) -> AsyncIterator[Any]:
        if self._rows is None:
            raise RuntimeError("enter the stream first: async with ... .stream() as rows")
        return self._rows

    async def _iterate(self) -> AsyncGenerator[Any, None]:
        assert self._task is not None
        while True:
            values = await self._queue.get()
            if values is None:
                self.report = await self._task  # raises what the run raised
                return
            for value in values:
                yield value


class _Handover(Sink):
    """The sink of a stream: hands rows to whoever iterates."""

    word = "stream"

    def __init__(self, queue: asyncio.Queue[list[Any] | None]) -> None:
        object.__setattr__(self, "queue", queue)

    def encode(self, parcel: Any, kind: str) -> Any:
        from aiopipe.stages.collect import as_items

        return as_items(parcel, kind)

    async def consume(self, parcels: AsyncIterator[Any], context: Context) -> Outcome:
        outcome = Outcome()
        async for parcel in parcels:
            outcome.records += len(parcel.values)
            if parcel.values:
                await self.queue.put(parcel.values)  # type: ignore[attr-defined]
        return outcome
