"""Hashing a stream of paths: one schedule, two ways to wait for it.

`hash_files` and `hash_batches` are for programs with an event loop, `run_batches` is for those without (the
command line: it starts 50 ms sooner for not importing asyncio). All give the same results in the order in
which the paths came, whatever the number of lanes. What may block (opening, reading, walking a directory)
happens in a lane or a thread, never in the loop.
"""

from __future__ import annotations

import contextlib
import os
import queue
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from aiopipe.errors import InputError, UsageError
from aiopipe.sums.algorithms import algorithm
from aiopipe.sums.lanes import Done, Lanes, Runner
from aiopipe.sums.machine import choose_backend, cores, lanes_for
from aiopipe.sums.model import FileHash, Found, Problem
from aiopipe.sums.reader import Links
from aiopipe.sums.runners import Local, Remote, Rendered, Work, make_reader, make_wrap
from aiopipe.sums.schedule import Schedule
from aiopipe.sums.walk import Walk, WalkOptions, as_bytes

if TYPE_CHECKING:
    from aiopipe.sums.cache import CacheOptions, CacheWriter
    from aiopipe.sums.formats import Style

    AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
    Source = AnyPath | Sequence[AnyPath] | Found | Problem
    Paths = AnyPath | Iterable[AnyPath] | Iterable[Found | Problem] | AsyncIterable[Source]

__all__ = ["HashOptions", "find_files", "hash_batches", "hash_files", "run_batches", "run_rendered"]

Items = Iterable[Found | Problem]

_LOCKED_SECONDS = 9e-6  # of a small file's time, what its thread holds the interpreter lock for
_TICK = 0.1
_PATIENCE = 0.8


@dataclass(frozen=True, slots=True)
class HashOptions:
    """How to hash: which algorithms, how many files at once (0: what the disk and the cores suggest).

    `backend` is `threads`, `processes` (spawned workers; quicker on huge trees of tiny files), or `auto`,
    which takes processes where they pay. Raises UsageError for names and numbers that make no sense.
    """

    algorithms: tuple[str, ...] = ("sha256",)
    jobs: int = 0
    backend: str = "threads"
    cache: CacheOptions | None = None

    def __post_init__(self) -> None:
        if not self.algorithms:
            raise UsageError("no algorithm", hint="sha256 is the usual one")
        resolved = tuple(dict.fromkeys(algorithm(name).name for name in self.algorithms))
        object.__setattr__(self, "algorithms", resolved)
        if self.jobs < 0:
            raise UsageError(f"jobs={self.jobs}", hint="1 or more, or 0 to let the machine decide")
        if self.backend not in ("threads", "processes", "auto"):
            raise UsageError(f"backend={self.backend!r}", hint="use threads, processes or auto")


class _Feeder:
    """Turns runs of files into batches of the schedule; small directories share one."""

    def __init__(self, items: Items, schedule: Schedule, wrap: Callable[[list[FileHash]], Any]) -> None:
        self._items = iter(items)
        self._wrap = wrap
        self._schedule = schedule
        self.ended = False

    def pull(self, most: int = 64) -> list[Found | Problem]:
        """Some more items; touches the disk and nothing else, so it may run in any one thread."""
        taken: list[Found | Problem] = []
        files = 0
        for item in islice(self._items, most):
            taken.append(item)
            files += len(item.names) if isinstance(item, Found) else 1
            if files >= 1024:
                return taken
        self.ended = len(taken) < most
        return taken

    async def pull_from(self, upstream: AsyncIterator[Any]) -> list[Found | Problem]:
        """The next item of an asynchronous source, whichever way it names its files."""
        try:
            item = await anext(upstream)
        except StopAsyncIteration:
            self.ended = True
            return []
        if isinstance(item, Found | Problem):
            return [item]
        paths = [item] if isinstance(item, str | bytes | os.PathLike) else item
        return [Found(b"", [as_bytes(path) for path in paths], follow=True)]

    def feed(self, items: list[Found | Problem]) -> None:
        """Give items to the schedule."""
        paths: list[bytes] = []
        kind: tuple[bool, tuple[str, ...]] = (False, ())
        for item in items:
            if isinstance(item, Problem):
                self._flush(paths, kind)
                paths = []
                failed = FileHash(item.path, item.status, (), None, item.reason)
                self._schedule.add_done(item.path, self._wrap([failed]))
                continue
            if (item.follow, item.algorithms) != kind:
                self._flush(paths, kind)
                paths, kind = [], (item.follow, item.algorithms)
            prefix = item.prefix
            paths += [prefix + name for name in item.names] if prefix else item.names
        self._flush(paths, kind)

    def _flush(self, paths: list[bytes], kind: tuple[bool, tuple[str, ...]]) -> None:
        if paths:
            self._schedule.add(paths, follow=kind[0], algorithms=kind[1])


class _Run:
    """What both ways of waiting share: the schedule, the feeder, the lanes."""

    def __init__(
        self,
        items: Items,
        options: HashOptions,
        work: Work,
        report: Callable[[Done], None],
        roots: Sequence[bytes],
    ) -> None:
        count = options.jobs or (lanes_for(roots)[0] if roots else cores())
        backend = options.backend
        if backend == "auto":
            backend, items = choose_backend(items, count, work.head)
        self.backend = backend
        threads = backend == "threads"
        self.schedule: Schedule = Schedule(lanes=count, locked_seconds=_LOCKED_SECONDS if threads else 0.0)
        self._links: Links = {}
        self._cache: CacheWriter | None = None
        if options.cache is not None:
            from aiopipe.sums.cache import CacheWriter

            self._cache = CacheWriter(options.cache)
            work = work._replace(cache=(options.cache.path, options.cache.key, options.cache.rehash_older))
        self._work = work
        self._wrap = make_wrap(work)
        self.feeder = _Feeder(items, self.schedule, self._wrap)
        self._report = report
        # One lane works in this process: it is there at once, and a job in it costs no transport.
        makers = [self._runner] + [self._runner if threads else self._remote] * (count - 1)
        self.lanes = Lanes(makers, self._done)

    def _done(self, done: Done) -> None:
        """Called in a lane's thread, so that neither a loop nor the printing waits for the cache's disk."""
        if self._cache is not None and done.pieces:
            try:
                self._record(self._cache, done)
            except Exception as error:
                done = done._replace(error=error)
        self._report(done)

    def _record(self, cache: CacheWriter, done: Done) -> None:
        names = done.job.algorithms or self._work.algorithms
        for _, _, value in done.pieces:
            if value is not None:
                cache.record(value.fresh if isinstance(value, Rendered) else value, names, done.begun_ns)

    def _runner(self) -> Runner:
        reader = make_reader(self._work, stopped=self._is_stopped, seen_links=self._links)
        return Local(reader, self._wrap)

    def _remote(self) -> Runner:
        return Remote(self._work, self._is_stopped)

    def _is_stopped(self) -> bool:
        return self.lanes.stopped()

    def take(self, done: Done) -> None:
        if done.error is not None:
            raise done.error
        self.schedule.complete(done.job, done.pieces, done.seconds)

    def close(self) -> None:
        """Commit what the cache has been told; the lanes have ended."""
        if self._cache is not None:
            self._cache.close()

    def dispatch(self) -> None:
        while (job := self.schedule.next_job()) is not None:
            self.lanes.submit(job)


def run_batches(
    items: Items,
    options: HashOptions,
    *,
    roots: Sequence[bytes] = (),
    head: int = 0,
    tick: Callable[[], None] | None = None,
) -> Iterator[list[FileHash]]:
    """Hash without an event loop: lists of results, in the order of the items.

    With `head`, the digests are of the first so many bytes of each file and nothing else of it is read.
    `tick` is called about ten times a second while it waits. Closing the generator, or an exception such as
    KeyboardInterrupt in it, ends every lane before it returns.
    """
    return _run(items, options, Work(options.algorithms, head=head), roots, tick)


def run_rendered(
    items: Items,
    options: HashOptions,
    style: Style,
    *,
    roots: Sequence[bytes] = (),
    tick: Callable[[], None] | None = None,
) -> Iterator[Rendered]:
    """As `run_batches`, but the manifest's lines are made in the lanes: the main thread has less to do."""
    return _run(items, options, Work(options.algorithms, tuple(style)), roots, tick)


def _run(
    items: Items,
    options: HashOptions,
    work: Work,
    roots: Sequence[bytes],
    tick: Callable[[], None] | None,
) -> Iterator[Any]:
    done: queue.SimpleQueue[Done] = queue.SimpleQueue()
    run = _Run(items, options, work, done.put, roots)
    schedule, feeder = run.schedule, run.feeder
    try:
        while True:
            while not feeder.ended and schedule.wants_input:
                feeder.feed(feeder.pull())
                run.dispatch()
            run.dispatch()
            yield from schedule.ready()
            if feeder.ended and schedule.idle:
                return
            if not schedule.running:
                continue
            with contextlib.suppress(queue.Empty):
                run.take(done.get(timeout=_TICK))
            while not done.empty():
                run.take(done.get())
            if tick is not None:
                tick()
    finally:
        run.lanes.stop()
        # Ctrl-C is answered within a second, even where a dead network disk holds a lane in the kernel.
        run.lanes.join(_PATIENCE)
        run.close()


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
    items, roots = ([], []) if upstream is not None else await asyncio.to_thread(_items, paths, walk)
    finished: list[Done] = []
    wake = asyncio.Event()

    def arrived() -> None:
        wake.set()

    def report(done: Done) -> None:
        finished.append(done)
        loop.call_soon_threadsafe(arrived)

    work = Work(options.algorithms)
    starting = asyncio.ensure_future(asyncio.to_thread(_Run, items, options, work, report, roots))
    try:
        run = await asyncio.shield(starting)
    except asyncio.CancelledError:
        run = await starting  # its threads are there, or soon will be: they must end with us
        run.lanes.stop()
        await asyncio.to_thread(run.lanes.join)
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
            run.dispatch()
            for results in schedule.ready():
                yield results
            if feeder.ended and pulling is None and schedule.idle:
                return
            await wake.wait()
            wake.clear()
            while finished:
                run.take(finished.pop())
    finally:
        run.lanes.stop()
        if pulling is not None:
            if upstream is not None:
                pulling.cancel()
            await asyncio.wait([pulling])
        while run.lanes.alive:  # noqa: ASYNC110  # threads end at their next block; nobody could set an event
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

    items, _ = await asyncio.to_thread(_items, paths, walk)
    source = iter(items)
    while run := await asyncio.to_thread(lambda: list(islice(source, 16))):
        for item in run:
            if isinstance(item, Problem):
                raise InputError(f"{os.fsdecode(item.path)}: {item.reason}", hint="exclude it, or make it readable")
            yield item


def _items(paths: object, walk: WalkOptions | None) -> tuple[Items, list[bytes]]:
    """The stream of items behind whatever the caller gave, and the roots that say which disk it is."""
    if isinstance(paths, Walk):
        return paths, []
    if isinstance(paths, str | bytes | os.PathLike):
        roots = [as_bytes(paths)]
        return Walk(roots, walk), roots
    if not isinstance(paths, Iterable):
        raise UsageError(f"{paths!r} is no path", hint="give a path, or several")
    given = list(islice(iterator := iter(paths), 1))
    if given and isinstance(given[0], Found | Problem):
        return chain(given, iterator), []
    roots = [as_bytes(each) for each in (*given, *iterator)]
    return Walk(roots, walk), roots
