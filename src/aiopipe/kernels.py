"""Arrow's compute functions, by the names that `pyarrow.compute` gives them, each made when it is first asked for.

`pyarrow.compute` wraps all of its three hundred when it is imported, and reads their documentation for it: 45 ms, which
every run and every worker process would begin with. Methods of arrays (`.filter()`, `.take()`, `.cast()`) import it
too: what large jobs do with arrays is asked for here. Where the private names are not those of today's pyarrow,
`pyarrow.compute` itself is asked.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["cast", "take"]

_private: Any
try:
    _private = importlib.import_module("pyarrow._compute")
    _OWN = {"CastOptions", "TakeOptions", "call_function", "get_function"} <= set(dir(_private))
except ImportError:
    _OWN = False
# Those that pyarrow.compute writes in Python, not as calls of a kernel.
_WRITTEN = {"fill_null"}


def _whole() -> Any:
    return importlib.import_module("pyarrow.compute")


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    made = globals()[name] = _kernel(name) if _OWN and name not in _WRITTEN else getattr(_whole(), name)
    return made


def _kernel(name: str) -> Callable[..., Any]:
    """A function of its inputs and then its options, as pyarrow.compute's of this name is."""
    try:
        kernel = _private.get_function(name)
        called: str = kernel._doc.options_class
        options: Any = getattr(_private, called) if called else None
        arity = kernel.arity
    except (KeyError, AttributeError):
        found: Callable[..., Any] = getattr(_whole(), name)
        return found

    def plain(*values: Any) -> Any:
        return kernel.call(values, None)

    def optional(*values: Any, **given: Any) -> Any:
        inputs, more = (values, ()) if arity is Ellipsis else (values[:arity], values[arity:])
        return kernel.call(inputs, options(*more, **given) if more or given else None)

    return plain if options is None else optional


def cast(values: Any, kind: Any, *, safe: bool = True) -> Any:
    """The values as another type; ArrowInvalid where one does not fit, if safe."""
    if not _OWN:
        return _whole().cast(values, kind, safe=safe)
    how = _private.CastOptions.safe(kind) if safe else _private.CastOptions.unsafe(kind)
    return _private.call_function("cast", [values], how)


def take(values: Any, places: Any) -> Any:
    """The values at these places, which are looked at: IndexError for one that is none."""
    if not _OWN:
        return _whole().take(values, places)
    return _private.call_function("take", [values, places], _private.TakeOptions(boundscheck=True))
