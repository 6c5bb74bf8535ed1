"""What is done with each job, and the runner that does it where it is called. For worker processes see `crew`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiopipe.sums.model import OK, FileHash
from aiopipe.sums.reader import Outcome, Reader
from aiopipe.sums.schedule import Job, Piece
from aiopipe.sums.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Local", "Rendered", "Work", "make_reader", "make_wrap"]


class Work(NamedTuple):
    """What a runner is to do with each path; plain values, so that it can go to another process.

    With `style` (see `aiopipe.sums.formats`) the lines of a manifest are made where the digests are, and a
    piece is a `Rendered`; without, a piece is a list of `FileHash`. With `head` only the beginning of each file is
    hashed. With `brief` a file that has its digests is a tuple of them alone, with `signed` followed by its signature.
    """

    algorithms: tuple[str, ...]
    style: tuple[Any, ...] | None = None
    cache: tuple[Any, ...] | None = None
    head: bool = False
    brief: bool = False
    signed: bool = False


class Rendered(NamedTuple):
    """The manifest lines of some files, and what a summary needs to know of them."""

    text: bytes
    files: int
    size: int
    failed: list[FileHash]
    fresh: list[FileHash]


def make_reader(work: Work, **options: Any) -> Reader:
    """The reader for some work, in this thread."""
    if work.cache is None:
        return Reader(work.algorithms, head=work.head, **options)
    from aiopipe.sums.cache import CachedReader, CacheOptions

    return CachedReader(work.algorithms, CacheOptions(*work.cache), **options)


def make_wrap(work: Work) -> Callable[[list[FileHash]], Any]:
    """What turns some results into the value of a piece."""
    if work.signed:
        return lambda results: [(*each[2], *each[3]) if each[1] == OK and each[3] else each for each in results]
    if work.brief:
        return lambda results: [each[2] if each[1] == OK else each for each in results]
    if work.style is None:
        return list
    from aiopipe.sums.formats import Style, renderer

    render = renderer(Style(*work.style), work.algorithms)

    remembers = work.cache is not None

    def rendered(results: list[FileHash]) -> Rendered:
        lines: list[bytes] = []
        failed: list[FileHash] = []
        size = 0
        for result in results:
            if result[1] != OK:
                failed.append(result)
                continue
            line = render(result)
            if line is None:
                failed.append(result._replace(status="unnamable", reason="this format cannot hold its name"))
                continue
            lines.append(line)
            size += result[3][0] if result[3] is not None else 0
        fresh = [each for each in results if each[5] != "cache"] if remembers else []
        return Rendered(b"".join(lines), len(results) - len(failed), size, failed, fresh)

    return rendered


def pieces_of(results: Sequence[FileHash | None], wrap: Callable[[list[FileHash]], Any]) -> list[Piece]:
    """Neighbouring results as one piece each; a None stands alone."""
    pieces: list[Piece] = []
    start = 0
    run: list[FileHash] = []
    if None not in results:
        return [Piece(0, len(results), wrap(list(results)))] if results else []  # type: ignore[arg-type]
    for index, result in enumerate(results):
        if result is not None:
            run.append(result)
            continue
        if run:
            pieces.append(Piece(start, len(run), wrap(run)))
            run = []
        pieces.append(Piece(index, 1, None))
        start = index + 1
    if run:
        pieces.append(Piece(start, len(run), wrap(run)))
    return pieces


class Local:
    """Does each job where it is called."""

    depth = 1

    def __init__(self, reader: Reader, wrap: Callable[[list[FileHash]], Any]) -> None:
        self._reader = reader
        self._wrap = wrap
        self._outcome = Outcome([], 0.0, 0)

    def start(self, job: Job) -> None:
        """Do the job."""
        self._outcome = self._reader.run(job.paths, follow=job.follow, alone=job.alone, algorithms=job.algorithms)

    def finish(self) -> tuple[list[Piece], float, int]:
        """What `start` found."""
        results, seconds, begun_ns = self._outcome
        return pieces_of(results, self._wrap), seconds, begun_ns

    def close(self) -> None:
        """Let the reader go."""
        self._reader.close()
