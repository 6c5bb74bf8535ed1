"""Freed memory is kept for the next block, in the processes that are aiopipe's own."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["keep_freed_memory"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
_HEAPS = 2  # a heap for each of seven threads keeps 45 MB more, and is no quicker


def keep_freed_memory(size: int = 64 << 20) -> bool:
    """Have the C library keep up to `size` freed bytes of a heap; False where it cannot be told to.

    Each block's positions are a few MiB that come and go. glibc by default gives them back to the kernel, and
    the next block pays for 900 page faults per MiB: indexing 1 MiB took 3.1-5.2 ms, and 1.6 ms with this. Arrow
    takes its memory there as well, so that what one of the two has freed serves the other (40 MB less).
    For the command line and worker processes: how a program that only imports aiopipe uses memory is its own.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl has none
        return False
    kept = bool(mallopt(M_TRIM_THRESHOLD, size)) and bool(mallopt(M_MMAP_THRESHOLD, min(size, 32 << 20)))
    mallopt(M_ARENA_MAX, _HEAPS)
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].set_memory_pool(sys.modules["pyarrow"].system_memory_pool())
    else:
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    return kept
