"""Takes account of every envelope: counts, rejects, progress; ends the run when a reject must."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aiopipe.batch import Segment
from aiopipe.engine.runner import Envelope
from aiopipe.errors import TooManyRejectsError
from aiopipe.job.rejects import Places, RejectsFile, error_of
from aiopipe.job.report import Report, StageReport
from aiopipe.model import Reject
from aiopipe.plan import Plan

__all__ = ["Accounts"]


class Accounts:
    """The running totals of a job, and its policy on rejects.

    rejects: where they go; None means that the first one ends the run. limit: how many may go there.
    progress: called with the report so far, about ten times a second.
    """

    def __init__(
        self,
        plan: Plan,
        rejects: RejectsFile | None,
        limit: int | None,
        progress: Callable[[Report], None] | None,
    ) -> None:
        self.report = Report()
        self._stages = {
            s.name: StageReport("parse" if s.shape == "decode" else "encode" if s.shape == "encode" else s.label)
            for s in plan.steps
            if s.shape != "sink"
        }
        self.report.stages = list(self._stages.values())
        self._rejects = rejects
        self._limit = limit
        self._progress = progress
        self._told = 0.0
        self._places = Places()
        self._waiting: list[tuple[Reject, Segment]] = []
        self._ready: list[Reject] = []

    def __call__(self, envelope: Envelope) -> Any:
        """Account for an envelope; the parcel without its rejects."""
        for tally in envelope.tallies:
            stage = self._stages[tally.name]
            stage.taken += tally.taken
            stage.given += tally.given
            stage.rejected += tally.rejected
            stage.seconds += tally.seconds
            self.report.rejected += tally.rejected
            if tally.name == "decode":
                self.report.read += tally.taken
        parcel = envelope.parcel
        if any(t.name == "decode" for t in envelope.tallies):
            self._places.note(parcel.segments)
        rejects = getattr(parcel, "rejects", ())
        if rejects:
            self._take(rejects, parcel)
            parcel = replace(parcel, rejects=())
        self._tell()
        return parcel

    def _take(self, rejects: tuple[Reject, ...], parcel: Any) -> None:
        segments = {s.file.index: s for s in getattr(parcel, "segments", ())}
        for reject in rejects:
            segment = segments.get(reject.file.index)
            base = (0, 0) if segment is None else self._places.base(segment)
            if self._rejects is None:
                raise error_of(reject if base is None else reject.moved(*base))
            if base is None:
                assert segment is not None
                self._waiting.append((reject, segment))
            else:
                self._ready.append(reject.moved(*base))
        if self._limit is not None and self.report.rejected > self._limit:
            raise TooManyRejectsError(
                f"{self.report.rejected} records set aside, {self._limit} allowed (--max-rejects)",
                hint=f"the first: {self._first()}",
            )

    def _first(self) -> str:
        first = self._ready[0] if self._ready else self._waiting[0][0] if self._waiting else None
        return f"{first.position}: {first.reason}" if first else "see the rejects file"

    async def flush(self, *, final: bool = False) -> None:
        """Write the rejects whose place is known; with final=True all of them."""
        if self._rejects is None:
            return
        still = []
        for reject, segment in self._waiting:
            base = self._places.base(segment)
            if base is not None:
                self._ready.append(reject.moved(*base))
            elif final:
                self._ready.append(replace(reject, position=replace(reject.position, line=None, record=None)))
            else:
                still.append((reject, segment))
        self._waiting = still
        ready, self._ready = self._ready, []
        await self._rejects.add(ready)

    @property
    def unwritten(self) -> int:
        """Rejects held in memory."""
        return len(self._ready)

    def _tell(self) -> None:
        if self._progress is None:
            return
        now = asyncio.get_running_loop().time()
        if now - self._told >= 0.1:
            self._told = now
            self._progress(self.report)
