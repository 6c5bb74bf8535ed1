"""Time limits for many calls at once, with one timer of the loop.

All may take the same time, so the one that began first ends first, and only that one needs a timer: an
`asyncio.timeout` for each call makes and cancels a timer for each.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

__all__ = ["Deadline", "Deadlines"]


class Deadlines:
    """Those of one stage. seconds: what each call has."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._open: dict[Deadline, None] = {}  # in the order in which they end
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> Deadline:
        """The time of the current task begins now.

        In a `with` block, which raises TimeoutError when it is over, as `asyncio.timeout` does.
        """
        task = asyncio.current_task()
        assert task is not None
        loop = task.get_loop()
        deadline = Deadline(self, task, loop.time() + self._seconds)
        self._open[deadline] = None
        if self._timer is None:
            self._timer = loop.call_at(deadline.when, self._ring)
        return deadline

    def end(self, deadline: Deadline) -> None:
        """Let it go; with the last one the timer goes."""
        self._open.pop(deadline, None)
        if not self._open and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        for deadline in list(self._open):
            loop = deadline.task.get_loop()
            if deadline.when > loop.time():
                self._timer = loop.call_at(deadline.when, self._ring)
                return
            del self._open[deadline]
            deadline.expired = True
            deadline.task.cancel()


class Deadline:
    """One call's. when: the loop's time at which it is over. expired: whether it was."""

    __slots__ = ("_all", "cancelling", "expired", "task", "when")

    def __init__(self, every: Deadlines, task: asyncio.Task[object], when: float) -> None:
        self._all = every
        self.task = task
        self.when = when
        self.cancelling = task.cancelling()
        self.expired = False

    def left(self) -> float:
        """Seconds until it is over."""
        return self.when - self.task.get_loop().time()

    def lift(self) -> None:
        """What follows may take as long as it likes."""
        if not self.expired:
            self._all.end(self)

    def __enter__(self) -> Deadline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.expired:
            self._all.end(self)
        elif self.task.uncancel() <= self.cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
