"""Beginning and ending one worker process: forked where this process has a single thread, else spawned.

A fork takes a few ms and shares what was imported; starting an interpreter takes 70 ms of a core. But a fork under
threads can inherit a lock that nobody will ever give back, so it is for the command line before it has any thread,
and on Linux, where that can be seen. What a forked worker inherits it closes or never touches: it leaves through
`os._exit` and cannot write what its parent had buffered.
"""

from __future__ import annotations

import contextlib
import os
import sys

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from aiopipe.sums.signals import signals

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


__all__ = ["Worker", "begin", "can_fork"]

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


def can_fork() -> bool:
    """Whether a fork is safe here and now: Linux, and no other thread of any library in this process."""
    threading = sys.modules.get("threading")  # where nobody has imported it, nobody has begun a thread with it
    if sys.platform != "linux" or (threading is not None and threading.active_count() != 1):
        return False
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


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

    pid = os.fork()
    if pid:
        return _Child(pid)
    try:
        signals.signal(signals.SIGTERM, signals.SIG_DFL)
        signals.set_wakeup_fd(-1)
        # To where a spawned worker has them, and nothing else stays open: not the ends of other workers' pipes, which
        # would never see that this run has ended, and not a file or database that the parent is writing.
        source, target = (fcntl.fcntl(end, fcntl.F_DUPFD, 3) for end in (source, target))
        os.dup2(source, 0)
        os.dup2(target, 1)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        serve(0, 1)
    except Exception:
        import traceback

        traceback.print_exc()  # as a spawned one would
    finally:
        os._exit(1)


class _Child:
    """A forked process; see `_Process`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._code: int | None = None

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self._pid, signals.SIGKILL)

    def wait(self) -> int:
        return self._waited(0)

    def poll(self) -> int | None:
        self._waited(os.WNOHANG)
        return self._code

    def _waited(self, flags: int) -> int:
        if self._code is None:
            try:
                pid, status = os.waitpid(self._pid, flags)
            except ChildProcessError:  # somebody else has waited for it
                self._code = 0
            else:
                if pid:
                    self._code = os.waitstatus_to_exitcode(status)
        return self._code or 0
