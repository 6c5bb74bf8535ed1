"""Hashing as asynchronous streams: for programs with an event loop, which is never asked to read, walk or hash.

What may block (opening, reading, walking a directory) happens in a lane or a thread. Results come in the order
of the paths, whatever the number of lanes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from itertools import islice
from typing import TYPE_CHECKING

from aiopipe.errors import InputError
from aiopipe.sums.engine import HashOptions, Run
from aiopipe.sums.feed import items_of
from aiopipe.sums.lanes import Lanes
from aiopipe.sums.model import FileHash, Found, Problem
from aiopipe.sums.runners import Work
from aiopipe.sums.schedule import Done

if TYPE_CHECKING:
    import asyncio

    from aiopipe.sums.cache import CacheOptions
    from aiopipe.sums.feed import AnyPath, Paths
    from aiopipe.sums.walk import WalkOptions

__all__ = ["find_files", "hash_batches", "hash_files"]


async def hash_batches(
    paths: Paths,
    algorithms: str | Iterable[str] = "sha256",
    *,
    walk: WalkOptions | None = None,
    jobs: int = 0,
    backend: str = "threads",
    cache: CacheOptions | None = None,
) -> AsyncIterator[list[FileHash]]:
    """Hash files and whole trees, off the event loop: lists of results, in order.

    `paths` is a path, some paths, a `Walk`, or an asynchronous source of files: `find_files`, or any async
    iterator over paths, lists of paths or `Found` runs (lists are quicker: each is one hop). See `hash_files`
    for the rest; this is the same for those who handle many results at a time.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    names = (algorithms,) if isinstance(algorithms, str) else tuple(algorithms)
    options = HashOptions(names, jobs, backend, cache)
    upstream = aiter(paths) if isinstance(paths, AsyncIterable) else None
    items, roots = ([], []) if upstream is not None else await asyncio.to_thread(items_of, paths, walk)
    finished: list[Done] = []
    wake = asyncio.Event()

    def arrived() -> None:
        wake.set()

    def report(done: Done) -> None:
        finished.append(done)
        loop.call_soon_threadsafe(arrived)

    def start() -> tuple[Run, Lanes]:
        run = Run(items, options, Work(options.algorithms), roots)
        run.open()
        return run, run.lanes(report)

    starting = asyncio.ensure_future(asyncio.to_thread(start))
    try:
        run, lanes = await asyncio.shield(starting)
    except asyncio.CancelledError:
        run, lanes = await starting  # its threads are there, or soon will be: they must end with us
        run.stopped = True
        lanes.stop()
        await asyncio.to_thread(lanes.join)
        await asyncio.to_thread(run.close)
        raise
    schedule, feeder = run.schedule, run.feeder
    pulling: asyncio.Future[list[Found | Problem]] | None = None
    try:
        while True:
            if pulling is not None and pulling.done():
                feeder.feed(pulling.result())
                pulling = None
            if pulling is None and not feeder.ended and schedule.wants_input:
                pull = asyncio.to_thread(feeder.pull) if upstream is None else feeder.pull_from(upstream)
                pulling = asyncio.ensure_future(pull)
                pulling.add_done_callback(lambda _: wake.set())
            while (job := schedule.next_job()) is not None:
                lanes.submit(job)
            for results in schedule.ready():
                yield results
            if feeder.ended and pulling is None and schedule.idle:
                return
            await wake.wait()
            wake.clear()
            while finished:
                run.take(finished.pop())
    finally:
        run.stopped = True
        lanes.stop()
        ending = asyncio.ensure_future(_end(run, lanes, pulling, upstream is not None))
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:  # also of a run that was at its end: its threads end before it does
            await ending
            raise


async def _end(run: Run, lanes: Lanes, pulling: asyncio.Future[list[Found | Problem]] | None, ours: bool) -> None:
    """Wait until nothing of a run is left. ours: whether the pulling may be cancelled, as no thread does it."""
    import asyncio

    if pulling is not None:
        if ours:
            pulling.cancel()
        await asyncio.wait([pulling])
    while lanes.alive:  # noqa: ASYNC110  # threads end at their next block; nobody could set an event
        await asyncio.sleep(0.001)
    await asyncio.to_thread(run.close)


async def hash_files(
    paths: Paths,
    algorithms: str | Iterable[str] = "sha256",
    *,
    walk: WalkOptions | None = None,
    jobs: int = 0,
    backend: str = "threads",
    cache: CacheOptions | None = None,
) -> AsyncIterator[FileHash]:
    """Hash files and whole trees, off the event loop: one `FileHash` per file, in order.

    Directories are walked (see `WalkOptions`). Several algorithms share one read. A file that cannot be
    read, or that changes while it is read, is a result with a status and a reason, never an exception; raises
    InputError for a path that does not exist at all, UsageError for options that make no sense. Leave the
    iteration with `contextlib.aclosing` to end its threads at once.

    >>> import asyncio, tempfile, pathlib
    >>> async def main() -> None:
    ...     with tempfile.TemporaryDirectory() as folder:
    ...         pathlib.Path(folder, "a.txt").write_bytes(b"hello")
    ...         async for result in hash_files(folder, ("md5", "sha256")):
    ...             print(pathlib.Path(result.name).name, result.size, result.digests[0])
    >>> asyncio.run(main())
    a.txt 5 5d41402abc4b2a76b9719d911017c592
    """
    batches = hash_batches(paths, algorithms, walk=walk, jobs=jobs, backend=backend, cache=cache)
    async with contextlib.aclosing(batches) as each:  # type: ignore[type-var]
        async for results in each:
            for result in results:
                yield result


async def find_files(paths: AnyPath | Iterable[AnyPath], walk: WalkOptions | None = None) -> AsyncIterator[Found]:
    """The files below some paths, off the event loop: runs of up to 1,024 names of one directory, in order.

    Raises InputError for a path that does not exist, or a directory that cannot be listed; who wants to go
    on past those gives a `Walk` to `hash_batches`, where they are results.

    >>> import asyncio, tempfile, pathlib
    >>> async def main() -> None:
    ...     with tempfile.TemporaryDirectory() as folder:
    ...         pathlib.Path(folder, "a.txt").touch()
    ...         async for run in find_files(folder):
    ...             print(run.names)
    >>> asyncio.run(main())
    [b'a.txt']
    """
    import asyncio

    items, _ = await asyncio.to_thread(items_of, paths, walk)
    source = iter(items)
    while run := await asyncio.to_thread(lambda: list(islice(source, 16))):
        for item in run:
            if isinstance(item, Problem):
                raise InputError(f"{os.fsdecode(item.path)}: {item.reason}", hint="exclude it, or make it readable")
            yield item
