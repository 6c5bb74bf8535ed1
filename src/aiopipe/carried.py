"""Context variables on their way to a worker process: those that can be found again there, with values that pickle.

A `ContextVar` cannot be pickled, and its name is no address. But one that a module holds under a name is the same
variable wherever this module is imported. Others (held by an object, made in a function) stay behind, and so do
values that cannot be pickled. A worker sets those whose modules it has: nothing is imported for their sake.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import pickle
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["Carried", "carried", "restored"]

Carried = tuple[tuple[tuple[tuple[str, str], ...], bytes], ...]  # modules and names in them, pickled value

_log = logging.getLogger("aiopipe")


def carried() -> Carried:
    """What the current context sends along."""
    values = dict(contextvars.copy_context().items())
    found = []
    for var, addresses in _addresses(values).items():
        try:
            found.append((tuple(addresses), pickle.dumps(values[var])))
        except Exception as error:  # a value's own code may raise anything
            _log.debug("context variable %s stays in this process: %s", addresses[0], error)
    return tuple(found)


def _addresses(wanted: dict[Any, Any]) -> dict[Any, list[tuple[str, str]]]:
    """Under which names modules hold the wanted variables. Ours mean nothing elsewhere."""
    found: dict[Any, list[tuple[str, str]]] = {}
    modules = [(n, m) for n, m in list(sys.modules.items()) if n.partition(".")[0] != "aiopipe"] if wanted else []
    for module_name, module in modules:
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if type(value) is contextvars.ContextVar and value in wanted:  # isinstance would wake lazy objects
                found.setdefault(value, []).append((module_name, name))
    return found


def restored(sent: Sequence[tuple[Sequence[tuple[str, str]], bytes]]) -> contextvars.Context:
    """A context with what was sent; what is not here, or cannot be read here, keeps its default."""
    context = contextvars.copy_context()
    for addresses, pickled in sent:
        held = (getattr(sys.modules.get(module), name, None) for module, name in addresses)
        var = next((v for v in held if isinstance(v, contextvars.ContextVar)), None)
        if var is not None:
            with contextlib.suppress(Exception):
                context.run(var.set, pickle.loads(pickled))
    return context
