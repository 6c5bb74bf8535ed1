"""A fork of this process as a worker, where that is safe: before it has a second thread.

It takes some milliseconds and shares what was imported, where a fresh interpreter needs half a second of a core for the
same. But a fork under threads can inherit a lock that nobody will ever give back. So it is for the command line, and on
Linux, where threads can be seen. What a worker inherits it closes or never touches: it leaves through `os._exit` and
cannot write what its parent had buffered.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Child", "can_fork", "fork"]


def can_fork() -> bool:
    """Whether a fork is safe here and now: Linux, and no other thread of any library in this process."""
    if sys.platform != "linux" or threading.active_count() != 1:
        return False
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def fork(source: int, target: int, serve: Callable[[], None]) -> Child:
    """A child that calls `serve`, with these descriptors as its standard input and output, and no other open ones.

    Ctrl-C does not reach it. It ends with `serve`, and whatever that raises. OSError where there is no process to have.
    """
    pid = os.fork()
    if pid:
        return Child(pid)
    try:
        gc.freeze()
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        # Not the ends of other workers' pipes, which would never see that this run has ended, nor what the parent has
        # open for itself.
        source, target = (fcntl.fcntl(end, fcntl.F_DUPFD, 3) for end in (source, target))
        os.dup2(source, 0)
        os.dup2(target, 1)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        serve()
    finally:
        os._exit(1)


class Child:
    """A forked process, with as much of `subprocess.Popen` as others need."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None
        self._lock = threading.Lock()

    def kill(self) -> None:
        """End it at once."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Its exit code, when it has ended."""
        return self._waited(0)

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        self._waited(os.WNOHANG)
        return self._code

    def _waited(self, flags: int) -> int:
        with self._lock:
            if self._code is None:
                try:
                    pid, status = os.waitpid(self.pid, flags)
                except ChildProcessError:  # somebody else has waited for it
                    self._code = 0
                else:
                    if pid:
                        self._code = os.waitstatus_to_exitcode(status)
            return self._code or 0
