"""Worker processes: for huge trees of tiny files, where threads would only wait for the interpreter lock.

Processes are spawned, never forked: a fork under threads can inherit a held lock. `Remote` is one of them, a
runner for a lane; `Crew` drives several from one thread, which hashes as well while it would only wait.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from collections import deque
from collections.abc import Callable

from aiopipe.errors import WorkerError
from aiopipe.sums.engine import Run
from aiopipe.sums.frames import receive, revived, send
from aiopipe.sums.lanes import Done
from aiopipe.sums.runners import Work
from aiopipe.sums.schedule import Job, Piece

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Crew", "Remote"]

_COMMAND = "import sys; sys.path[:] = {path!r}; from aiopipe.sums.worker import main; main()"
_PIPE = 1 << 20  # holds some jobs, and their answers: neither end waits for the other to look


class Remote:
    """Has a worker process do the jobs; a worker that dies is replaced, and named if it happens again.

    It keeps jobs in the worker's queue, so that the worker never waits for this process to wake up.
    """

    depth = 2

    def __init__(self, work: Work, stopped: Callable[[], bool]) -> None:
        self._work = work
        self._stopped = stopped
        self._sent: deque[Job] = deque()
        self._before = bytearray()
        self._worker = self._spawn()

    @property
    def waiting(self) -> int:
        """How many jobs it has."""
        return len(self._sent)

    @property
    def oldest(self) -> Job:
        """The job whose answer comes next."""
        return self._sent[0]

    def fileno(self) -> int:
        """What can be read from when an answer has come, or the worker has died."""
        assert self._worker.stdout is not None
        return self._worker.stdout.fileno()

    def _spawn(self) -> subprocess.Popen[bytes]:
        # -S and the path as it is here: site would read every .pth file again, a third of the start-up.
        code = _COMMAND.format(path=sys.path)
        worker = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert worker.stdin is not None and worker.stdout is not None
        if fcntl is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
            for pipe in (worker.stdin, worker.stdout):
                with contextlib.suppress(OSError):  # the user's pipes may have all that the system allows
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
        send(worker.stdin.fileno(), tuple(self._work))
        return worker

    def start(self, job: Job) -> None:
        """Send the job."""
        self._sent.append(job)
        self._send(job)

    def _send(self, job: Job) -> None:
        assert self._worker.stdin is not None
        with contextlib.suppress(OSError):  # `finish` sees the end of the answers and has it done again
            send(self._worker.stdin.fileno(), (job.paths, job.follow, job.alone, job.algorithms))

    def finish(self) -> tuple[list[Piece], float, int]:
        """Wait for the oldest answer; raises WorkerError where two workers in a row died of one job."""
        answer = receive(self.fileno(), self._before)
        if answer is None and not self._stopped():
            self._replace()
            answer = receive(self.fileno(), self._before)
        job = self._sent.popleft()
        if answer is None:
            raise WorkerError(
                f"two worker processes ended while hashing {os.fsdecode(job.paths[0])} and its neighbours",
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
        self._worker = self._spawn()
        for job in self._sent:
            self._send(job)

    def close(self) -> None:
        """End the worker: kindly by closing its input, at once where the run was stopped."""
        worker = self._worker
        assert worker.stdin is not None and worker.stdout is not None
        if self._stopped():
            worker.kill()
        with contextlib.suppress(OSError):
            worker.stdin.close()
        worker.stdout.close()
        worker.wait()


class Crew:
    """All workers of a run, and the calling thread as one more.

    A lane of threads in this process would do the same work, but take the interpreter lock from the one that
    walks and prints at every system call: a fifth of the whole time on 60,000 files.
    """

    depth = 2

    def __init__(self, run: Run) -> None:
        self._run = run
        self._queue: deque[Job] = deque()
        self._local = run.local()
        self._remotes: list[Remote] = []
        try:
            for _ in range(run.count - 1):
                self._remotes.append(Remote(run.work, run.is_stopped))
        except BaseException:
            self.close()
            raise

    def submit(self, job: Job) -> None:
        """Queue a job for whoever is free first."""
        self._queue.append(job)

    def wait(self, seconds: float) -> list[Done]:
        """What was done; a job that no worker has room for is done here and now."""
        for depth in range(1, self.depth + 1):  # the first for each, then the second for each
            for remote in self._remotes:
                if remote.waiting < depth and self._queue:
                    remote.start(self._queue.popleft())
        done = self._finished(0)
        if not done and self._queue:
            job = self._queue.popleft()
            self._local.start(job)
            return [self._run.recorded(Done(job, *self._local.finish()))]
        return done or self._finished(seconds)

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
        self._local.close()
