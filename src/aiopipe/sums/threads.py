"""Threads for a caller that waits in its own thread: what `Crew` is with worker processes."""

from __future__ import annotations

import contextlib
import queue

from aiopipe.sums.engine import Run
from aiopipe.sums.schedule import Done

__all__ = ["Threads"]

_PATIENCE = 0.8


class Threads:
    """Lanes, for a caller that waits for them in its own thread."""

    def __init__(self, run: Run) -> None:
        self._done: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self._lanes = run.lanes(self._done.put)
        self.submit = self._lanes.submit

    def wait(self, seconds: float) -> list[Done]:
        """What was done, as soon as anything was; nothing when the time has passed."""
        found = []
        with contextlib.suppress(queue.Empty):
            found.append(self._done.get(timeout=seconds))
        while not self._done.empty():
            found.append(self._done.get())
        return found

    def close(self) -> None:
        """End the lanes. Ctrl-C is answered within a second, even where a dead network disk holds one in the kernel."""
        self._lanes.stop()
        self._lanes.join(_PATIENCE)
