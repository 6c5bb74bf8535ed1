"""Writers broken on purpose, one way each: the sweeps must find every one of them out."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

__all__ = ["VARIANTS"]


@contextlib.contextmanager
def in_place() -> Iterator[None]:
    """Outputs are opened under their own names, and written there."""
    from aiopipe.storage import put
    from aiopipe.storage.version import Checksum
    from aiopipe.storage.write import Temporary

    def begin(self: Temporary, target: str, *, hashed: bool = False, alone: bool = False, name: str = "") -> None:
        os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        self.target = self.path = target
        self.directory = os.path.dirname(target) or "."
        self.nbytes = 0
        self._checksum = Checksum() if hashed else None
        self._grown = []
        self._lock = -1
        self._fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)

    def put_there(target: str, path: str, pieces: Sequence[Any], grown: set[str], *, sync: bool) -> None:
        os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        with open(target, "wb", buffering=0) as file:
            for piece in pieces:
                file.write(piece)

    class Os:
        """`os`, but that what is written in place need not be renamed."""

        def __getattr__(self, name: str) -> Any:
            return getattr(os, name) if name != "replace" else lambda path, target: None

    before = Temporary.__init__, put._put, put.os
    Temporary.__init__, put._put, put.os = begin, put_there, Os()  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Temporary.__init__, put._put, put.os = before  # type: ignore[method-assign]


@contextlib.contextmanager
def no_sync() -> Iterator[None]:
    """The bytes of outputs are never told to reach the disk; directories and the ledger are."""
    from aiopipe.storage import put

    before = os.fsync, put.sync_file_system

    def directories_only(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            before[0](fd)

    os.fsync = directories_only
    put.sync_file_system = lambda directory: None
    try:
        yield
    finally:
        os.fsync, put.sync_file_system = before


@contextlib.contextmanager
def early_range() -> Iterator[None]:
    """A range of a file is noted in the ledger, and then its output is told to reach the disk."""
    from aiopipe.stages._checkpoints import Checkpoints
    from aiopipe.storage.ranges import Reached

    before = Checkpoints._keep

    def keep(self: Checkpoints, reached: Reached) -> None:
        self._ranges.keep(self._file, reached)
        before(self, reached)

    Checkpoints._keep = keep  # type: ignore[method-assign]
    try:
        yield
    finally:
        Checkpoints._keep = before  # type: ignore[method-assign]


VARIANTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "in-place": in_place,
    "no-sync": no_sync,
    "early-range": early_range,
}
