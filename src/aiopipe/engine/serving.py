"""The worker's side of `remote`: chunks in on standard input, outputs out on standard output, nothing else.

It ends when its input does, so a parent that is killed leaves none behind. Whatever goes wrong here is said in one
word: the parent then does that chunk itself, and its error is the one that is seen.
"""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aiopipe.memory import keep_freed_memory

__all__ = ["main"]


def main(modules: Sequence[str]) -> None:
    """Import modules, say that all is ready, and serve until the input ends. Does not return."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    gc.disable()  # importing makes no garbage
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get among the answers

    from aiopipe.engine.remote import receive, send

    for name in modules:
        importlib.import_module(name)
    gc.enable()
    gc.freeze()
    nodes: dict[int, Any] = {}
    try:
        send(target, "ready")
        while True:
            (number, blob, chunk, size), data = receive(source)
            if blob:
                nodes[number] = pickle.loads(blob)
            send(target, _made(nodes[number], chunk, size, data))
    except (EOFError, OSError):
        pass
    sys.stderr.flush()
    os._exit(0)


def _made(node: Any, chunk: Any, size: int, data: bytes) -> Any:
    """What the node makes of the chunk, or None."""
    try:
        if chunk.origin is not None:
            data = _bytes_of(chunk, size)
            if len(data) != size:
                return None
        return node.run(replace(chunk, data=data))
    except Exception:
        return None


def _bytes_of(chunk: Any, size: int) -> bytes:
    """The bytes of a chunk, from the file; none where it is not the file any more that the parent reads."""
    from aiopipe.storage.version import Version

    segment = chunk.segments[0]
    fd = os.open(chunk.origin[0], os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        if Version.of(os.fstat(fd)) != chunk.origin[1]:
            return b""
        data = _pread(fd, size, segment.byte)
        return data if Version.of(os.fstat(fd)) == chunk.origin[1] else b""
    finally:
        os.close(fd)


def _pread(fd: int, size: int, start: int) -> bytes:
    if not hasattr(os, "pread"):  # Windows
        os.lseek(fd, start, os.SEEK_SET)
        data = os.read(fd, size)
    else:
        data = os.pread(fd, size, start)
    return data  # short only where the file is: `_made` sees that
