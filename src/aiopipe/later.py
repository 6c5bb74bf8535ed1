"""Modules that run when somebody first looks into them, in a process of ours: what nobody looks into takes no time.

Others' packages import more than a run needs: asyncio takes TLS along, numpy its help texts.
"""

from __future__ import annotations

import sys
from _thread import RLock
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

__all__ = ["AnyType", "later"]

_waiting: set[str] = set()  # modules that nobody has looked into yet


class AnyType:
    """Stands for a type that is only written in annotations, with or without brackets."""

    def __class_getitem__(cls, _of: object) -> type[AnyType]:
        return cls


def later(*names: str, **known: object) -> None:
    """Have modules run when somebody first looks into them, and not when they are imported.

    known: what may be read of them before that is no look. It is replaced by what they make themselves when they run.
    Nothing is done about one that is not there, or that is imported already, or its package. (LazyLoader of the
    standard library will not do: that a package imports one of its modules is a look into it.)
    """
    for name in names:
        package, _, last = name.rpartition(".")
        if name in sys.modules or (package in sys.modules and package not in _waiting):
            continue
        spec = _spec(name)
        if spec is not None and spec.loader is not None:
            sys.modules[name] = module = _looked_into(name, spec)
            vars(module).update(known)
            if package in _waiting:
                vars(sys.modules[package])[last] = module


def _spec(name: str) -> ModuleSpec | None:
    """Where a module is, found without importing its package."""
    package = name.rpartition(".")[0]
    places: Iterable[str] | None = None
    if package:
        outer = _spec(package)
        if outer is None or outer.submodule_search_locations is None:
            return None
        places = outer.submodule_search_locations
    return PathFinder.find_spec(name, places)  # type: ignore[arg-type]


def _looked_into(name: str, spec: ModuleSpec) -> ModuleType:
    """A module that runs at the first look."""
    module, lock, begun = module_from_spec(spec), RLock(), list[bool]()

    def look(attribute: str) -> Any:
        with lock:
            if not begun:
                begun.append(True)
                _waiting.discard(name)
                try:
                    spec.loader.exec_module(module)  # type: ignore[union-attr]
                except BaseException:
                    begun.clear()  # whoever looks next is told as well
                    raise
        inside = vars(module)
        if attribute in inside:
            return inside[attribute]
        if inside.get("__getattr__", look) is not look:  # it has one of its own
            return inside["__getattr__"](attribute)
        raise AttributeError(f"module {name!r} has no attribute {attribute!r}")

    vars(module)["__getattr__"] = look
    _waiting.add(name)
    return module
