"""Beginning and ending one worker process: forked where this process has a single thread, else spawned.

A fork takes a few ms and shares what was imported; starting an interpreter takes 70 ms of a core. Why it is for the
command line alone stands in `forking`.
"""

from __future__ import annotations

import contextlib
import os
import sys

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from aiopipe.forking import can_fork, fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class _Process(Protocol):
        """What a forked process and `subprocess.Popen` have in common."""

        def kill(self) -> None:
            """End it at once."""

        def wait(self) -> int:
            """Its exit code, when it has ended."""

        def poll(self) -> int | None:
            """Its exit code, or None while it runs."""


__all__ = ["Worker", "begin"]

_COMMAND = "import sys; sys.path[:] = {path!r}; from aiopipe.sums.worker import main; main()"
_PIPE = 1 << 20  # holds some jobs, and their answers: neither end waits for the other to look


class Worker:
    """A worker process and this process's ends of its pipes: `jobs` to write to, `answers` to read from."""

    def __init__(self, process: _Process, jobs: int, answers: int) -> None:
        self.process, self.jobs, self.answers = process, jobs, answers
        self._open = True

    def close(self, *, at_once: bool) -> None:
        """End it: kindly by closing its input, or at once."""
        if not self._open:
            return
        self._open = False
        if at_once:
            self.process.kill()
        os.close(self.jobs)
        os.close(self.answers)
        self.process.wait()


def begin() -> Worker:
    """A new worker, which waits for its work (see `worker.serve`)."""
    theirs, jobs = os.pipe()
    answers, answering = os.pipe()
    try:
        if fcntl is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
            for end in (jobs, answers):
                with contextlib.suppress(OSError):  # the user's pipes may have all that the system allows
                    fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, _PIPE)
        process = _forked(theirs, answering) if can_fork() else _spawned(theirs, answering)
    except BaseException:
        os.close(jobs)
        os.close(answers)
        raise
    finally:
        os.close(theirs)
        os.close(answering)
    return Worker(process, jobs, answers)


def _spawned(source: int, target: int) -> _Process:
    import subprocess  # 3 ms, for those who need it

    # -S and the path as it is here: site would read every .pth file again, a third of the start-up.
    code = _COMMAND.format(path=sys.path)
    return subprocess.Popen([sys.executable, "-S", "-E", "-c", code], stdin=source, stdout=target, bufsize=0)


def _forked(source: int, target: int) -> _Process:
    from aiopipe.sums.worker import serve  # by us, so that it is imported once for all

    return fork(source, target, lambda: serve(0, 1))
