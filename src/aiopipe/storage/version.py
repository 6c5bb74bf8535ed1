"""What tells one state of a file from another: a cheap signature, and a hash of its bytes as the truth."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

import xxhash
from blake3 import blake3

from aiopipe.tuples import NamedTuple

__all__ = ["HASHED", "READ_ONLY", "Checksum", "Version", "Watched", "checksum_of", "quick_hash"]

# O_NONBLOCK: a FIFO that took the file's place since it was found must not hang us.
READ_ONLY = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_BLOCK = 1 << 20
HASHED = 256 << 10  # bytes of a block of the quick hash,
_SIZE = 16  # and of its hash


class Version(NamedTuple):
    """The signature of a file: size in bytes, times in nanoseconds, inode number.

    Size and time alone miss a file that was replaced by one with the same size and a restored time: inode and
    ctime do not.
    """

    size: int
    mtime_ns: int
    inode: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Version:
        """The signature in what stat(2) says."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)


class Checksum:
    """A hash of bytes as they stream by. count: how many there were. noted: count and hash after the last `note`.

    BLAKE3 for what is written, which `b3sum` can check and nobody can forge. For what is read XXH3 with 128 bits, five
    times as fast: it only has to tell a file from its own earlier state, and nobody forges his own input. Several may
    hash one input, each a stretch of it: so the hash of more than one block is that of the hashes of its blocks.
    """

    __slots__ = ("_blocks", "_hash", "_quick", "count", "noted")

    def __init__(self, *, quick: bool = False) -> None:
        self._quick = quick
        self._hash: Any = xxhash.xxh3_128() if quick else blake3()
        self._blocks = b""  # the hashes of whole blocks, where quick; `_hash` has seen what came behind them
        self.count = 0
        self.noted: tuple[int, bytes] = (0, b"")

    def copy(self) -> Checksum:
        """Another one that has seen the same bytes."""
        other = Checksum.__new__(Checksum)
        other._hash, other._quick, other._blocks = self._hash.copy(), self._quick, self._blocks
        other.count, other.noted = self.count, self.noted
        return other

    def note(self) -> None:
        """Leave count and hash for other threads, which must never see one without the other."""
        self.noted = (self.count, self.digest())

    def update(self, data: Any) -> None:
        """Take the next bytes; for large pieces this releases the GIL."""
        if self._quick and self.count % HASHED + len(data) >= HASHED:
            left = memoryview(data)
            while len(left) >= (room := HASHED - self.count % HASHED):
                self._hash.update(left[:room])
                self._blocks += self._hash.digest()
                self._hash.reset()
                self.count += room
                left = left[room:]
            data = left
        self._hash.update(data)
        self.count += len(data)

    @property
    def blocks(self) -> bytes:
        """Of a quick one: the hash of each block of `HASHED` bytes, and of what is left behind them."""
        return self._blocks + self._hash.digest() if self.count % HASHED else self._blocks

    def extend(self, blocks: bytes, count: int) -> None:
        """Take the next `count` bytes by the `blocks` of a quick one that has seen only them.

        What came before must end with a block, and what comes behind a part of one is nothing.
        """
        if self.count % HASHED or len(blocks) != _SIZE * -(-count // HASHED):
            raise ValueError(f"{count} bytes in {len(blocks)} bytes of hashes do not fit behind {self.count}")
        self._blocks += blocks[: count // HASHED * _SIZE]
        self.count += count
        if count % HASHED:
            self._hash = _Past(blocks[-_SIZE:])

    def digest(self) -> bytes:
        """The hash of all that came so far: 32 bytes, or 16 of the quick one."""
        if len(self._blocks) > _SIZE or (self._blocks and self.count % HASHED):
            found: bytes = xxhash.xxh3_128_digest(self.blocks)
        else:
            found = self._blocks or self._hash.digest()
        return found


class _Past:
    """A hash of which only the result is known; it takes no more bytes."""

    def __init__(self, result: bytes) -> None:
        self.digest = lambda: result

    def copy(self) -> _Past:
        return self


class Watched(io.FileIO):
    """A raw file whose bytes are hashed in the thread that reads them. It owns the descriptor it is given."""

    def __init__(self, fd: int, checksum: Checksum) -> None:
        super().__init__(fd, "rb")
        self._checksum = checksum

    def read(self, size: int | None = -1, /) -> bytes:
        """As for FileIO."""
        data: bytes = super().read(-1 if size is None else size)
        self._checksum.update(data)
        self._checksum.note()
        return data


def checksum_of(
    path: str, stopping: Callable[[], bool] = lambda: False, *, quick: bool = False
) -> tuple[Version, bytes] | None:
    """Signature and hash of a file as it lies there; None where it changed meanwhile, or when `stopping()` is true.

    quick: as for Checksum. Blocks. OSError where it cannot be read.
    """
    found = Checksum(quick=quick)
    fd = os.open(path, READ_ONLY)
    try:
        before = Version.of(os.fstat(fd))
        while data := os.read(fd, _BLOCK):
            found.update(data)
            if stopping():
                return None
        if Version.of(os.fstat(fd)) != before or found.count != before.size:
            return None
    finally:
        os.close(fd)
    return before, found.digest()


def quick_hash(data: bytes) -> bytes:
    """What a quick Checksum says of these bytes: of a small file's in one go, which takes a third of the time."""
    if len(data) <= HASHED:
        return xxhash.xxh3_128_digest(data)
    found = Checksum(quick=True)
    found.update(data)
    return found.digest()
