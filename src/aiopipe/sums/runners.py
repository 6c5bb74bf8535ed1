"""What is done with each job, and the runner that does it where it is called. For worker processes see `crew`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiopipe.sums.model import OK, FileHash
from aiopipe.sums.reader import Outcome, Reader
from aiopipe.sums.schedule import Job, Piece
from aiopipe.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

__all__ = ["Local", "Rendered", "Work", "make_reader", "make_wrap"]


class Work(NamedTuple):
    """What a runner is to do with each path; plain values, so that it can go to another process.

    With `style` (see `aiopipe.sums.formats`) the lines of a manifest are made where the digests are, and a
    piece is a `Rendered`; without, a piece is a list of `FileHash`. With `head` only the beginning of each file is
    hashed. With `signed` a file that has its digests is a tuple of them, followed by its signature.

    `kind` says what is done where it is not plain hashing: `wanted` is that of `aiopipe.sums.wanted`, `sizes` and
    `twins` are those of `aiopipe.sums.twins`.
    """

    algorithms: tuple[str, ...]
    style: tuple[Any, ...] | None = None
    cache: tuple[Any, ...] | None = None
    head: bool = False
    signed: bool = False
    kind: str = "digests"


class Rendered(NamedTuple):
    """The manifest lines of some files, and what a summary needs to know of them."""

    text: bytes
    files: int
    size: int
    failed: list[FileHash]
    fresh: list[FileHash]


if TYPE_CHECKING:
    Wrap = Callable[[list[Any], Sequence[bytes], int], Any]

    class Reads(Protocol):
        """What does jobs: a `Reader`, or what stands for one."""

        maps: bool

        def run(
            self, paths: Sequence[bytes], *, follow: bool = ..., alone: bool = ..., algorithms: tuple[str, ...] = ...
        ) -> Outcome:
            """One result for each of the paths, or of the first of them."""

        def close(self) -> None:
            """Let go of what it holds."""


def make_reader(work: Work, **options: Any) -> Reads:
    """The reader for some work, in this thread."""
    if work.kind in ("sizes", "twins"):
        from aiopipe.sums.twins import Sizes, Twins

        return Sizes() if work.kind == "sizes" else Twins(work.algorithms)
    if work.kind == "wanted":
        from aiopipe.sums.wanted import Wanted

        return Wanted(Reader(work.algorithms, lean=True, **options), work.algorithms)
    if work.cache is None:
        return Reader(work.algorithms, head=work.head, lean=_is_lean(work), signed=work.signed, **options)
    from aiopipe.sums.cache import CachedReader, CacheOptions

    return CachedReader(work.algorithms, CacheOptions(*work.cache), **options)


def _is_lean(work: Work) -> bool:
    """Whether the digests of a file are all that is asked of most of them."""
    return work.signed or (work.style is not None and work.style == ("gnu", False, b"") and work.cache is None)


def make_wrap(work: Work) -> Wrap:
    """What turns some results, their paths and the size of those that are lean into the value of a piece."""
    if work.kind != "digests":
        return _plain
    if work.signed:
        return _signed
    if work.style is None:
        return lambda results, paths, size: list(results)
    from aiopipe.sums.formats import Style, plain_lines, renderer

    render = renderer(Style(*work.style), work.algorithms)
    lean = _is_lean(work)
    remembers = work.cache is not None

    def rendered(results: list[Any], paths: Sequence[bytes], size: int) -> Rendered:
        lines: list[bytes] = []
        failed: list[FileHash] = []
        if lean:
            text = plain_lines(results, paths)
            if text is not None:
                return Rendered(text, len(results), size, failed, [])
        for result, path in zip(results, paths, strict=True):
            if type(result) is tuple:
                lines.append(render(FileHash(path, OK, result)) or b"")
                continue
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


def measure_of(work: Work) -> Callable[[bytes], int] | None:
    """How many bytes there are behind what a job of this work names, where that is not a file's path."""
    if work.kind == "twins":
        from aiopipe.sums.twins import family_size

        return family_size
    if work.kind == "wanted":
        from aiopipe.sums.wanted import wanted_size

        return wanted_size
    return None


def _plain(results: list[Any], paths: Sequence[bytes], size: int) -> list[Any]:
    return results


def _signed(results: list[Any], paths: Sequence[bytes], size: int) -> list[Any]:
    return [each if type(each) is tuple or each[1] != OK else (*each[2], *each[3]) for each in results]


def pieces_of(outcome: Outcome, paths: Sequence[bytes], wrap: Wrap) -> list[Piece]:
    """Neighbouring results as one piece each; a None stands alone."""
    results, _, _, size = outcome
    if None not in results:
        return [Piece(0, len(results), wrap(results, paths[: len(results)], size))] if results else []
    pieces: list[Piece] = []
    start = 0
    for index, result in enumerate([*results, None]):
        if result is not None:
            continue
        if index > start:
            pieces.append(Piece(start, index - start, wrap(results[start:index], paths[start:index], size)))
            size = 0
        if index < len(results):
            pieces.append(Piece(index, 1, None))
        start = index + 1
    return pieces


class Local:
    """Does each job where it is called."""

    depth = 1

    def __init__(self, reader: Reads, wrap: Wrap) -> None:
        self._reader = reader
        self._wrap = wrap
        self._outcome = Outcome([], 0.0, 0)
        self._paths: Sequence[bytes] = ()

    def start(self, job: Job) -> None:
        """Do the job."""
        self._paths = job.paths
        self._outcome = self._reader.run(job.paths, follow=job.follow, alone=job.alone, algorithms=job.algorithms)

    def finish(self) -> tuple[list[Piece], float, int]:
        """What `start` found."""
        return pieces_of(self._outcome, self._paths, self._wrap), self._outcome.seconds, self._outcome.begun_ns

    def close(self) -> None:
        """Let the reader go."""
        self._reader.close()
