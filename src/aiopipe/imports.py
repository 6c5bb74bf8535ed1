"""What runs import when they first need it: in a thread, so that the caller's loop goes on, or at once on request.

A thread does not help everywhere. Python loads the compiled libraries of numpy, pyarrow and duckdb with the
interpreter's lock held, some tens of milliseconds each. A service that minds calls `preload()` when it starts.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

from aiopipe.joining import in_a_thread

__all__ = ["later", "off_the_loop", "preload"]

T = TypeVar("T")
_THREAD = "aiopipe-import"
_RUN = ("aiopipe.job.run", "aiopipe.storage.read", "aiopipe.storage.streams")
_MORE = (
    "aiopipe.job.ahead",
    "aiopipe.storage.stdout",
    "aiopipe.stages._expressions",
    "aiopipe.stages._tables",
    "aiopipe.stages.collect",
    "aiopipe.codec.items",
    "aiopipe.sql.session",
    "duckdb",
    "aiopipe.job.code",
    "aiopipe.job.debug",
    "tempfile",
    "urllib.parse",
)


def preload() -> None:
    """Import all that a run may need, now: half a second or so, once. For the start of a service."""
    for name in (*_RUN, *_MORE):
        importlib.import_module(name)


def later(name: str) -> None:
    """Have a module of a package run when somebody first looks into it, and not when the package is imported.

    For a process of ours. Does nothing where the package is imported already, or has no such module. (LazyLoader of the
    standard library will not do: that a package imports the module is a look into it.)
    """
    from importlib.machinery import PathFinder
    from importlib.util import find_spec, module_from_spec

    package = name.rpartition(".")[0]
    outer = None if package in sys.modules else find_spec(package)
    spec = None if outer is None else PathFinder.find_spec(name, outer.submodule_search_locations)
    if spec is None or spec.loader is None:
        return
    loader, module = spec.loader, module_from_spec(spec)
    lock, begun = threading.RLock(), list[bool]()

    def look(attribute: str) -> Any:
        with lock:
            if not begun:
                begun.append(True)
                loader.exec_module(module)
        if attribute not in vars(module):
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
        return vars(module)[attribute]

    vars(module)["__getattr__"] = look
    sys.modules[name] = module


async def off_the_loop(first: Callable[[], T], undo: Callable[[T], object]) -> tuple[ModuleType, T]:
    """`aiopipe.job.run`, and what every run needs with it, imported in a thread; before that, there, `first()`.

    What `first` gave is given back as well; a cancelled caller has `undo` take it, in a thread too.
    """
    made: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            made.append(first())
            for name in _RUN:
                importlib.import_module(name)
        except BaseException as error:  # of an import it is raised again where it is imported below
            failed.append(error)

    try:
        await in_a_thread(work, _THREAD)
    except asyncio.CancelledError:
        if made:
            await in_a_thread(lambda: undo(made[0]), _THREAD)
        raise
    if not made:
        raise failed[0]
    return importlib.import_module(_RUN[0]), made[0]
