"""Modules that run when somebody first looks into them, in a process of ours: what nobody looks into takes no time.

Others' packages import more than a run needs, as numpy its help texts.
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

__all__ = ["later"]


def later(*names: str) -> None:
    """Have modules run when somebody first looks into them, and not when their packages are imported.

    Nothing is done about one that is not there, or whose package is imported already; nor about those that are in no
    package. (LazyLoader of the standard library will not do: that a package imports one of its modules is a look.)
    """
    for name in names:
        package = name.rpartition(".")[0]
        if name in sys.modules or not package or package in sys.modules:
            continue
        spec = _spec(name)
        if spec is not None and spec.loader is not None:
            sys.modules[name] = _looked_into(name, spec)


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
                try:
                    spec.loader.exec_module(module)  # type: ignore[union-attr]
                except BaseException:
                    begun.clear()  # whoever looks next is told as well
                    raise
        if attribute in vars(module):
            return vars(module)[attribute]
        raise AttributeError(f"module {name!r} has no attribute {attribute!r}")

    vars(module)["__getattr__"] = look
    return module
