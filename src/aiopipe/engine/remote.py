"""Worker processes for hops that only compute: threads of one process would wait for the interpreter lock.

A remote gets chunks and gives back the bytes of outputs. A chunk of a file travels as the place where it lies: the
worker reads those bytes again, from memory where they have just been. The event loop's process goes on computing as
well, and alone until a worker has come up, so that no run waits for one; a worker that dies is not missed: what it
had in hand is done here.

Workers are started by `subprocess`, and not by `multiprocessing`, which would run a user's script once more. Only the
command line forks them, before it has a thread (a fork under threads can inherit a held lock). They get stages of this
package only, which depend on nothing but their options; a user's functions stay here, or go where `placement="process"`
puts them.

This module imports nothing heavy: workers are best started first of all, while this process imports numpy.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from aiopipe.tuples import NamedTuple

__all__ = ["PER_FILE", "Question", "Remote", "Remotes", "cores", "receive", "send"]

_COMMAND = "import sys; sys.path[:] = {path!r}; from aiopipe.engine.serving import main; main({modules!r})"
_PIPE = 1 << 20  # a chunk's output in a few system calls
# One process reads and cuts for all, at 1 to 2 GB/s; a worker parses a quarter of that, and has 100 MB for itself.
_MOST = 6
PER_FILE = 32 << 10  # bytes that take as long to compute on as a file takes to open, to make and to sync
_DEPTH = 2  # parcels that a worker has: one in hand, and the next one, so that it need not wait for us to wake up
_DEEPER = 3  # where workers are as many as cores: this process computes only while all of them have more than enough


def send(target: IO[bytes], value: Any, data: bytes = b"") -> None:
    """Write a frame: `value` as a pickle, its large buffers as they are, and `data`. OSError where nobody reads."""
    buffers: list[pickle.PickleBuffer] = []
    parts: list[Any] = [pickle.dumps(value, protocol=5, buffer_callback=buffers.append)]
    parts += [b.raw() for b in buffers]
    parts.append(data)
    target.write(struct.pack(f"<{len(parts) + 1}Q", len(parts), *map(len, parts)) + parts[0])
    for part in parts[1:]:
        if len(part):
            target.write(part)
    target.flush()


def receive(source: IO[bytes]) -> tuple[Any, bytes]:
    """Read a frame: the value and the data. EOFError where the other end is gone."""
    (count,) = struct.unpack("<Q", _exactly(source, 8))
    sizes = struct.unpack(f"<{count}Q", _exactly(source, 8 * count))
    first, *buffers, data = [_exactly(source, size) for size in sizes]
    return pickle.loads(first, buffers=buffers), data


def _exactly(source: IO[bytes], size: int) -> bytes:
    data = source.read(size)
    if len(data) != size:
        raise EOFError
    return data


class Question(NamedTuple):
    """What a worker's DuckDB is asked, in place of a parcel; see `aiopipe.sql.session.ask`."""

    method: str
    given: tuple[Any, ...]


class Remote:
    """One worker process, as its parent sees it. load: parcels that it has. modules: it imports before it is ready.

    forked: it is a fork of this process, which has imported all that, and is ready at once. sql: it begins with a
    session of DuckDB.
    """

    def __init__(self, modules: Sequence[str], *, forked: bool = False, sql: bool = False) -> None:
        self.load = 0
        self.ready = forked
        self.gone = False
        self._told: set[int] = set()  # nodes that it has
        self._sending = threading.Lock()
        self._turn = threading.Condition()
        self._sent = self._answered = 0
        self._process, self._to, self._from = _forked(sql) if forked else _spawned(modules)
        if fcntl is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
            for pipe in (self._to, self._from):
                with contextlib.suppress(OSError):  # the user's pipes may have all that the system allows
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)

    def greet(self) -> None:
        """Wait until the worker has imported what it needs. Blocks."""
        try:
            receive(self._from)
            self.ready = not self.gone
        except (OSError, EOFError, ValueError):
            self.gone = True

    def run(self, number: int, blob: bytes, parcel: Any) -> Any:
        """What the node makes of a chunk or a group, or None where the worker could not do it. Blocks; in any thread.

        number, blob: the node, pickled, and what it is called here; of no meaning for a question.
        """
        # A group of files has no bytes yet; a chunk of a file travels without those that it has.
        data = getattr(parcel, "data", b"")
        lies = getattr(parcel, "origin", None) is not None
        bare = replace(parcel, data=b"") if data else parcel
        try:
            with self._sending:
                mine = self._sent
                self._sent += 1
                new = number not in self._told
                self._told.add(number)
                send(self._to, (number, blob if new else b"", bare, len(data)), b"" if lies else data)
            with self._turn:
                self._turn.wait_for(lambda: self._answered == mine or self.gone)
            if self.gone:
                return None
            answer, _ = receive(self._from)
            with self._turn:
                self._answered += 1
                self._turn.notify_all()
            return answer
        except (OSError, EOFError, ValueError, pickle.PickleError):  # ValueError: of a pipe that is closed
            self.close()
            return None

    def close(self) -> None:
        """End the worker at once: what it holds nobody would miss, what it put is removed. Blocks some milliseconds."""
        self.ready, self.gone = False, True
        with contextlib.suppress(OSError):
            self._process.kill()
        with self._turn:
            self._turn.notify_all()

    def wait(self) -> None:
        """Wait for its end: it was told to, or is gone. Blocks."""
        self._process.wait()

    def join(self) -> None:
        """Wait for its end, and let go of its pipes; nobody may be in `run` any more."""
        self.wait()
        for pipe in (self._to, self._from):
            with contextlib.suppress(OSError, ValueError):
                pipe.close()


def _spawned(modules: Sequence[str]) -> tuple[Any, IO[bytes], IO[bytes]]:
    """A worker process, what to write to it, and what to read from it."""
    # -S and the path as it is here: site would read every .pth file again, a third of the start-up.
    command = [sys.executable, "-S", "-E", "-c", _COMMAND.format(path=sys.path, modules=tuple(modules))]
    # numpy's algebra would start threads, and nobody asks for any. A group of its own: Ctrl-C is for us alone.
    group: dict[str, Any] = {"process_group": 0} if os.name == "posix" else {}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # where it cannot even start, this process does the work, and nobody need hear
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        **group,
    )
    assert process.stdin is not None and process.stdout is not None
    return process, process.stdin, process.stdout


def _forked(sql: bool) -> tuple[Any, IO[bytes], IO[bytes]]:
    """The same from a fork of this process, which has a single thread."""
    from functools import partial

    from aiopipe.engine.serving import serve
    from aiopipe.forking import fork

    ends: list[int] = []
    try:
        ends += os.pipe()
        ends += os.pipe()
        process = fork(ends[0], ends[3], partial(serve, sql), apart=True)
    except OSError:
        for end in ends:
            os.close(end)
        raise
    os.close(ends[0])
    os.close(ends[3])
    return process, os.fdopen(ends[1], "wb"), os.fdopen(ends[2], "rb")


class Remotes:
    """The worker processes of a run: none until `start`, and none after `close`. modules: what they will need."""

    def __init__(self, count: int, modules: Sequence[str] = ()) -> None:
        self._modules = modules
        self.count = min(count, _MOST) if _possible() else 0
        self._each: list[Remote] = []
        self._lines: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._closed = False
        self.forked = False  # and so as many as cores, all of them ready

    def fork(self, *, sql: bool = False) -> None:
        """Have them as forks of this process, which has a single thread and has imported all that they need.

        There should be as many as cores: they are ready at once, and this process then reads, cuts and writes for them.

        sql: one of them begins with a session of DuckDB, for `ask`.
        """
        with self._lock, contextlib.suppress(OSError):  # no more processes: this one has threads
            for i in range(self.count):
                self._each.append(Remote((), forked=True, sql=sql and i == 0))
        if self._each:
            self.forked = True
            self._lines = ThreadPoolExecutor(_DEEPER * self.count, thread_name_prefix="aiopipe-remote")

    def start(self) -> None:
        """Start them, once; returns before they are ready. Blocks for some milliseconds each."""
        with self._lock:
            if self._lines is not None or self._closed or not self.count:
                return
            self._lines = ThreadPoolExecutor(_DEPTH * self.count, thread_name_prefix="aiopipe-remote")
            for _ in range(self.count):
                try:
                    remote = Remote(self._modules)
                except OSError:  # no more processes: this one has threads
                    break
                self._each.append(remote)
                self._lines.submit(remote.greet)

    def for_chunk(self, here: int) -> Remote | None:
        """The worker that a chunk goes to: the one with the least to do; None where this process should do it.

        here: chunks that this process computes on. Beside forked workers that is no share of the work.
        """
        return self._least(self._each, _DEEPER if self.forked else min(here + 1, _DEPTH))

    def for_group(self) -> Remote | None:
        """The worker that a group of files goes to, however much it has to do; None where none is ready.

        One core is left to this process, which finds, shows and notes those files meanwhile.
        """
        spare = 1 if self.forked and self.count > 1 else 0
        return self._least(self._each[: self.count - spare])

    def for_stretch(self) -> Remote | None:
        """The worker that a stretch of a file goes to; None where none is left."""
        return self._least(self._each)

    @staticmethod
    def _least(among: Sequence[Remote], below: int = 1 << 30) -> Remote | None:
        ready = [r for r in among if r.ready and r.load < below]
        return min(ready, key=lambda r: r.load, default=None)

    def ask(self, method: str, given: tuple[Any, ...]) -> Any:
        """What the first one's session of DuckDB says; None where there is none, or it fails. Blocks; in any thread."""
        each = self._each
        return each[0].run(-1, b"", Question(method, given)) if each and each[0].ready else None

    def submit(self, remote: Remote, *arguments: Any) -> Future[Any]:
        """`remote.run(*arguments)`, in a thread."""
        assert self._lines is not None
        return self._lines.submit(remote.run, *arguments)

    def close(self) -> None:
        """End them all and wait for that; what they had in hand is lost. Blocks; may be called again."""
        with self._lock:
            self._closed = True
            each, lines = self._each, self._lines
            for remote in each:
                remote.close()
            if lines is not None:
                lines.shutdown(wait=True, cancel_futures=True)
            for remote in each:
                remote.join()
            self._each = []

    @property
    def processes(self) -> Sequence[int]:
        """Their process ids, for who wants to see (or kill) them."""
        return [r._process.pid for r in self._each]


def cores() -> int:
    """The number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def _possible() -> bool:
    """Whether this interpreter can be started again: not where it is frozen into a program."""
    return bool(sys.executable) and not getattr(sys, "frozen", False) and sys.platform not in ("emscripten", "wasi")
