"""Which paths are hashed together, and when their results may leave: pure bookkeeping, no I/O, no threads.

    add(run of paths) -> [batch 7]  cut into jobs ->  job(7, 0:200)  job(7, 200:400) ...
                                                            |  lanes, in any order
    ready() <- [batch 7] when all its slots are full <- complete(job, outcome)

A job is cut so that it takes about 10 ms, from the measured time of the jobs before it. A lane that runs out
of time hands the rest back, and a file past `LARGE` comes back as a job of its own, so no lane sits on work
that another could do. Batches leave in the order in which they came, whatever order their jobs finished in.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Iterator

from aiopipe.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Done", "Job", "Piece", "Schedule"]

TARGET_SECONDS = 0.010
MOST_FILES = 1024
_HELD = 65_536  # results that may wait for an earlier one: about 20 MB
_AHEAD = 4  # jobs for each lane that are cut and not done: more would be cut by an old measure of their time


class Job(NamedTuple):
    """Some paths of one batch, for one lane."""

    batch: int
    start: int
    paths: list[bytes]
    follow: bool
    algorithms: tuple[str, ...]
    alone: bool


class Piece(NamedTuple):
    """What came of some neighbouring paths of a job: `files` of them from `start` on.

    `value` is whatever the runner makes of them; None marks one file that is to be read alone.
    """

    start: int
    files: int
    value: Any


class Done(NamedTuple):
    """A job and what came of it; `error` is an unexpected exception, which ends the run."""

    job: Job
    pieces: list[Piece]
    seconds: float
    begun_ns: int
    error: BaseException | None = None


class _Batch:
    __slots__ = ("algorithms", "follow", "left", "number", "paths", "pieces")

    def __init__(self, number: int, paths: list[bytes], follow: bool, algorithms: tuple[str, ...]) -> None:
        self.number = number
        self.paths = paths
        self.follow = follow
        self.algorithms = algorithms
        self.pieces: list[tuple[int, Any]] = []
        self.left = len(paths)


class Schedule:
    """Cuts batches into jobs and puts what came of them back into order.

    `locked_seconds` is the part of each file's time in which a thread holds the interpreter lock: where it
    is most of the time, more lanes only wait for each other, so fewer are given work. 0 for processes.
    """

    def __init__(self, *, lanes: int, locked_seconds: float = 0.0) -> None:
        self._lanes = lanes
        self._locked_seconds = locked_seconds
        self._batches: deque[_Batch] = deque()
        self._by_number: dict[int, _Batch] = {}
        self._waiting: deque[tuple[_Batch, int, int]] = deque()
        self._alone: deque[tuple[_Batch, int]] = deque()
        self._next = 0
        self._per_file = TARGET_SECONDS / 16
        self.held = 0
        self.running = 0
        self._running_shared = 0

    @property
    def wants_input(self) -> bool:
        """True while more batches would keep the lanes busy and the bound on held results is not reached."""
        return len(self._waiting) < 2 * self._lanes and self.held < _HELD

    @property
    def idle(self) -> bool:
        """True when nothing is waiting, running or held."""
        return not self._batches and not self.running

    def add(self, paths: list[bytes], *, follow: bool = False, algorithms: tuple[str, ...] = ()) -> None:
        """Take in a run of paths."""
        batch = self._append(paths, follow, algorithms)
        self._waiting.append((batch, 0, len(paths)))

    def add_done(self, path: bytes, value: object) -> None:
        """Take in a result that is known already and only keeps its place in the order."""
        batch = self._append([path], False, ())
        batch.pieces, batch.left = [(0, value)], 0

    def _append(self, paths: list[bytes], follow: bool, algorithms: tuple[str, ...]) -> _Batch:
        batch = _Batch(self._next, paths, follow, algorithms)
        self._next += 1
        self.held += len(paths)
        self._batches.append(batch)
        self._by_number[batch.number] = batch
        return batch

    def next_job(self) -> Job | None:
        """The next piece of work, or None while there is none that may start now."""
        if self.running >= _AHEAD * self._lanes:
            return None
        # Large files first: the one that is found last should not be the one that everybody waits for.
        if self._alone:
            batch, index = self._alone.popleft()
            self.running += 1
            return Job(batch.number, index, [batch.paths[index]], batch.follow, batch.algorithms, True)
        if not self._waiting:
            return None
        if self._running_shared and self._running_shared * self._locked_seconds > self._per_file:
            return None
        batch, start, stop = self._waiting.popleft()
        size = max(1, min(MOST_FILES, int(TARGET_SECONDS / self._per_file)))
        if stop - start > size:
            self._waiting.appendleft((batch, start + size, stop))
            stop = start + size
        self.running += 1
        self._running_shared += 1
        return Job(batch.number, start, batch.paths[start:stop], batch.follow, batch.algorithms, False)

    def complete(self, job: Job, pieces: list[Piece], seconds: float) -> None:
        """Take what came of a job; paths that no piece covers are work left over and wait again."""
        self.running -= 1
        batch = self._by_number[job.batch]
        handled = 0
        for start, count, value in pieces:
            handled += count
            if value is None:
                self._alone.append((batch, job.start + start))
            else:
                batch.pieces.append((job.start + start, value))
                batch.left -= count
        if job.alone:
            if not handled:
                self._alone.appendleft((batch, job.start))
            return
        self._running_shared -= 1
        if handled:
            # Quick to grow and quick to shrink: neighbours in a tree are alike.
            self._per_file = 0.5 * self._per_file + 0.5 * max(seconds / handled, 1e-7)
        if handled < len(job.paths):
            self._waiting.appendleft((batch, job.start + handled, job.start + len(job.paths)))

    def ready(self) -> Iterator[Any]:
        """The values that may leave now, in order."""
        while self._batches and not self._batches[0].left:
            batch = self._batches.popleft()
            del self._by_number[batch.number]
            self.held -= len(batch.paths)
            batch.pieces.sort(key=_place)
            for _, value in batch.pieces:
                yield value


_place = operator.itemgetter(0)
