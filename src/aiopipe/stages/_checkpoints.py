"""Checkpoints: what came of a large file so far is brought to the disk while the rest is worked on.

    parts      0   1   2   3 | 4   5   6 | 7
    written    ..............|...........|....
    synced                   |   ----    |   ----     in a thread, beside the writing
    ledger                   |       x   |       x

A checkpoint stands between two parts of a file, so at a boundary of its records. It costs a sync of bytes that must
be synced in the end anyway, and a row; what is gained is that a killed run need not do again what lies before it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from aiopipe.model import FileRef
from aiopipe.stage import Context, Ranges
from aiopipe.storage.ranges import Reached
from aiopipe.storage.settle import settled
from aiopipe.storage.write import Temporary

if TYPE_CHECKING:
    from aiopipe.batch import Segment  # which imports numpy

__all__ = ["Checkpoints"]

EVERY = 64 << 20  # bytes of the input between two checkpoints,
SECONDS = 5.0  # or time, if that comes first: a slow service may need an hour for as many records
_WORTH = 16  # at the end of a run that was asked to stop, so many times less is worth one


class Checkpoints:
    """Those of one output, which is written to `temporary`. begun: where an earlier run had got to."""

    def __init__(
        self, ranges: Ranges, file: FileRef, temporary: Temporary, context: Context, begun: Reached | None
    ) -> None:
        self._ranges = ranges
        self._file = file
        self._temporary = temporary
        self._context = context
        self._byte = begun.byte if begun is not None else 0
        self._since = time.monotonic()
        self._named = begun is not None  # whether the temporary's name is on the disk
        self._kept = begun is not None  # whether there is something to go on with
        self._flying: asyncio.Future[None] | None = None

    async def before(self, segment: Segment, given: int, names: tuple[str, ...] | None) -> None:
        """Begin one before the part that this segment begins, if it is time; raises what the last one raised.

        A disk that needs longer for one than the work for two holds the work up: else nobody could say how much a
        kill may cost.
        """
        if self._flying is not None and (self._flying.done() or segment.byte - self._byte >= 2 * EVERY):
            await self.wait_landed()
        if self._flying is None and self._far(segment.byte, EVERY):
            self.take(segment.part, given, names)

    def _far(self, byte: int, every: int) -> bool:
        far = byte - self._byte
        return far > 0 and (far >= every or time.monotonic() - self._since >= SECONDS)

    async def pause(self, part: int, given: int, names: tuple[str, ...] | None) -> None:
        """One at the end of a run that does not finish the file, if it is worth it; as for `take`."""
        await self.wait_landed()
        self.take(part, given, names, EVERY // _WORTH)
        await self.wait_landed()

    def take(self, part: int, given: int, names: tuple[str, ...] | None, every: int = 0) -> None:
        """Begin one: all before `part` is written. given: records in the output; names: its columns, if it has some.

        every: not if it would be less far from the last one.
        """
        reached = self._ranges.mark(self._file, part)
        if reached is None or not self._far(reached.byte, every):
            return
        length, blake3 = self._temporary.so_far
        reached = replace(
            reached, given=given, names=names, temporary=self._temporary.path, length=length, blake3=blake3
        )
        self._byte, self._since = reached.byte, time.monotonic()
        self._flying = asyncio.ensure_future(self._context.io(self._keep, reached))

    def _keep(self, reached: Reached) -> None:
        """In a thread: first the bytes, then the row."""
        self._temporary.sync(name=not self._named)
        self._named = True
        self._ranges.keep(self._file, reached)
        self._kept = True

    async def wait_landed(self) -> None:
        """Until the last one is over; raises what it raised."""
        if self._flying is not None:
            await settled(asyncio.wait([self._flying]))
            self._landed()

    def _landed(self) -> None:
        assert self._flying is not None
        flying, self._flying = self._flying, None
        if flying.exception() is not None:
            self._kept = False  # a disk that did not take these bytes is not trusted with those before them
        flying.result()

    async def end(self) -> None:
        """The output is not finished by this run: it stays if there is something to go on with, else it is removed."""
        try:
            await self.wait_landed()
        finally:
            if self._kept:
                self._temporary.leave()
            else:
                self._temporary.discard()
