"""What runs inside a worker process: one node on one parcel.

Imported by the worker, so it stays light and depends on nothing the parent made.
"""

from __future__ import annotations

import contextvars
import pickle
import signal
from typing import Any

from aiopipe.carried import restored
from aiopipe.errors import WorkerError
from aiopipe.memory import keep_freed_memory
from aiopipe.stage import Items
from aiopipe.watch import Watch, watching

__all__ = ["run_in_worker"]

_nodes: dict[bytes, tuple[Any, contextvars.Context]] = {}


def run_in_worker(
    blob: bytes, parcel: Any, size: int, timeout: float | None, diary: str | None, skip: dict[int, str]
) -> Any:
    """Unpickle the node once, with its context variables, and run it on the parcel; see Watch for the others.

    size: of the chunk that is to be read here, -1 for a parcel that is all there. None where it cannot be read.
    """
    if size >= 0:
        parcel = _read_again(parcel, size)
        if parcel is None:
            return None
    if blob not in _nodes:
        # The parent decides when to stop: a Ctrl-C at the terminal reaches the workers as well.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        keep_freed_memory()
        node, sent = pickle.loads(blob)
        _nodes[blob] = node, restored(sent)
    node, context = _nodes[blob]

    def run() -> Any:
        with watching(Watch(timeout, diary, skip)):
            return node.run(parcel)

    made, tallies = context.copy().run(run)
    if isinstance(made, Items):
        _check(made, node.name)
    return made, tallies


def _read_again(chunk: Any, size: int) -> Any:
    from aiopipe.storage.again import loaded

    try:
        return loaded(chunk, size)
    except OSError:
        return None


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
                raise WorkerError(
                    f"the function gave {shown}, which cannot be sent from one process to another: {error}",
                    stage=stage,
                    hint="give plain data, or say placement='thread'",
                ) from None
        raise
