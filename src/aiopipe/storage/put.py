"""Many whole files put beside their targets, and then made visible together: they share one `syncfs(2)`.

Whoever puts them and whoever shows them may be two processes: what travels between them is a Put for each file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from aiopipe.storage.version import Version
from aiopipe.storage.write import Made, Temporary, sync_directories, sync_file_system, syncfs, trouble

__all__ = ["Put", "discard", "made", "put", "show"]

_SMALL = 64 << 10


class Put(NamedTuple):
    """A file that is whole beside its target: where, its bytes counted and, if asked for, hashed (BLAKE3).

    grown: directories that got a new one in them for it.
    """

    target: str
    path: str
    nbytes: int
    blake3: bytes = b""
    grown: tuple[str, ...] = ()


def put(
    files: Sequence[tuple[str, Sequence[Any]]], *, hashed: bool = False, names: Iterable[str] | None = None
) -> list[Put]:
    """Write files, each a target and its bytes in pieces, beside their targets. OutputError, and then none is left.

    names: what the temporaries are called. Blocks.
    """
    begun: list[Temporary] = []
    called = iter(names) if names is not None else None
    try:
        for target, pieces in files:
            temporary = Temporary(target, hashed=hashed, name="" if called is None else next(called))
            begun.append(temporary)
            for piece in _few(pieces):
                temporary.write(piece)
            temporary.close(sync=syncfs() is None)
    except BaseException:
        for temporary in begun:
            temporary.discard()
        raise
    return [Put(t.target, t.path, t.nbytes, t.blake3 if hashed else b"", t.grown) for t in begun]


def _few(pieces: Sequence[Any]) -> Sequence[Any]:
    """Small pieces as one: a system call costs more than their copy."""
    return [b"".join(pieces)] if sum(map(len, pieces)) <= _SMALL else [p for p in pieces if len(p)]


def show(files: Sequence[Put], ready: Callable[[], None] | None = None) -> None:
    """Sync files that were put, and make them visible together. OutputError, and then no temporary is left. Blocks.

    ready: called once all bytes are on the disk, before the first file becomes visible.
    """
    if not files:
        return
    try:
        sync_file_system(os.path.dirname(files[0].target) or ".")
        if ready is not None:
            ready()
        for file in files:
            try:
                os.replace(file.path, file.target)
            except OSError as error:
                raise trouble(file.target, error) from None
    except BaseException:
        discard(files)
        raise
    grown = [directory for file in files for directory in file.grown] if syncfs() is None else []
    sync_directories({*grown, *(os.path.dirname(file.target) for file in files)})


def discard(files: Iterable[Put]) -> None:
    """Remove files that were put and not shown. Blocks."""
    for file in files:
        with contextlib.suppress(OSError):
            os.unlink(file.path)


def made(file: Put) -> Made:
    """What became of a file that was shown, for the ledger. OutputError where it cannot be looked at."""
    try:
        return Made(file.target, file.nbytes, file.blake3, Version.of(os.stat(file.target)))
    except OSError as error:
        raise trouble(file.target, error) from None
