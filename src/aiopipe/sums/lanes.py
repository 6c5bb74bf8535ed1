"""Lanes: the threads that do the work, each alone or each with a worker process of its own.

A lane takes a job, has its runner do it, and reports. A local runner works in the lane's thread. A remote one
(see `crew`) writes the job to a worker process and reads the answer.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from aiopipe.sums.schedule import Done, Job, Piece

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Runner(Protocol):
        """Does jobs. `start` may only queue the work; `finish` waits for the oldest that was started."""

        depth: int

        def start(self, job: Job) -> None:
            """Begin a job."""

        def finish(self) -> tuple[list[Piece], float, int]:
            """What came of the oldest job begun, the seconds it took, and when it began."""

        def close(self) -> None:
            """Let go of the worker, if there is one."""


__all__ = ["Lanes"]


class Lanes:
    """A thread for each of `makers`, which make runners; `report` is called in it for every job done."""

    def __init__(self, makers: Sequence[Callable[[], Runner]], report: Callable[[Done], None]) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._report = report
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._work, args=(make,), name=f"aiopipe-hash-{number}", daemon=True)
            for number, make in enumerate(makers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job for whichever lane is free first."""
        self._jobs.put(job)

    def stop(self) -> None:
        """Ask every lane to end; those in the middle of a file end at its next block."""
        self._stopped = True
        for _ in self._threads:
            self._jobs.put(None)

    def join(self, seconds: float | None = None) -> None:
        """Wait until every lane has ended and its worker is gone, or for so many seconds in all."""
        end = None if seconds is None else time.monotonic() + seconds
        for thread in self._threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))

    @property
    def alive(self) -> bool:
        """True while any lane has not ended."""
        return any(thread.is_alive() for thread in self._threads)

    def _work(self, make: Callable[[], Runner]) -> None:
        begun: deque[Job] = deque()
        runner: Runner | None = None
        try:
            runner = make()
            while True:
                while len(begun) < runner.depth:
                    try:
                        job = self._jobs.get(block=not begun)
                    except queue.Empty:
                        break
                    if job is None or self._stopped:
                        return
                    begun.append(job)
                    runner.start(job)
                done = runner.finish()
                self._report(Done(begun.popleft(), *done))
        except BaseException as error:
            nothing = Job(-1, 0, [], False, (), False)
            self._report(Done(begun[0] if begun else nothing, [], 0.0, 0, error))
        finally:
            if runner is not None:
                runner.close()
