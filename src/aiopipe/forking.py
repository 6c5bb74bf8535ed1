"""A fork of this process as a worker, where that is safe: before it has a second thread.

It takes some milliseconds and shares what was imported, where a fresh interpreter needs up to half a second of a core
for the same. But a fork under threads can inherit a lock that nobody will ever give back: so it is for the command
line, and on Linux, where threads can be seen. What a worker inherits it closes or never touches: it leaves through
`os._exit` and cannot write what its parent had buffered.
"""

from __future__ import annotations

import os
import sys

from aiopipe.signals import signals

TYPE_CHECKING = False  # typing takes milliseconds, and checksum commands begin without it
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Child", "can_fork", "fork"]


def can_fork() -> bool:
    """Whether a fork is safe here and now: Linux, and no other thread of any library in this process."""
    threading = sys.modules.get("threading")  # where nobody has imported it, nobody has begun a thread with it
    if sys.platform != "linux" or (threading is not None and threading.active_count() != 1):
        return False
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def fork(source: int, target: int, serve: Callable[[], None], *, apart: bool = False) -> Child:
    """A child that calls `serve`, with these descriptors as its standard input and output, and no other open ones.

    It ends with `serve`; what that raises is said on standard error. apart: Ctrl-C is not for it, and nobody hears what
    it says. OSError where there is no process to have.
    """
    import fcntl

    pid = os.fork()
    if pid:
        return Child(pid)
    try:
        signals.signal(signals.SIGTERM, signals.SIG_DFL)
        signals.set_wakeup_fd(-1)
        # Nothing else stays open: not the ends of other workers' pipes, which would never see that this run has ended,
        # and not a file or database that the parent is writing.
        source, target = (fcntl.fcntl(end, fcntl.F_DUPFD, 3) for end in (source, target))
        os.dup2(source, 0)
        os.dup2(target, 1)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        if apart:
            signals.signal(signals.SIGINT, signals.SIG_IGN)
            os.setpgid(0, 0)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
        serve()
    except Exception:
        import traceback

        traceback.print_exc()  # as a worker in a fresh interpreter would
    finally:
        os._exit(1)


class Child:
    """A forked process, with as much of `subprocess.Popen` as others need."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def kill(self) -> None:
        """End it at once."""
        if self.poll() is None:
            os.kill(self.pid, signals.SIGKILL)

    def wait(self) -> int:
        """Its exit code, when it has ended."""
        return self._waited(0)

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        self._waited(os.WNOHANG)
        return self._code

    def _waited(self, flags: int) -> int:
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, flags)
            except ChildProcessError:  # somebody else has waited for it
                self._code = 0
            else:
                if pid:
                    self._code = os.waitstatus_to_exitcode(status)
        return self._code or 0
