"""What the hashing engine hands over: small immutable results. Names are bytes, as on the disk."""

from __future__ import annotations

import os
from collections.abc import Mapping

from aiopipe.tuples import NamedTuple

__all__ = ["FAILED", "OK", "FileHash", "Found", "Problem", "Signature"]

OK = "ok"
UNREADABLE = "unreadable"
UNSTABLE = "unstable"
VANISHED = "vanished"
IRREGULAR = "irregular"

FAILED = frozenset({UNREADABLE, UNSTABLE, VANISHED, IRREGULAR})
"""Every status that means: there is no digest for this path."""


class Signature(NamedTuple):
    """What `stat` says about a file's version. Times in nanoseconds since the epoch, size in bytes."""

    size: int
    mtime_ns: int
    ctime_ns: int
    ino: int
    dev: int


class FileHash(NamedTuple):
    """One file and its digests, or why there are none.

    `digests` are lower-case hexadecimal, in the order in which the algorithms were asked for. `status` is
    `ok`, `unreadable` (permission, I/O error), `unstable` (it changed while it was read, twice),
    `vanished` (gone between listing and opening) or `irregular` (a FIFO, socket, device or directory).
    `how` says where the digest comes from: `read`, `cache`, or `link` (a hard link of a file read before).

    >>> FileHash(b"a.txt", OK, ("00ff",), Signature(2, 0, 0, 1, 1)).name
    'a.txt'
    """

    path: bytes
    status: str
    digests: tuple[str, ...]
    signature: Signature | None = None
    reason: str = ""
    how: str = "read"

    @property
    def ok(self) -> bool:
        """True where the digests are there and belong to one unchanged version of the file."""
        return self.status == OK

    @property
    def name(self) -> str:
        """The path as text; bytes that are no UTF-8 become surrogates, as everywhere in Python."""
        return os.fsdecode(self.path)

    @property
    def size(self) -> int:
        """Bytes in the file; 0 where it could not be read."""
        return self.signature.size if self.signature is not None else 0


class Found(NamedTuple):
    """A run of files from one directory: `prefix + name` is each path; `follow` opens symlinks too.

    `algorithms`, where there are any, are used for this run instead of those that were asked for.
    """

    prefix: bytes
    names: list[bytes]
    follow: bool = False
    algorithms: tuple[str, ...] = ()


class Problem(NamedTuple):
    """A path that the walk could not enter or list, with the operating system's reason."""

    path: bytes
    status: str
    reason: str


def by_name(result: FileHash, algorithms: tuple[str, ...]) -> Mapping[str, str]:
    """The digests of a result under the names of their algorithms.

    >>> by_name(FileHash(b"a", OK, ("1f",)), ("md5",))
    {'md5': '1f'}
    """
    return dict(zip(algorithms, result.digests, strict=True))
