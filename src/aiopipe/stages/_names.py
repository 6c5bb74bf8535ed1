"""Functions and modules by their names: `package.module:function`, `path/to/file.py:function`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from aiopipe.errors import UsageError
from aiopipe.stages._calls import fault_of

__all__ = ["function_name", "load_function", "load_module"]


def load_function(name: str) -> Callable[..., Any]:
    """The function behind `package.module:function` or `path/to/file.py:function`.

    The working directory counts as a place for modules. UsageError where there is no such function.
    """
    module_name, colon, attribute = name.rpartition(":")
    if not colon or not module_name or not attribute:
        raise UsageError(f"{name!r} names no function", stage="map", hint="write module:function or file.py:function")
    module = load_module(module_name, "map")
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
        if found is None:
            from aiopipe.errors import nearest

            functions = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
            raise UsageError(
                f"no function {attribute!r} in {module_name}", stage="map", hint=nearest(attribute, functions)
            )
    if not callable(found):
        raise UsageError(f"{name} is no function", stage="map", hint="name something that can be called")
    result: Callable[..., Any] = found
    return result


def function_name(function: Any) -> str:
    """What `load_function` finds the function by; UsageError for one that no module holds under its name."""
    if isinstance(function, str):
        return function
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    found: Any = sys.modules.get(module or "")
    for part in (name or "").split("."):
        found = getattr(found, part, None)
    if found is not function or module == "__main__":
        raise UsageError(
            f"{function!r} has no name that another program could import it by",
            stage="map",
            hint="define it at the top of a module",
        )
    return f"{module}:{name}"


def _make_way(name: str, path: Any) -> None:
    """Have `import name` give the file at `path`, and not another one of the same name that a pipeline used before."""
    directory = str(path.parent)
    loaded = sys.modules.get(name)
    other = loaded is not None and getattr(loaded, _LOADED, str(path)) != str(path)
    if other:
        del sys.modules[name]
        importlib.invalidate_caches()
    if other or directory not in sys.path:
        sys.path.insert(0, directory)


_LOADED = "__aiopipe_file__"  # what a module that was loaded as a file has: its path


def load_module(name: str, stage: str) -> Any:
    """The module `package.module` or `path/to/file.py`; UsageError, said to be `stage`'s, where it cannot be imported.

    An exception of the module's own code becomes one as well, with its traceback as a note.
    """
    from pathlib import Path

    path = None
    if name.endswith(".py"):
        path = Path(name).resolve()
        if not path.is_file():
            raise UsageError(f"no file {name}", stage=stage, hint="check the path of the module")
        # Under its own name and with its directory on the path, so that a worker process finds it again.
        name = path.stem
        _make_way(name, path)
    elif "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(name)
        if path is not None:
            module.__dict__.setdefault(_LOADED, str(path))
        return module
    except ImportError as error:
        raise UsageError(f"cannot import {name}: {error}", stage=stage, hint="check the name and PYTHONPATH") from error
    except UsageError:
        raise  # from @stage: it says what to do
    except Exception as error:
        fault = fault_of(error)
        refused = UsageError(f"importing {name} raised {fault.reason}", stage=stage, hint="mend the module")
        refused.add_note(fault.trace)
        raise refused from error
