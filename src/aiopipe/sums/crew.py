"""Worker processes: for huge trees of tiny files, where threads would only wait for the interpreter lock, and for
large files under quick algorithms, which are hashed where they lie in the page cache (see `Reader.maps`).

`Remote` is one of them, a runner for a lane; `Crew` drives several from one thread, which hashes tiny files as well
while it would only wait. How a process begins and ends is `aiopipe.sums.processes`.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections import deque
from collections.abc import Callable

from aiopipe.errors import WorkerError
from aiopipe.sums.engine import Run
from aiopipe.sums.frames import receive, revived, send
from aiopipe.sums.processes import Worker, begin
from aiopipe.sums.runners import Local, Work
from aiopipe.sums.schedule import Done, Job, Piece

__all__ = ["Crew", "Remote"]


class Remote:
    """Has a worker process do the jobs; a worker that dies is replaced, and named if it happens again.

    It keeps jobs in the worker's queue, so that the worker never waits for this process to wake up. Four, because this
    process may be at a job of its own and then walk on for a while: with two the worker was idle a tenth of the time.
    """

    depth = 4

    def __init__(self, work: Work, stopped: Callable[[], bool]) -> None:
        self._work = work
        self._stopped = stopped
        self._sent: deque[Job] = deque()
        self._before = bytearray()
        self._worker = self._begin()

    @property
    def waiting(self) -> int:
        """How many jobs it has."""
        return len(self._sent)

    @property
    def oldest(self) -> Job:
        """The job whose answer comes next."""
        return self._sent[0]

    def has_room(self, depth: int) -> bool:
        """Whether it may be given a job that makes `depth` of them; none waits behind a large file."""
        return len(self._sent) < depth and not (self._sent and self._sent[-1].alone)

    def fileno(self) -> int:
        """What can be read from when an answer has come, or the worker has died."""
        return self._worker.answers

    def _begin(self) -> Worker:
        worker = begin()
        with contextlib.suppress(OSError):  # as below
            send(worker.jobs, tuple(self._work))
        return worker

    def start(self, job: Job) -> None:
        """Send the job."""
        self._sent.append(job)
        self._send(job)

    def _send(self, job: Job, *, again: bool = False) -> None:
        with contextlib.suppress(OSError):  # `finish` sees the end of the answers and has it done again
            send(self._worker.jobs, (job.paths, job.follow, job.alone, job.algorithms, again))

    def finish(self) -> tuple[list[Piece], float, int]:
        """Wait for the oldest answer; raises WorkerError where two workers in a row died of one job."""
        answer = receive(self.fileno(), self._before)
        if answer is None and not self._stopped():
            self._replace()
            answer = receive(self.fileno(), self._before)
        job = self._sent.popleft()
        if answer is None:
            first = os.fsdecode(job.paths[0].partition(b"\0")[0])  # of a family of files, if it is one
            raise WorkerError(
                f"two worker processes ended while hashing {first} and its neighbours",
                hint="run again with --backend threads; the kernel's log may say why they were killed",
            )
        pieces, seconds, begun_ns = answer
        made = [Piece(start, files, revived(value, self._work)) for start, files, value in pieces]
        return made, seconds, begun_ns

    @property
    def answered(self) -> bool:
        """Whether part of an answer has been read already, so that nothing more may show on the descriptor."""
        return len(self._before) > 0

    def _replace(self) -> None:
        self.close()
        self._before.clear()
        self._worker = self._begin()
        for job in self._sent:
            self._send(job, again=True)

    def close(self) -> None:
        """End the worker: kindly by closing its input, at once where the run was stopped."""
        self._worker.close(at_once=self._stopped())


class Crew:
    """All workers of a run, and for tiny files the calling thread as one more.

    A lane of threads in this process would do the same work, but take the interpreter lock from the one that
    walks and prints at every system call: a fifth of the whole time on 60,000 files. Large files are always for the
    workers: while one is read, results must go on leaving and progress be shown.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._large: deque[Job] = deque()
        self._queue: deque[Job] = deque()
        self._local: Local | None = None
        self._remotes: list[Remote] = []
        try:
            for _ in range(run.count - 1 if run.helps else run.count):
                self._add()
        except BaseException:
            self.close()
            raise

    def _add(self) -> None:
        self._remotes.append(Remote(self._run.work, self._run.is_stopped))

    def submit(self, job: Job) -> None:
        """Queue a job for whoever is free first."""
        (self._large if job.alone else self._queue).append(job)
        self._hand_out()  # now and not when there is nothing else to do: the walk may be long

    def wait(self, seconds: float) -> list[Done]:
        """What was done; a job of small files that no worker has room for is done here and now."""
        self._hand_out()
        done = self._finished(0)
        if done:
            return done
        busy = sum(1 for remote in self._remotes if remote.waiting)
        if self._queue and self._run.helps and busy < self._run.count:
            # Made here and not before: it may need the cache, which is opened when the workers are there.
            self._local = self._local or self._run.local()
            job = self._queue.popleft()
            self._local.start(job)
            return [self._run.recorded(Done(job, *self._local.finish()))]
        return self._finished(seconds)

    def _hand_out(self) -> None:
        if self._large and len(self._remotes) < self._run.count and not any(each.has_room(1) for each in self._remotes):
            self._add()
        for depth in range(1, Remote.depth + 1):  # the first for each, then the second for each
            for remote in self._remotes:
                if remote.has_room(depth):
                    if self._large and depth == 1:
                        remote.start(self._large.popleft())
                    elif self._queue:
                        remote.start(self._queue.popleft())

    def _finished(self, seconds: float) -> list[Done]:
        poll = select.poll()
        busy = {remote.fileno(): remote for remote in self._remotes if remote.waiting}
        for fd in busy:
            poll.register(fd, select.POLLIN)
        if any(remote.answered for remote in busy.values()):
            seconds = 0
        found = {fd for fd, _ in poll.poll(seconds * 1000)}
        done = []
        for fd, remote in busy.items():
            if fd in found or remote.answered:
                job = remote.oldest
                done.append(self._run.recorded(Done(job, *remote.finish())))
        return done

    def close(self) -> None:
        """End all workers."""
        for remote in self._remotes:
            remote.close()
        if self._local is not None:
            self._local.close()
