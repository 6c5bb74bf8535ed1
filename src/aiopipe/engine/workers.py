"""The pools of a run: threads for computing, threads for files, processes for user code that asks for them.

Two thread pools, because a source that takes the only thread must never starve the stage it feeds. Processes
are started by forkserver or spawn, never by fork under threads, and one that dies takes only its parcel's
attempt with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import pickle
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from aiopipe.carried import carried
from aiopipe.codec.chunk import Chunk
from aiopipe.engine.groups import Made, output_of, run_group
from aiopipe.engine.remote import PER_FILE, Remote, Remotes, cores
from aiopipe.engine.spawning import context
from aiopipe.engine.stretches import Guess
from aiopipe.errors import AiopipeError, UsageError, WorkerError
from aiopipe.fuse import Node, Tally
from aiopipe.joining import in_a_thread
from aiopipe.stage import Found
from aiopipe.storage.groups import Group, Groups
from aiopipe.storage.settle import settled
from aiopipe.storage.stretches import Stretch, Stretches
from aiopipe.watch import KILLED, leashed

__all__ = ["Workers", "cores"]

T = TypeVar("T")
_FILE_THREADS = 4
_CLOSER = "aiopipe-close"  # the thread that joins the others
_WORTH = 16 << 20  # bytes of chunks for remotes, from which on it is worth while to start them
_DEATHS = 100  # records of one parcel that may kill their worker before the run is given up


class Workers:
    """Pools that live as long as a run; `aclose` waits until the last thread and process is gone."""

    def __init__(self, count: int | None = None, memory: int = 128_000_000, remotes: Remotes | None = None) -> None:
        self.workers = count if count is not None else cores()
        self.memory = memory
        self.stop = asyncio.Event()
        self.leash = threading.Event()  # set when nobody waits for the threads any more
        self.found = Found()
        self.files = ThreadPoolExecutor(_FILE_THREADS, thread_name_prefix="aiopipe-file")
        self.remotes = Remotes(0) if remotes is None else remotes
        # A process that is there already takes the place of a thread: both would want the same core, and each thread
        # that computes keeps 10 MB of memory busy.
        threads = max(1, self.workers - len(self.remotes.processes))
        self._compute = ThreadPoolExecutor(threads, thread_name_prefix="aiopipe-compute")
        self._own: list[ThreadPoolExecutor] = []
        self._processes: Any = None
        self._blobs: dict[int, bytes] = {}
        self._portable: dict[int, bytes] = {}
        self._here = 0  # parcels that this process's threads have
        self._one = asyncio.Lock()  # held by who runs small files in this process
        self._seen = 0  # bytes of chunks that a remote could have had

    @property
    def stopping(self) -> bool:
        """True once the run was asked to stop."""
        return self.stop.is_set()

    def hop(self, function: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        """Run a function in the pool for computing, with the caller's context variables."""
        return self._submit(self._compute, function, *arguments)

    def io(self, function: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        """Run a blocking system call in the pool for files."""
        return asyncio.get_running_loop().run_in_executor(self.files, function, *arguments)

    def own_pool(self, count: int) -> Callable[..., Awaitable[Any]]:
        """A pool of `count` threads for one stage's blocking function: what submits to it."""
        pool = ThreadPoolExecutor(count, thread_name_prefix="aiopipe-map")
        self._own.append(pool)

        def submit(function: Callable[..., Any], *arguments: Any) -> Awaitable[Any]:
            return self._submit(pool, function, *arguments)

        return submit

    def _submit(self, pool: ThreadPoolExecutor, function: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        run = contextvars.copy_context().run
        return asyncio.get_running_loop().run_in_executor(pool, run, leashed, self.leash, function, *arguments)

    async def run(self, node: Node, parcel: Any) -> tuple[Any, tuple[Tally, ...]]:
        """Run a hop where it belongs."""
        if node.placement == "process":
            return await self._in_process(node, parcel)
        if node.placement == "main thread":
            from asgiref.sync import sync_to_async

            return await sync_to_async(leashed, thread_sensitive=True)(self.leash, node.run, parcel)
        blob = self._portable.get(id(node))
        if blob is not None and isinstance(parcel, Chunk) and self.remotes.count:
            made = await self._remotely(node, blob, parcel)
            if made is not None:
                return made
        self._here += 1
        try:
            return await self.hop(node.run, parcel)
        finally:
            self._here -= 1

    async def _remotely(self, node: Node, blob: bytes, chunk: Chunk) -> tuple[Any, tuple[Tally, ...]] | None:
        """Run a hop in a process that has less to do than this one; None where there is none, or it failed."""
        await self._begin_remotes(len(chunk.data))
        remote = self.remotes.for_chunk(self._here)
        made: tuple[Any, tuple[Tally, ...]] | None = None
        if remote is not None:
            made = await self._sent(remote, node, blob, chunk)
        return made

    async def _begin_remotes(self, nbytes: int) -> None:
        """So many bytes more could have gone to worker processes: start them where that is worth while."""
        before = self._seen
        self._seen += nbytes
        if before < _WORTH <= self._seen:
            await settled(self.io(self.remotes.start))

    async def _sent(self, remote: Remote, node: Node, blob: bytes, parcel: Any) -> Any:
        remote.load += 1
        try:
            return await asyncio.wrap_future(self.remotes.submit(remote, id(node), blob, parcel))
        finally:
            remote.load -= 1

    async def guess(self, node: Node, stretch: Stretch) -> Guess | None:
        """What a worker process makes of a stretch; None where there is none, or it failed. See engine.stretches."""
        remote = self.remotes.for_stretch()
        if remote is None:
            return None
        made: Guess | None = await self._sent(remote, node, self._portable[id(node)], stretch)
        return made

    async def run_group(self, node: Node, group: Group) -> Made | AiopipeError | None:
        """Run a hop on small files, all in one place; see engine.groups."""
        made: Made | AiopipeError | None = None
        blob = self._portable.get(id(node), b"")
        if blob:
            await self._begin_remotes(group.nbytes + len(group.files) * PER_FILE)
        remote = self.remotes.for_group() if blob else None
        if remote is None:
            # One at a time: a thread more would wait for the interpreter lock, at each of a thousand system calls.
            # For the same reason none is done here once somebody else can: this process finds, shows and notes them.
            async with self._one:
                remote = self.remotes.for_group() if blob else None
                if remote is None:
                    made = await self.hop(run_group, node, group)
        if remote is not None:
            made = await self._sent(remote, node, blob, group)
            if made is None and remote.gone:
                await settled(self.io(remote.wait))  # before it is gone for certain it may still write
        if not isinstance(made, list) and self.found.groups is not None:
            await settled(self.io(self.found.groups.give_up, group, output_of(node)))
        return made

    def prepare(self, nodes: list[Node]) -> None:
        """Check that what goes to processes can be pickled; UsageError names the function that cannot.

        And see whether files may travel unread: where one hop alone stands between reader and sink, small ones to a
        directory, and large ones if there are processes that need not wait for this one to read.
        """
        straight = [n.shape for n in nodes] == ["source", "hop", "sink"] and nodes[1].portable
        if straight and getattr(nodes[2].steps[0].stage, "is_directory", False):
            self.found.groups = Groups(hashed=self.found.units is not None, retries=self.found.failures.retries)
        if straight and self.remotes.forked:
            self.found.stretches = Stretches()
        for node in nodes:
            if node.portable and self.remotes.count:
                self._portable[id(node)] = pickle.dumps(node)
            if node.placement != "process":
                continue
            try:
                self._blobs[id(node)] = pickle.dumps((node, carried()))
            except Exception as error:
                raise UsageError(
                    f"{node.name} cannot be sent to another process: {error}",
                    hint="define the function at the top of a module, or say placement='thread'",
                ) from error

    def _pool(self) -> Any:
        if self._processes is None:
            from pebble import ProcessPool

            self._processes = ProcessPool(max_workers=self.workers, context=context())
        return self._processes

    async def _in_process(self, node: Node, parcel: Any) -> tuple[Any, tuple[Tally, ...]]:
        """Run the node in a worker; when it dies, run again to learn at which record, in the end without it."""
        from concurrent.futures import BrokenExecutor

        from pebble import ProcessExpired

        timeout = next((t for s in node.steps if (t := getattr(s.stage, "timeout", None))), None)
        # Of a file it gets the place: the bytes are read again there, which is half the work of sending them.
        lies = isinstance(parcel, Chunk) and parcel.origin is not None
        sent, size = (replace(parcel, data=b""), len(parcel.data)) if lies else (parcel, -1)
        retries = self.found.failures.retries
        skip: dict[int, str] = {}
        deaths: Counter[int] = Counter()  # by record; the first one of all may be anybody's
        # Who is never to be called again must be known at the first death; else a diary is begun after it.
        diary = _new_diary() if retries == 0 else None
        try:
            while True:
                future = self._pool().schedule(_entry(), args=[self._blobs[id(node)], sent, size, timeout, diary, skip])
                try:
                    result: tuple[Any, tuple[Tally, ...]] | None = await asyncio.wrap_future(future)
                    if result is None:  # the file is not any more what was read here
                        sent, size = parcel, -1
                        continue
                    return result
                except ProcessExpired as error:
                    why = _why(error.exitcode, timeout)
                    if diary is None:
                        diary = _new_diary()
                        continue
                    row = _read_diary(diary)
                    if not deaths and retries:
                        deaths[row] += 1  # the one before the diary
                    deaths[row] += 1
                    if deaths[row] <= retries:
                        continue
                    if row < 0 or row in skip or len(skip) >= _DEATHS:
                        raise WorkerError(
                            f"a worker process {why}",
                            stage=node.name,
                            hint="look at what the function does to its process; --placement thread shows more",
                        ) from None
                    skip[row] = why
                except BrokenExecutor as error:
                    raise WorkerError(
                        f"the worker processes are gone: {error}",
                        stage=node.name,
                        hint="a script whose stages use processes runs its pipeline under `if __name__ == '__main__':`",
                    ) from None
        finally:
            if diary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(diary)

    async def aclose(self) -> None:
        """Wait for what runs, drop what waits, end every thread and process."""
        self.leash.set()
        for stream in self.found.streams.values():
            await settled(stream.aclose())  # peeked into, never read

        def close() -> None:
            self.remotes.close()
            for pool in (self._compute, self.files, *self._own):
                pool.shutdown(wait=True, cancel_futures=True)
            if self._processes is not None:
                self._processes.stop()
                self._processes.join()

        await in_a_thread(close, _CLOSER)

    async def sweep(self, nodes: list[Node]) -> None:
        """Remove what was put of groups that never arrived: of a run that is over, and nothing is run any more."""
        groups = self.found.groups
        if not groups:
            return

        def wait() -> None:
            self.remotes.close()
            self._compute.shutdown(wait=True, cancel_futures=True)
            files.shutdown(wait=True, cancel_futures=True)
            groups.sweep(output_of(nodes[1]))

        files, self.files = self.files, ThreadPoolExecutor(_FILE_THREADS, thread_name_prefix="aiopipe-file")
        await in_a_thread(wait, _CLOSER)


def _entry() -> Callable[..., Any]:
    from aiopipe.engine.process import run_in_worker

    return run_in_worker


def _why(code: int | None, timeout: float | None) -> str:
    if code == KILLED and timeout is not None:
        return f"did not answer within {timeout:g} s and was ended"
    if code is not None and code < 0:
        import signal

        name = signal.Signals(-code).name if -code in {s.value for s in signal.Signals} else str(-code)
        out_of_memory = " (out of memory?)" if name == "SIGKILL" and sys.platform == "linux" else ""
        return f"was killed by {name}{out_of_memory}"
    return f"ended by itself with exit code {code}"


def _new_diary() -> str:
    import tempfile  # 6 ms, and workers seldom die

    fd, path = tempfile.mkstemp(prefix="aiopipe-diary-")
    os.write(fd, (-1).to_bytes(8, "little", signed=True))
    os.close(fd)
    return path


def _read_diary(path: str) -> int:
    with open(path, "rb") as file:
        return int.from_bytes(file.read(8), "little", signed=True)
