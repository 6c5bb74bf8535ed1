"""Hashing a stream of paths without an event loop: one schedule, lanes or worker processes that do its jobs.

`run_batches` is for the command line: it starts 50 ms sooner for not importing asyncio. `aiopipe.sums.streams` has
the same for programs with an event loop. All give the same results in the order in which the paths came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from aiopipe.errors import UsageError
from aiopipe.forking import can_fork
from aiopipe.sums.algorithms import algorithm
from aiopipe.sums.feed import Feeder
from aiopipe.sums.machine import choose_backend, cores, has_processes, lanes_for
from aiopipe.sums.model import FileHash, Found, Problem
from aiopipe.sums.reader import TINY, Links
from aiopipe.sums.runners import Local, Rendered, Work, make_reader, make_wrap, measure_of
from aiopipe.sums.schedule import Done, Schedule
from aiopipe.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from aiopipe.sums.cache import CacheOptions, CacheWriter
    from aiopipe.sums.formats import Style
    from aiopipe.sums.lanes import Lanes, Runner

__all__ = ["HashOptions", "Run", "run_batches", "run_kind", "run_rendered", "run_signed"]

Items = Iterable[Found | Problem]

_LOCKED_SECONDS = 9e-6  # of a small file's time, what its thread holds the interpreter lock for
_TICK = 0.1


class HashOptions(NamedTuple):
    """How to hash: which algorithms, how many files at once (0: what the disk and the cores suggest).

    `backend` is `threads`, `processes` (spawned workers; quicker on huge trees of tiny files), or `auto`,
    which takes processes where they pay. Raises UsageError for names and numbers that make no sense.
    """

    algorithms: tuple[str, ...] = ("sha256",)
    jobs: int = 0
    backend: str = "threads"
    cache: CacheOptions | None = None

    def _made(self) -> HashOptions:
        if not self.algorithms:
            raise UsageError("no algorithm", hint="sha256 is the usual one")
        resolved = tuple(dict.fromkeys(algorithm(name).name for name in self.algorithms))
        if self.jobs < 0:
            raise UsageError(f"jobs={self.jobs}", hint="1 or more, or 0 to let the machine decide")
        if self.backend not in ("threads", "processes", "auto"):
            raise UsageError(f"backend={self.backend!r}", hint="use threads, processes or auto")
        return tuple.__new__(HashOptions, (resolved, *self[1:]))


class Run:
    """What all ways of waiting share: the schedule, the feeder, the cache, and how many work at it.

    `count` of them, `threads` or `processes` (see `backend`); who drives the run makes the lanes, and then calls
    `open`. With `helps` the thread that drives worker processes hashes as well.
    """

    def __init__(self, items: Items, options: HashOptions, work: Work, roots: Sequence[bytes]) -> None:
        self.count = options.jobs or (lanes_for(roots)[0] if roots else cores())
        backend, self.helps = options.backend, True
        if backend == "auto":
            quick = can_fork()
            head = 1 if work.kind == "sizes" else TINY if work.head else 0
            choice = choose_backend(items, self.count, head=head, quick=quick, measure=measure_of(work))
            backend, self.helps, items = choice
            self.helps = self.helps or work.kind == "twins"
        self.backend = backend if has_processes() else "threads"
        threads = self.backend == "threads"
        self.schedule: Schedule = Schedule(lanes=self.count, locked_seconds=_LOCKED_SECONDS if threads else 0.0)
        self.stopped = False
        self._links: Links = {}
        self._options = options.cache
        self._cache: CacheWriter | None = None
        if options.cache is not None:
            work = work._replace(cache=(options.cache.path, options.cache.key, options.cache.rehash_older))
        self.work = work
        self._wrap = make_wrap(work)
        self.feeder = Feeder(items, self.schedule, self._wrap)

    def open(self) -> None:
        """Open the cache: before the first job, and after a crew has begun.

        It has a thread, under which nothing may be forked, and a connection, which no fork may take along.
        """
        if self._options is not None:
            from aiopipe.sums.cache import CacheWriter

            self._cache = CacheWriter(self._options)

    def recorded(self, done: Done) -> Done:
        """Tell the cache of what was done; its failure becomes the job's."""
        if self._cache is not None and done.pieces:
            names = done.job.algorithms or self.work.algorithms
            try:
                for _, _, value in done.pieces:
                    if value is not None:
                        fresh = value.fresh if isinstance(value, Rendered) else value
                        self._cache.record(fresh, names, done.begun_ns)
            except Exception as error:
                return done._replace(error=error)
        return done

    def local(self) -> Local:
        """A runner that works where it is called."""
        return Local(make_reader(self.work, stopped=self.is_stopped, seen_links=self._links), self._wrap)

    def lanes(self, report: Callable[[Done], None]) -> Lanes:
        """A thread for each lane; with processes all but the first have one do the work."""

        from aiopipe.sums.lanes import Lanes

        def recorded(done: Done) -> None:
            # In the lane's thread, so that neither a loop nor the printing waits for the cache's disk.
            report(self.recorded(done))

        makers: list[Callable[[], Runner]] = [self.local] * self.count
        if self.backend == "processes":
            from aiopipe.sums.crew import Remote

            makers[1:] = [lambda: Remote(self.work, self.is_stopped)] * (self.count - 1)
        return Lanes(makers, recorded)

    def is_stopped(self) -> bool:
        """Runners ask this between the blocks of large files."""
        return self.stopped

    def take(self, done: Done) -> None:
        """Book what was done; raises what went wrong in it."""
        if done.error is not None:
            raise done.error
        self.schedule.complete(done.job, done.pieces, done.seconds)

    def close(self) -> None:
        """Commit what the cache has been told; the lanes have ended."""
        if self._cache is not None:
            self._cache.close()


def run_batches(
    items: Items,
    options: HashOptions,
    *,
    roots: Sequence[bytes] = (),
    tick: Callable[[], None] | None = None,
) -> Iterator[list[FileHash]]:
    """Hash without an event loop: lists of results, in the order of the items.

    `tick` is called about ten times a second while it waits. Closing the generator, or an exception such as
    KeyboardInterrupt in it, ends every lane before it returns.
    """
    return _run(items, options, Work(options.algorithms), roots, tick)


def run_signed(
    items: Items,
    options: HashOptions,
    *,
    roots: Sequence[bytes] = (),
    head: bool = False,
    tick: Callable[[], None] | None = None,
) -> Iterator[list[tuple[Any, ...] | FileHash]]:
    """As `run_batches`, for those who know which file is next: its digests and the numbers of its `Signature`.

    They are one tuple; a file that has none is a `FileHash`. With `head`, the digests are of the beginning of each
    file, see `Reader`.
    """
    return _run(items, options, Work(options.algorithms, head=head, signed=True), roots, tick)


def run_kind(
    kind: str,
    items: Items,
    options: HashOptions,
    *,
    algorithms: tuple[str, ...] = (),
    roots: Sequence[bytes] = (),
    tick: Callable[[], None] | None = None,
) -> Iterator[list[Any]]:
    """The same engine for other looks at files, see `runners.Work`: lists of results, in the order of the items.

    A Problem among the items is a result, too.
    """
    return _run(items, options, Work(algorithms, kind=kind), roots, tick)


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
    run = Run(items, options, work, roots)
    schedule, feeder = run.schedule, run.feeder
    hands: Any = None
    try:
        if run.backend == "processes":
            from aiopipe.sums.crew import Crew

            hands = Crew(run)
            run.open()
        else:
            run.open()  # before the lanes, which look into it as soon as they begin
            from aiopipe.sums.threads import Threads

            hands = Threads(run)
        while True:
            while not feeder.ended and schedule.wants_input:
                feeder.feed(feeder.pull())
                _dispatch(schedule, hands)
            _dispatch(schedule, hands)
            yield from schedule.ready()
            if feeder.ended and schedule.idle:
                return
            if not schedule.running:
                continue
            for done in hands.wait(_TICK):
                run.take(done)
            if tick is not None:
                tick()
    finally:
        run.stopped = True
        if hands is not None:
            hands.close()
        run.close()


def _dispatch(schedule: Schedule, hands: Any) -> None:
    while (job := schedule.next_job()) is not None:
        hands.submit(job)
