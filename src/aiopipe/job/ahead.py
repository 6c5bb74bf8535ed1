"""What a run of some length needs first, begun before this process imports what it needs itself.

Importing numpy and Arrow keeps one core busy for half a second. A worker process that is started now does the same
on another core meanwhile, and is ready when the first chunks are.
"""

from __future__ import annotations

import importlib
import os
import sys
from itertools import islice
from typing import TYPE_CHECKING

from aiopipe.engine import spawning
from aiopipe.engine.remote import PER_FILE, Remotes, cores
from aiopipe.forking import can_fork
from aiopipe.stage import Transform

if TYPE_CHECKING:
    from aiopipe.stage import Stage

__all__ = ["Remotes", "begun", "fork", "unfork"]

# What computes in the stages that are portable.
_MODULES = ("aiopipe.fuse", "aiopipe.codec.encode", "aiopipe.stages.read", "aiopipe.stages.filter",
            "aiopipe.stages.write", "aiopipe.stages._expressions")  # fmt: skip
_HERE = ("aiopipe.engine.serving", "aiopipe.engine.groups", "aiopipe.engine.stretches", "aiopipe.storage.again",
         "aiopipe.storage.groups")  # fmt: skip
_WORTH = 48 << 20  # bytes of input: less is done before a worker has come up
_FILES = 4096  # that are looked at to find out


_forked: list[Remotes] = []  # by the command line, for the run that it is about to begin


def fork(stages: tuple[Stage, ...], workers: int | None) -> None:
    """Import what a large run needs, and fork its workers; for a program of ours, before it has a thread. Blocks.

    Does nothing where workers can take no part, where there is little to do, or where a fork is not safe: the run then
    sees to itself. `unfork` must be called when it is over.
    """
    count = cores() if workers is None else workers
    remotes = Remotes(count if count > 1 else 0)
    if remotes.count <= 0 or not all(s.portable for s in stages) or not _is_much(stages[0]):
        return
    for name in (*_MODULES, *_HERE):
        importlib.import_module(name)
    if can_fork():
        # DuckDB takes 65 ms to come up: it does so in a worker while this process goes on.
        sql = any(s.wants_types for s in stages if isinstance(s, Transform))
        remotes.fork(sql=sql)
        _forked.append(remotes)
        if sql:
            from aiopipe.sql.session import lend

            lend(remotes.ask)


def unfork() -> None:
    """End workers that no run has taken, and ask none any more."""
    while _forked:
        _forked.pop().close()
    if session := sys.modules.get("aiopipe.sql.session"):
        session.lend(None)


def begun(stages: tuple[Stage, ...], workers: int | None) -> Remotes:
    """The worker processes of a run: started where there is much to do, as far as a short look tells. Blocks."""
    if _forked:
        return _forked.pop()
    if any(getattr(s, "placement", "") == "process" for s in stages) and _is_much(stages[0]):
        spawning.begin()
        return Remotes(0)
    remotes = Remotes((cores() if workers is None else workers) - 1, _MODULES)
    if remotes.count > 0 and _heavy(stages):
        remotes.start()
    return remotes


def _heavy(stages: tuple[Stage, ...]) -> bool:
    """Whether processes can take part, and the input is large. Of a run that has a ledger nobody knows what is left."""
    home = getattr(stages[-1], "home", None)
    if not all(s.portable for s in stages) or (home is not None and os.path.exists(os.path.join(home, ".aiopipe"))):
        return False
    return _is_much(stages[0])


def _is_much(source: Stage) -> bool:
    """Whether the input of a source is large."""
    weight = 0
    try:
        for file in islice(source.files() or (), _FILES):  # type: ignore[attr-defined]
            weight += max(file.size, 0) + PER_FILE
            if weight >= _WORTH:
                return True
    except Exception:  # the run will say what is wrong
        return False
    return False
