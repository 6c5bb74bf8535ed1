"""Many whole files put beside their targets, and then made visible together: they share one `syncfs(2)`.

Whoever puts them and whoever shows them may be two processes: what travels between them are the columns of a Puts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from blake3 import blake3

from aiopipe.model import directory_of
from aiopipe.storage.version import Version
from aiopipe.storage.write import (
    Made,
    create,
    keep_mode,
    make_directories,
    new_names,
    pour,
    sync_directories,
    sync_file_system,
    syncfs,
    trouble,
)
from aiopipe.tuples import NamedTuple

__all__ = ["Puts", "discard", "made", "put", "show"]

_SMALL = 64 << 10


class Puts(NamedTuple):
    """Files that are whole beside their targets: columns, as one pickle of five lists is quicker than hundreds.

    targets, paths: where each is to be, and is. sizes: their bytes. blake3: their hashes, if asked for. directories:
    in which they are. grown: those that got a new one in them for that: they must be synced for it to last.
    """

    targets: list[str]
    paths: list[str]
    sizes: list[int]
    blake3: list[bytes]
    directories: set[str]
    grown: set[str]

    def only(self, places: Sequence[int]) -> Puts:
        """Those at these places."""
        return self._replace(
            targets=[self.targets[i] for i in places],
            paths=[self.paths[i] for i in places],
            sizes=[self.sizes[i] for i in places],
            blake3=[self.blake3[i] for i in places] if self.blake3 else [],
        )


def put(
    files: Sequence[tuple[str, Sequence[Any]]], *, hashed: bool = False, names: Sequence[str] | None = None
) -> Puts:
    """Write files, each a target and its bytes in pieces, beside their targets. OutputError, and then none is left.

    names: what the temporaries are called. Blocks.
    """
    done = Puts([], [], [], [], set(), set())
    sync = syncfs() is None
    try:
        for (target, pieces), name in zip(files, new_names(len(files)) if names is None else names, strict=True):
            directory = directory_of(target)
            path = directory + name
            done.directories.add(directory)
            done.targets.append(target)
            done.paths.append(path)
            few = _few(pieces)
            try:
                _put(target, path, few, done.grown, sync=sync)
            except OSError as error:
                raise trouble(target, error) from None
            done.sizes.append(sum(map(len, few)))
            if hashed:
                done.blake3.append(_hash(few))
    except BaseException:
        discard(done.paths)
        raise
    return done


def _put(target: str, path: str, pieces: Sequence[Any], grown: set[str], *, sync: bool) -> None:
    """Write one file beside its target; one that is replaced keeps its permissions, a directory is refused now."""
    try:
        fd = create(path)
    except FileNotFoundError:
        grown.update(make_directories(os.path.dirname(path)))
        fd = create(path)
    try:
        if os.access(target, os.F_OK):  # mostly it is not there: an exception would cost as much as the file
            keep_mode(fd, target)
        for piece in pieces:
            pour(fd, piece)
        if sync:
            os.fsync(fd)
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise
    os.close(fd)  # the number is free even where this fails: nobody may close it a second time


def _few(pieces: Sequence[Any]) -> Sequence[Any]:
    """Small pieces as one: a system call costs more than their copy."""
    return [b"".join(pieces)] if sum(map(len, pieces)) <= _SMALL else [memoryview(p) for p in pieces if len(p)]


def _hash(pieces: Sequence[Any]) -> bytes:
    """The hash of what stands in pieces."""
    found = blake3()
    for piece in pieces:
        found.update(piece)
    return found.digest()


def show(files: Puts, ready: Callable[[], None] | None = None) -> None:
    """Sync files that were put, and make them visible together. OutputError, and then no temporary is left. Blocks.

    ready: called once all bytes are on the disk, before the first file becomes visible.
    """
    if not files.targets:
        return
    try:
        sync_file_system(directory_of(files.targets[0]) or ".")
        if ready is not None:
            ready()
        for path, target in zip(files.paths, files.targets, strict=True):
            try:
                os.replace(path, target)
            except OSError as error:
                raise trouble(target, error) from None
    except BaseException:
        discard(files.paths)
        raise
    sync_directories(files.directories | files.grown if syncfs() is None else files.directories)


def discard(paths: Iterable[str]) -> None:
    """Remove files that were put and not shown, by where they are. Blocks."""
    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(path)


def made(files: Puts) -> list[Made]:
    """What became of files that were shown, for the ledger. OutputError where one cannot be looked at."""
    found: list[Made] = []
    for target, size, digest in zip(files.targets, files.sizes, files.blake3, strict=True):
        try:
            found.append(Made(target, size, digest, Version.of(os.stat(target))))
        except OSError as error:
            raise trouble(target, error) from None
    return found
