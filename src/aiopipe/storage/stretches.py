"""Large files as stretches that travel unread: whoever computes on one, here or in a worker process, reads it as well.

The event loop's process looks at a few bytes before each boundary only: a stretch ends behind a line feed. Whether that
line feed ends a record nobody knows yet, for it may stand inside quotes. Who reads the stretch can tell: it begins with
a record, so its quotes say whether it ends with one. Where it does not, its bytes go through the cutter as those of any
stream do, together with the stretch behind it; see `aiopipe.engine.stretches`.

A file is only cut where it is a regular one, in an encoding that is ASCII's where it matters, and read from its
beginning.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from aiopipe.batch import Header, Segment
from aiopipe.codec.chunk import Chunk
from aiopipe.codec.cut import Cutter
from aiopipe.codec.dialect import Dialect
from aiopipe.errors import RecordError
from aiopipe.model import FileRef
from aiopipe.storage.headers import has_record, read_header
from aiopipe.storage.opening import Input, at, open_regular, replaced, still, trouble
from aiopipe.storage.version import HASHED, READ_ONLY, Checksum, Version

if TYPE_CHECKING:
    from aiopipe.stage import Units

__all__ = ["Parted", "Stretch", "Stretches", "Trail", "parted"]

_HEAD = 64 << 10  # bytes that nearly always hold the header,
_LOOK = 4 << 10  # and those before a boundary that nearly always hold a line feed


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Stretch:
    """A part of a file that nobody has read yet: its records lie at bytes [start, stop), if it was cut well.

    version: of the file when it was opened. part, last, head_lines: as for Segment. hashed: the bytes [from, to) whose
    hash is wanted, which begin with a block of the hash; None for none. likely: whether both ends lie at line feeds.
    """

    file: FileRef
    version: Version
    header: Header
    dialect: Dialect
    part: int
    last: bool
    start: int
    stop: int
    hashed: tuple[int, int] | None
    head_lines: int
    likely: bool

    def __len__(self) -> int:
        return 0  # records: nobody has counted yet

    @property
    def nbytes(self) -> int:
        """Bytes that it stands for."""
        return self.stop - self.start

    def read(self) -> tuple[bytes, bytes]:
        """Its bytes, and the hashes of blocks (see Checksum.blocks), b"" where they are not wanted. Blocks.

        ChangedError where the file is not any more what it was; InputError where it cannot be read.
        """
        try:
            fd = _opened(self.file)
            try:
                still(self.file, self.version, os.fstat(fd))
                data = _exactly(fd, self.start, self.stop)
                blocks = b"" if self.hashed is None else self._blocks(fd, data, *self.hashed)
                still(self.file, self.version, os.fstat(fd))
            finally:
                os.close(fd)
        except OSError as error:
            raise trouble(self.file, error) from None
        return data, blocks

    def _blocks(self, fd: int, data: bytes, begin: int, end: int) -> bytes:
        """The hashes of [begin, end), which differs from the stretch by a header, or a part of a record or two."""
        checksum = Checksum(quick=True)
        if begin < self.start:
            checksum.update(_exactly(fd, begin, self.start))
        checksum.update(memoryview(data)[max(begin - self.start, 0) :])
        checksum.update(_exactly(fd, self.stop, end))
        return checksum.blocks

    def chunk(self, data: bytes, byte: int | None = None) -> Chunk:
        """Records of its, as a chunk. byte: where they begin, should it not be where the stretch does."""
        start = self.start if byte is None else byte
        segment = Segment(
            self.file, self.part, self.last, 0, start, head_lines=self.head_lines if self.part == 0 else 0
        )
        return Chunk(data, self.header, self.dialect, (segment,), (self.file.path, self.version))

    def end(self) -> Chunk:
        """What says, in its place, that nothing more of the file will come."""
        return Chunk(b"", self.header, self.dialect, (Segment(self.file, self.part, True, 0, -1),)).emptied()


def _opened(file: FileRef) -> int:
    try:
        return os.open(file.path, READ_ONLY)
    except FileNotFoundError:
        raise replaced(file) from None


def _exactly(fd: int, start: int, stop: int) -> bytes:
    """The bytes [start, stop), or as many of them as there are."""
    os.lseek(fd, start, os.SEEK_SET)
    data = os.read(fd, stop - start)
    while len(data) < stop - start and (more := os.read(fd, stop - start - len(data))):
        data += more
    return data


@dataclass(slots=True, eq=False, repr=False)
class Trail:
    """How far the stretches of one file have been found right, in order. All in the loop.

    byte: where the next record begins. cutter: what holds the beginning of that record, where it is not that of a
    stretch. over: nothing of the file is wanted any more. checksum: of the file, where one is kept.
    """

    checksum: Checksum | None
    byte: int
    cutter: Cutter | None = None
    over: bool = False
    _past: int = -1  # the last part that is settled
    _waiting: dict[int, asyncio.Future[None]] = field(default_factory=dict)

    async def turn(self, part: int) -> None:
        """Wait until it is known where the part before this one ended."""
        if self._past < part - 1:
            self._waiting[part] = asyncio.get_running_loop().create_future()
            await self._waiting[part]

    def settle(self, part: int) -> None:
        """It is known where this part ends."""
        self._past = part
        waiting = self._waiting.pop(part + 1, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)


@dataclass(slots=True, eq=False, repr=False)
class Stretches:
    """The stretches of a run, in the loop. again: files that changed while they were read, for another attempt.

    right, wrong: how many of those that were computed on ended with a record, and how many did not; of files long past
    they count for less.
    """

    again: deque[Input] = field(default_factory=deque)
    right: int = 0
    wrong: int = 0
    _trails: dict[int, Trail] = field(default_factory=dict)
    _away: int = 0
    _closed: bool = False
    _idle: asyncio.Future[None] | None = None

    @property
    def promising(self) -> bool:
        """Whether it is worth while to compute on a stretch before it is known to begin with a record."""
        return 4 * self.wrong <= self.right + 8

    def begin(self, file: FileRef, trail: Trail) -> None:
        """The stretches of a file are going to come."""
        self.right //= 2
        self.wrong //= 2
        self._trails[file.index] = trail

    def trail(self, file: FileRef) -> Trail:
        """That of a file which has begun."""
        return self._trails[file.index]

    def leave(self) -> None:
        """A stretch goes on its way."""
        self._away += 1

    def arrive(self, stretch: Stretch) -> None:
        """It is known what became of a stretch."""
        self._away -= 1
        if stretch.last:
            self._trails.pop(stretch.file.index, None)
        if not self._away:
            self._rest()

    def close(self) -> None:
        """Nobody takes stretches any more; those on their way are lost."""
        self._closed = True
        self._rest()

    def _rest(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def settled(self) -> None:
        """Wait until it is known what became of all that are on their way."""
        if self._away and not self._closed:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle


class Parted:
    """A file that is being cut. It owns its descriptor until `close`; one thread at a time may call.

    byte, lines: where its records begin, and how many lines come before them. checksum: see Trail.
    """

    def __init__(
        self,
        fd: int,
        version: Version,
        item: Input,
        header: Header,
        byte: int,
        lines: int,
        block: int,
        checksum: Checksum | None = None,
    ) -> None:
        self.byte = byte
        self.checksum = checksum
        self._fd = fd
        self._version = version
        self._item = item
        self._header = header
        self._lines = lines
        self._block = block
        self._each = self._stretches()

    def some(self, number: int) -> list[Stretch]:
        """The next stretches; none when the file has ended. Blocks. InputError where it cannot be read."""
        try:
            return list(islice(self._each, number))
        except OSError as error:
            raise trouble(self._item.file, error) from None

    def close(self) -> None:
        """Let go of the file. OSError as of close(2)."""
        os.close(self._fd)

    def _stretches(self) -> Iterator[Stretch]:
        start, begin, part, good = self.byte, 0, 0, True
        while True:
            end = begin + self._block
            last = end + self._block // 4 >= self._version.size  # no last one of a few bytes
            if last:
                end = self._version.size
            stop, found = (end, True) if last else self._cut(start, end)
            yield Stretch(
                self._item.file,
                self._version,
                self._header,
                self._item.dialect,
                part,
                last,
                start,
                stop,
                (begin, end) if self.checksum is not None else None,
                self._lines,
                good and found,
            )
            if last:
                return
            start, begin, part, good = stop, end, part + 1, found

    def _cut(self, start: int, end: int) -> tuple[int, bool]:
        """Behind the last line feed in [start, end); the end itself, and False, where there is none."""
        size = _LOOK
        while True:
            begin = max(start, end - size)
            found = _exactly(self._fd, begin, end).rfind(b"\n")
            if found >= 0:
                return begin + found + 1, True
            if begin == start:
                return end, False
            size *= 16


def parted(item: Input, block: int, units: Units | None) -> Parted | None:
    """A file made ready to be cut into stretches of about `block` bytes; None where it must be read as a stream is.

    Blocks. InputError where it cannot be read, RecordError where its header is none.
    """
    block -= block % HASHED if units is not None else 0
    if not block or item.dialect.transcoded:
        return None
    try:
        fd, status = open_regular(item.file)
    except OSError as error:
        raise trouble(item.file, error) from None
    done = False
    try:
        for size in (_HEAD, block):
            head = _exactly(fd, 0, min(size, status.st_size))
            if has_record(head, item.dialect):
                break
        else:
            return None
        header, start, lines = read_header(head, item.dialect)
        checksum = units.reading(item.file, status) if units is not None else None
        found = Parted(fd, Version.of(status), item, header, start, lines, max(block, start), checksum)
        done = True
    except OSError as error:
        raise trouble(item.file, error) from None
    except RecordError as error:
        raise at(error, item.file) from None
    finally:
        if not done:
            os.close(fd)
    return found
