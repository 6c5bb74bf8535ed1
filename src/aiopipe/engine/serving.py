"""The worker's side of `remote`: chunks in on standard input, outputs out on standard output, nothing else.

It ends when its input does, so a parent that is killed leaves none behind. Whatever goes wrong here is said in one
word: the parent then does that chunk itself, and its error is the one that is seen.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pickle
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import IO, Any

from aiopipe.memory import keep_freed_memory

__all__ = ["main"]


def main(modules: Sequence[str]) -> None:
    """Import modules, say that all is ready, and serve until the input ends. Does not return."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    gc.disable()  # importing makes no garbage
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get among the answers

    from aiopipe.engine.remote import send

    for name in modules:
        importlib.import_module(name)
    gc.enable()
    gc.freeze()
    send(target, "ready")
    _answer(source, target)


def serve(sql: bool) -> None:
    """The same in a fork, where all is imported and ready. Does not return. sql: with a session of DuckDB."""
    gc.freeze()
    gc.enable()
    if sql:
        from aiopipe.sql.session import session

        with contextlib.suppress(Exception):  # the parent then asks its own
            session()
    _answer(os.fdopen(0, "rb", closefd=False), os.fdopen(1, "wb", closefd=False))


def _answer(source: IO[bytes], target: IO[bytes]) -> None:
    from aiopipe.engine.groups import run_group, undo
    from aiopipe.engine.remote import Question, receive, send
    from aiopipe.engine.stretches import run_stretch
    from aiopipe.storage.groups import Group
    from aiopipe.storage.stretches import Stretch

    nodes: dict[int, Any] = {}
    try:
        while True:
            (number, blob, parcel, size), data = receive(source)
            if blob:
                nodes[number] = pickle.loads(blob)
            whole = isinstance(parcel, Group)
            if whole:
                made = run_group(nodes[number], parcel)
            elif isinstance(parcel, Question):
                made = _tried(_answered, parcel)
            elif isinstance(parcel, Stretch):
                made = _tried(run_stretch, nodes[number], parcel)
            else:
                made = _tried(_made, nodes[number], parcel, size, data)
            try:
                send(target, made)
            except OSError:  # the parent is gone: what it does not know of, it cannot remove
                if whole:
                    undo(made)
                raise
    except (EOFError, OSError):
        pass
    sys.stderr.flush()
    os._exit(0)


def _tried(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function gives, or None: the parent then sees for itself."""
    try:
        return function(*arguments)
    except Exception:
        return None


def _answered(question: Any) -> Any:
    """What the session of this process says."""
    from aiopipe.sql.session import session

    return getattr(session(), question.method)(*question.given)


def _made(node: Any, chunk: Any, size: int, data: bytes) -> Any:
    """What the node makes of the chunk; None where that is not any more in its file."""
    from aiopipe.storage.again import loaded

    whole = replace(chunk, data=data) if chunk.origin is None else loaded(chunk, size)
    return None if whole is None else node.run(whole)
