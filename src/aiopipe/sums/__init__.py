"""Checksums of files and trees, at the speed of the disk: find, hash, check, audit, dupes, bags.

Names are imported when they are first used: a worker process and `aiopipe --help` want few of them.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from aiopipe.sums.algorithms import algorithm, known_algorithms
    from aiopipe.sums.cache import CacheOptions
    from aiopipe.sums.engine import HashOptions
    from aiopipe.sums.model import FileHash, Found, Problem, Signature
    from aiopipe.sums.streams import find_files, hash_batches, hash_files
    from aiopipe.sums.walk import Walk, WalkOptions

__all__ = [
    "CacheOptions",
    "FileHash",
    "Found",
    "HashOptions",
    "Problem",
    "Signature",
    "Walk",
    "WalkOptions",
    "algorithm",
    "find_files",
    "hash_batches",
    "hash_files",
    "known_algorithms",
]

_HOMES = {
    "algorithms": ("algorithm", "known_algorithms"),
    "cache": ("CacheOptions",),
    "engine": ("HashOptions",),
    "model": ("FileHash", "Found", "Problem", "Signature"),
    "streams": ("find_files", "hash_batches", "hash_files"),
    "walk": ("Walk", "WalkOptions"),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"aiopipe.sums.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
