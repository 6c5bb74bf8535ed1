"""The two runners: one that works in the lane's own thread, one that has a worker process do it.

The protocol to a worker is frames over its standard streams: a 4-byte length and a marshalled tuple. marshal
is the quickest serializer in the standard library for tuples of bytes and numbers, and both ends are this
very interpreter, which is all that it asks for.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import IO, Any, NamedTuple

from aiopipe.errors import WorkerError
from aiopipe.sums.model import OK, FileHash, Signature
from aiopipe.sums.reader import HeadReader, Outcome, Reader
from aiopipe.sums.schedule import Job, Piece

__all__ = ["Local", "Remote", "Rendered", "Work", "make_reader", "make_wrap"]


class Work(NamedTuple):
    """What a runner is to do with each path; plain values, so that it can go to another process.

    With `style` (see `aiopipe.sums.formats`) the lines of a manifest are made where the digests are, and a
    piece is a `Rendered`; without, a piece is a list of `FileHash`. `head` is how many bytes of each file are
    hashed; 0 for all.
    """

    algorithms: tuple[str, ...]
    style: tuple[Any, ...] | None = None
    cache: tuple[Any, ...] | None = None
    head: int = 0


class Rendered(NamedTuple):
    """The manifest lines of some files, and what a summary needs to know of them."""

    text: bytes
    files: int
    size: int
    failed: list[FileHash]
    fresh: list[FileHash]


def make_reader(work: Work, **options: Any) -> Reader:
    """The reader for some work, in this thread."""
    if work.head:
        return HeadReader(work.algorithms, work.head, **options)
    if work.cache is None:
        return Reader(work.algorithms, **options)
    from aiopipe.sums.cache import CachedReader, CacheOptions

    return CachedReader(work.algorithms, CacheOptions(*work.cache), **options)


def make_wrap(work: Work) -> Callable[[list[FileHash]], Any]:
    """What turns some results into the value of a piece."""
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


_COMMAND = "import sys; sys.path[:] = {path!r}; from aiopipe.sums.worker import main; main()"


class Remote:
    """Has a worker process do the jobs; a worker that dies is replaced, and named if it happens again."""

    depth = 2

    def __init__(self, work: Work, stopped: Callable[[], bool]) -> None:
        self._work = work
        self._stopped = stopped
        self._sent: deque[Job] = deque()
        self._worker = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        # -S and the path as it is here: site would read every .pth file again, a third of the start-up.
        code = _COMMAND.format(path=sys.path)
        worker = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert worker.stdin is not None
        send(worker.stdin, tuple(self._work))
        return worker

    def start(self, job: Job) -> None:
        """Send the job."""
        self._sent.append(job)
        self._send(job)

    def _send(self, job: Job) -> None:
        assert self._worker.stdin is not None
        with contextlib.suppress(OSError):  # `finish` sees the end of the answers and has it done again
            send(self._worker.stdin, (job.paths, job.follow, job.alone, job.algorithms))

    def finish(self) -> tuple[list[Piece], float, int]:
        """Wait for the oldest answer; raises WorkerError where two workers in a row died of one job."""
        answer = self._receive()
        if answer is None and not self._stopped():
            self._replace()
            answer = self._receive()
        job = self._sent.popleft()
        if answer is None:
            raise WorkerError(
                f"two worker processes ended while hashing {os.fsdecode(job.paths[0])} and its neighbours",
                hint="run again with --backend threads; the kernel's log may say why they were killed",
            )
        pieces, seconds, begun_ns = answer
        revived = [Piece(start, files, self._revive(value)) for start, files, value in pieces]
        return revived, seconds, begun_ns

    def _receive(self) -> Any:
        assert self._worker.stdout is not None
        return receive(self._worker.stdout)

    def _revive(self, value: Any) -> Any:
        if value is None:
            return None
        if self._work.style is None:
            return [_revived(each) for each in value]
        text, files, size, failed, fresh = value
        return Rendered(text, files, size, [_revived(each) for each in failed], [_revived(each) for each in fresh])

    def _replace(self) -> None:
        self.close()
        self._worker = self._spawn()
        for job in self._sent:
            self._send(job)

    def close(self) -> None:
        """End the worker: kindly by closing its input, at once where the run was stopped."""
        worker = self._worker
        assert worker.stdin is not None and worker.stdout is not None
        if self._stopped():
            worker.kill()
        with contextlib.suppress(OSError):
            worker.stdin.close()
        worker.stdout.close()
        worker.wait()


def plain(value: Any) -> Any:
    """A piece's value as marshal takes it: tuples, and nothing derived from them."""
    if value is None:
        return None
    if isinstance(value, Rendered):
        failed = [_plain(each) for each in value.failed]
        return (value.text, value.files, value.size, failed, [_plain(each) for each in value.fresh])
    return [_plain(each) for each in value]


def _plain(result: FileHash) -> tuple[Any, ...]:
    path, status, digests, signature, reason, how = result
    return (path, status, digests, signature and tuple(signature), reason, how)


def _revived(result: tuple[Any, ...], make: Any = tuple.__new__) -> FileHash:
    signature = result[3]
    if signature is None:
        return FileHash(*result)
    revived: FileHash = make(FileHash, (*result[:3], make(Signature, signature), *result[4:]))
    return revived


def send(stream: IO[bytes], value: Any) -> None:
    """Write one frame; raises OSError where the other end is gone."""
    body = marshal.dumps(value)
    frame = memoryview(len(body).to_bytes(4, "little") + body)
    while frame:
        frame = frame[stream.write(frame) or 0 :]


def receive(stream: IO[bytes]) -> Any:
    """Read one frame, or None at the end of the stream."""
    head = _exactly(stream, 4)
    body = _exactly(stream, int.from_bytes(head, "little")) if head else None
    return None if body is None else marshal.loads(body)


def _exactly(stream: IO[bytes], count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        piece = stream.read(count - len(parts))
        if not piece:
            return None
        parts += piece
    return bytes(parts)
