"""Coroutines that nobody awaited, as they are thrown away: which one, called where, in which stage.

Python tells of them through `warnings._warn_unawaited_coroutine`. While somebody listens, a function that first
tells the listeners stands there, and a host's warnings and filters stay as they are. Where a coroutine was
called is known because its origin is tracked, one frame deep, in the thread that listens.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Origin", "listening"]

Origin = tuple[str, str, int]  # the coroutine's qualified name, file and line of the call (or of its definition)
Listener = Callable[[Origin], None]

_NAME = "_warn_unawaited_coroutine"
_lock = threading.Lock()
_listeners: list[Listener] = []  # of the whole process, as the warnings are
_depths: dict[int, list[int]] = {}  # thread: listeners in it, and the depth that was set before
_before: Any = None


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell `listener` of every such coroutine while the block runs; also of those of others in this process."""
    _begin(listener)
    try:
        yield
    finally:
        _end(listener)


def _begin(listener: Listener) -> None:
    global _before
    with _lock:
        if not _listeners:
            _before = getattr(warnings, _NAME, None)
            if _before is not None:
                setattr(warnings, _NAME, _told)
        _listeners.append(listener)
        entry = _depths.setdefault(threading.get_ident(), [0, sys.get_coroutine_origin_tracking_depth()])
        entry[0] += 1
        sys.set_coroutine_origin_tracking_depth(max(1, entry[1]))


def _end(listener: Listener) -> None:
    with _lock:
        _listeners.remove(listener)
        if not _listeners and getattr(warnings, _NAME, None) is _told:
            setattr(warnings, _NAME, _before)
        entry = _depths[threading.get_ident()]
        entry[0] -= 1
        if not entry[0]:
            del _depths[threading.get_ident()]
            sys.set_coroutine_origin_tracking_depth(entry[1])


def _told(coroutine: Any) -> None:
    origin = _origin(coroutine)
    for listener in tuple(_listeners):
        listener(origin)
    entry = _depths.get(threading.get_ident())
    if getattr(_before, "__module__", "") == "warnings" and entry is not None and not entry[1]:
        # As Python's own does it, but for the origin that only we asked for. To call it would make this line the
        # place of every such warning, and filters show one of a place.
        text = f"coroutine '{coroutine.__qualname__}' was never awaited"
        warnings.warn(text, RuntimeWarning, stacklevel=2, source=coroutine)
    elif _before is not None:
        _before(coroutine)


def _origin(coroutine: Any) -> Origin:
    places = getattr(coroutine, "cr_origin", None)
    if places:
        return coroutine.__qualname__, places[0][0], places[0][1]
    code = coroutine.cr_code
    return coroutine.__qualname__, code.co_filename, code.co_firstlineno
