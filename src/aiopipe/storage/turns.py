"""Bytes that come from the event loop: HTTP bodies, stream readers, database cursors, as blocks."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiopipe.stage import Context

__all__ = ["Turns"]

_TURN = 0.1  # seconds: how soon a read that waits notices that the run is over
_GATHER = 0.02  # seconds that small pieces are gathered for, so that a few bytes need not wait for a whole block


class Turns:
    """A stream of bytes that is read in turns, so that a silent one never holds up the end of a run.

    Derive from it and write `more` and, where something is to be closed, `finish`. Small pieces that come at once are
    handed on together.
    """

    def __init__(self) -> None:
        self.begun: list[bytes] = []  # what was read before the run began
        self.ended = False
        self._coming: asyncio.Future[bytes] | None = None

    async def more(self, size: int) -> bytes:
        """The next bytes, about `size` at most; b"" at the end."""
        raise NotImplementedError

    async def finish(self) -> None:
        """Close what is open."""

    async def read(self, context: Context, block: int) -> bytes | None:
        """Up to about `block` bytes; b"" at the end, None when a turn brought nothing."""
        pieces: list[bytes] = []
        size = 0
        loop = asyncio.get_running_loop()
        until = loop.time() + _GATHER
        while size < block and not self.ended and not (pieces and loop.time() > until):
            if self._coming is None:
                self._coming = asyncio.ensure_future(self.more(block - size))
            if pieces:
                await asyncio.sleep(0)
            else:
                await asyncio.wait([self._coming], timeout=_TURN)
            if not self._coming.done():
                break
            if pieces and self._coming.exception() is not None:
                break  # what came before the failure comes first
            future, self._coming = self._coming, None
            data = future.result()
            self.ended = not data
            pieces.append(data)
            size += len(data)
        return b"".join(pieces) if pieces or self.ended else None

    async def aclose(self) -> None:
        """End the read that waits, and close."""
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.cancel()
            with contextlib.suppress(BaseException):
                await coming
        await self.finish()

    def close(self) -> None:
        """Nothing: see aclose."""
