"""What happens in directories, as an event in the loop: watchfiles in a thread of its own, which ends with us."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiopipe.errors import UsageError

__all__ = ["Arrivals", "arrivals"]

_STEP = 100  # milliseconds without a change that end a burst,
_BURST = 500  # which is told after this many at the latest


class Arrivals:
    """changed: set whenever something happened. broken: why nothing will be told any more, "" while all is well."""

    def __init__(self, roots: Sequence[str]) -> None:
        self.changed = asyncio.Event()
        self.broken = ""
        self._roots = roots
        self._loop = asyncio.get_running_loop()
        self._over = threading.Event()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._listen, name="aiopipe-arrivals", daemon=True)

    def _listen(self) -> None:
        from watchfiles import watch

        try:
            bursts = watch(
                *self._roots,
                watch_filter=None,
                debounce=_BURST,
                step=_STEP,
                stop_event=self._over,
                raise_interrupt=False,
                ignore_permission_denied=True,
            )
            for _ in bursts:
                self._tell(self.changed.set)
        except Exception as error:  # no watches left, a directory that is gone: looking now and then must do
            self.broken = str(error) or type(error).__name__
            self._tell(self.changed.set)
        finally:
            self._tell(self._end)

    def _tell(self, what: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(what)  # type: ignore[arg-type]

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


@asynccontextmanager
async def arrivals(roots: Sequence[str]) -> AsyncIterator[Arrivals]:
    """Listen to these directories, at any depth, while the block runs."""
    try:
        import watchfiles  # noqa: F401
    except ImportError:
        raise UsageError(
            "watchfiles is not installed", stage="--watch", hint="pip install 'aiopipe-csv[watch]'"
        ) from None
    made = Arrivals(roots)
    made._thread.start()
    try:
        yield made
    finally:
        made._over.set()
        from aiopipe.storage.settle import settled

        await settled(asyncio.wait([made._ended]))
        made._thread.join()
