"""How processes for users' functions are started: from a server that has imported everything, or each anew.

Light on purpose: the server is best begun before this process imports what it needs itself.
"""

from __future__ import annotations

from typing import Any

__all__ = ["begin", "context"]

_NEEDED = ["aiopipe.engine.process", "aiopipe.fuse", "aiopipe.codec.encode", "aiopipe.stages.map"]


def context() -> Any:
    """The multiprocessing context of the pools: forkserver where there is one, else spawn; never fork under threads."""
    import multiprocessing  # most runs have no process of this kind, and need not import it

    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    found = multiprocessing.get_context(method)
    if method == "forkserver":
        found.set_forkserver_preload(_NEEDED)
    return found


def begin() -> None:
    """Start the server now, if there is one: it imports what workers need while this process does the same. Blocks."""
    if context().get_start_method() == "forkserver":
        from multiprocessing import forkserver

        forkserver.ensure_running()
