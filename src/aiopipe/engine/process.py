"""What runs inside a worker process: one node on one parcel.

Imported by the worker, so it stays light and depends on nothing the parent made.
"""

from __future__ import annotations

import pickle
import signal
from typing import Any

from aiopipe.errors import FunctionError
from aiopipe.memory import keep_freed_memory
from aiopipe.stage import Items
from aiopipe.watch import Watch, watching

__all__ = ["run_in_worker"]

_nodes: dict[bytes, Any] = {}


def run_in_worker(blob: bytes, parcel: Any, timeout: float | None, diary: str | None, skip: dict[int, str]) -> Any:
    """Unpickle the node once, run it on the parcel; see Watch for the others."""
    node = _nodes.get(blob)
    if node is None:
        # The parent decides when to stop: a Ctrl-C at the terminal reaches the workers as well.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        keep_freed_memory()
        node = _nodes[blob] = pickle.loads(blob)
    with watching(Watch(timeout, diary, skip)):
        made, tallies = node.run(parcel)
    if isinstance(made, Items):
        _check(made, node.name)
    return made, tallies


def _check(items: Items, stage: str) -> None:
    """Refuse what cannot travel back: the process would end of it, and nobody would learn why."""
    try:
        pickle.dumps(items)
    except Exception:
        for value in items.values:
            try:
                pickle.dumps(value)
            except Exception as error:
                shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
                raise FunctionError(
                    f"the function gave {shown}, which cannot be sent from one process to another: {error}",
                    stage=stage,
                    hint="give plain data, or say placement='thread'",
                ) from None
        raise
