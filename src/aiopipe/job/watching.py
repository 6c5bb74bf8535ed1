"""`--watch`: run a pipeline again and again, over files as they arrive and come to rest.

    listen -> look -> settle -> round -> listen ...

Each round is an ordinary run into a directory with a ledger, over files at rest: those of the round and those done
before, which the ledger passes over. So a watch that is killed leaves what a killed run leaves, and the next one
(or an ordinary run) goes on from there. A round that fails does not end the watch: the file that its error names
stays aside until it changes; where the error names none, halves of the round's files are tried. What is no file's
fault (a full disk, a locked destination) is tried again after a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import errno
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiopipe.errors import AiopipeError, LockedError, OutputError, StoppedError, UnitsFailedError, UsageError
from aiopipe.job.arrivals import Arrivals, arrivals
from aiopipe.job.report import Report, counted
from aiopipe.job.run import check_ends
from aiopipe.job.settling import Settling, Signature
from aiopipe.options import parse_time
from aiopipe.plan import make_plan
from aiopipe.stage import Pipeline, Sink, Source
from aiopipe.storage.find import Finder
from aiopipe.storage.settle import settled

if TYPE_CHECKING:
    from aiopipe.model import FileRef

__all__ = ["Watched", "watch"]

_LOOK_ANYWAY = 60.0  # seconds: network file systems do not tell of what others do
_PATIENCE = (1.0, 60.0)  # seconds before what failed through nobody's fault is tried again, first and at most
_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EMFILE, errno.ENFILE})

Told = Callable[[Report | Exception], None]


@dataclass(slots=True)
class Watched:
    """What a watch did: rounds that ended well, and their inputs and records added up.

    failed: paths of files that could not be processed as they are now. unfinished: files at rest that the end of
    the watch left for the next one.
    """

    rounds: int = 0
    files: int = 0
    read: int = 0
    written: int = 0
    rejected: int = 0
    failed: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        text = f"watched: {counted(self.files, 'file')} in {counted(self.rounds, 'round')}, {self.read:,} records read"
        text += f" = {self.written:,} written, {self.rejected:,} rejected" if self.rejected else ""
        if self.failed:
            text += f"\n{counted(len(self.failed), 'file')} failed, first {self.failed[0]}"
        if self.unfinished:
            text += f"\n{counted(len(self.unfinished), 'file')} left for the next time, first {self.unfinished[0]}"
        return text


async def watch(
    pipeline: Pipeline,
    *,
    settle: float | str = 2.0,
    stop: asyncio.Event | None = None,
    told: Told | None = None,
    **job: Any,
) -> Watched:
    """Watch the input of a pipeline until `stop` is set; see Pipeline.watch."""
    seconds = parse_time(settle)
    if not seconds or seconds < 0:
        raise UsageError(f"settle is {settle!r}", hint="give it a time such as 2s")
    plan = make_plan(pipeline.stages)
    check_ends(plan, job.get("rejects"))
    source: Any = pipeline.stages[0]
    sink = pipeline.stages[-1]
    if getattr(source, "finder", None) is None or source.gives != "records" or "-" in source.paths:
        raise UsageError("watch needs files that can arrive", hint="read a directory or a glob")
    if not isinstance(sink, Sink) or sink.home is None:
        raise UsageError("watch needs a directory to write to, with a ledger of what is done", hint="write to out/")
    watcher = _Watcher(pipeline, seconds, stop or asyncio.Event(), told or (lambda _: None), job)
    async with arrivals(watcher.roots) as heard:
        try:
            return await watcher.run(heard)
        finally:
            watcher.close()


class _Watcher:
    def __init__(self, pipeline: Pipeline, settle: float, stop: asyncio.Event, told: Told, job: dict[str, Any]) -> None:
        self._pipeline = pipeline
        self._stop = stop
        self._told = told
        self._job = job
        self._source: Any = pipeline.stages[0]
        self._settling = Settling(settle)
        self._thread = ThreadPoolExecutor(1, "aiopipe-watch")
        self._to_prune = bool(job.get("prune"))  # inputs may have gone since the last time, too
        self._looked = 0.0  # how long the last look took
        self._last = ""  # the last trouble that was told
        self.roots = self._finder().roots()
        self.watched = Watched()

    def close(self) -> None:
        """End the thread; it has nothing to do."""
        self._thread.shutdown()

    async def run(self, heard: Arrivals) -> Watched:
        """Rounds, until told to stop."""
        while not self._stop.is_set():
            heard.changed.clear()
            await self._look()
            ready = self._settling.ready(time.monotonic())
            if ready or self._to_prune:
                self._to_prune = False
                await self._rounds(ready)
            else:
                await self._listen(heard)
        self.watched.failed = self._settling.with_state("failed")
        self.watched.unfinished = self._settling.ready(time.monotonic())
        return self.watched

    async def _listen(self, heard: Arrivals) -> None:
        """Until something may have come to rest, or changed; but look no more often than the looks can bear."""
        settle = self._settling.settle
        rest = max(settle / 4, 10 * self._looked)
        wait = self._settling.wait(time.monotonic())
        longest = settle if heard.broken else _LOOK_ANYWAY
        await self._until(heard.changed, longest if wait is None else max(wait, 0.01))
        if heard.changed.is_set():
            await self._until(self._stop, rest)

    async def _until(self, event: asyncio.Event, seconds: float) -> None:
        """Until the event, the end of the watch, or the time."""
        waiting = [asyncio.ensure_future(e.wait()) for e in {event, self._stop}]
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for future in waiting:
                future.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _look(self) -> None:
        begun = time.monotonic()
        loop = asyncio.get_running_loop()
        try:
            found = await settled(loop.run_in_executor(self._thread, self._signatures))
        except AiopipeError as error:  # a directory that is gone, or not readable now
            self._trouble(error)
            found = {}
        gone = self._settling.look(found, begun, time.time())
        self._to_prune = self._to_prune or bool(gone and self._job.get("prune"))
        self._looked = time.monotonic() - begun

    def _signatures(self) -> dict[str, Signature]:
        """Every file of the source that is there. Blocks."""
        found = {}
        finder = self._finder()
        for file in finder.files():
            with contextlib.suppress(OSError):
                found[file.path] = _signature(file.path)
        return found

    def _finder(self) -> Finder:
        finder: Finder = self._source.finder()
        finder.may_be_empty = True
        return finder

    async def _rounds(self, paths: Sequence[str]) -> None:
        """Rounds until each of these files is done, has failed, or must wait."""
        groups, patience = deque([list(paths)]), _PATIENCE[0]
        while groups and not self._stop.is_set():
            group = groups.popleft()
            try:
                report = await held(self._pipeline, self._settling, group).run(**self._job, stop=self._stop)
            except Exception as error:
                if _passing(error):
                    self._trouble(error)
                    groups.appendleft(group)
                    await self._until(self._stop, patience)
                    patience = min(2 * patience, _PATIENCE[1])
                else:
                    groups.extend(self._failed(group, error))
                continue
            patience = _PATIENCE[0]
            self._count(report, group)

    def _failed(self, group: list[str], error: Exception) -> Iterator[list[str]]:
        """Put the guilty file aside; the groups that are to be tried without it."""
        if any(isinstance(e, StoppedError) for e in _leaves(error)):
            self._told(error)
            return
        named = {e.position.path for e in _leaves(error) if isinstance(e, AiopipeError) and e.position is not None}
        guilty = named & set(group) or (set(group) if len(group) == 1 else set())
        if guilty or not group:
            self._settling.failed(guilty)
            self._told(error)
            if isinstance(error, UnitsFailedError):  # --keep-going: the others are made already
                self._count(error.report, [])
            rest = [path for path in group if path not in guilty]
            if rest:
                yield rest
        else:
            middle = len(group) // 2
            yield group[:middle]
            yield group[middle:]

    def _count(self, report: Report, group: list[str]) -> None:
        if not report.interrupted:
            self._settling.done(group)
        if report.files or report.read:
            watched = self.watched
            watched.rounds += 1
            watched.files += report.files
            watched.read += report.read
            watched.written += report.written
            watched.rejected += report.rejected
            self._told(report)

    def _trouble(self, error: Exception) -> None:
        """Tell of it, once."""
        if str(error) != self._last:
            self._last = str(error)
            self._told(error)


def held(pipeline: Pipeline, settling: Settling, group: Sequence[str]) -> Pipeline:
    """The pipeline with a source that finds only what a round over `group` may read."""
    names = frozenset(group)
    original: Any = pipeline.stages[0]
    kind: Any = type(original)

    def may_read(file: FileRef) -> bool:
        try:
            return settling.may_read(file.path, _signature(file.path), names)
        except OSError:
            return False  # gone

    class Held(kind):  # type: ignore[misc] # the same stage in every other respect
        def finder(self) -> Finder:
            finder: Finder = super().finder()
            finder.may_read, finder.may_be_empty = may_read, True
            return finder

        def __reduce__(self) -> Any:  # to a worker process goes the stage as it was written
            return copy.copy, (original,)

    source: Source = copy.copy(original)
    object.__setattr__(source, "__class__", Held)
    return Pipeline((source, *pipeline.stages[1:]))


def _signature(path: str) -> Signature:
    status = os.stat(path)
    return Signature(status.st_size, status.st_mtime_ns, status.st_ino)


def _passing(error: Exception) -> bool:
    """Whether it is no file's fault, so that time may mend it."""
    words = {os.strerror(number) for number in _PASSING}
    return any(
        isinstance(e, LockedError) or (isinstance(e, OutputError) and any(w in e.message for w in words))
        for e in _leaves(error)
    )


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error
