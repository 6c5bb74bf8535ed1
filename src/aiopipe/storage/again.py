"""Read a chunk of a file once more, in another process than the one that cut it."""

from __future__ import annotations

import os
from dataclasses import replace

from aiopipe.codec.chunk import Chunk
from aiopipe.storage.version import READ_ONLY, Version

__all__ = ["loaded"]


def loaded(chunk: Chunk, size: int) -> Chunk | None:
    """The chunk with its `size` bytes, from where it lies; None where that is not any more the file it was cut from.

    OSError where it cannot be read.
    """
    assert chunk.origin is not None
    path, version = chunk.origin
    fd = os.open(path, READ_ONLY)
    try:
        if Version.of(os.fstat(fd)) != version:
            return None
        os.lseek(fd, chunk.segments[0].byte, os.SEEK_SET)
        data = os.read(fd, size)
        return replace(chunk, data=data) if len(data) == size and Version.of(os.fstat(fd)) == version else None
    finally:
        os.close(fd)
