"""Calling users' functions: every exception becomes the fault of one row, and no call is left behind."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any

from aiopipe.errors import FunctionError
from aiopipe.stage import Items
from aiopipe.tuples import NamedTuple
from aiopipe.watch import Abandoned, current_leash, current_watch

__all__ = [
    "CAUGHT",
    "CONCURRENCY",
    "SLICE",
    "Fault",
    "PlainError",
    "call_each",
    "fault_of",
    "item_function",
    "items_made",
]

_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONCURRENCY = 16
# sys.exit() in a function is the fault of one row too: it must not end a program that has others to go.
CAUGHT = (Exception, SystemExit)
SLICE = 256  # rows called together: their results travel on when all of them are there


class Fault(NamedTuple):
    """What went wrong with one row: a reason in one line, advice, and the function's own traceback."""

    reason: str
    hint: str
    trace: str = ""
    kind: str = "function"


class PlainError(Exception):
    """What a stage of ours found wrong with one row, in words that need no traceback."""

    def __init__(self, reason: str, hint: str, kind: str = "function") -> None:
        super().__init__(reason)
        self.fault = Fault(reason, hint, kind=kind)


def fault_of(error: BaseException) -> Fault:
    """An exception of a user's function as a fault: its type, text and the line of the user's code."""
    if isinstance(error, PlainError):
        return error.fault
    # A coroutine's StopIteration arrives inside a RuntimeError that Python made: the cause knows the place.
    places = [e for e in (error, error.__cause__) if e is not None]
    frames = [f for e in places for f in traceback.extract_tb(e.__traceback__)]
    own = [f for f in frames if not f.filename.startswith(_HOME)] or frames
    where = f" ({own[-1].filename.rpartition('/')[2]}:{own[-1].lineno}, in {own[-1].name})" if own else ""
    text = str(error)
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, TimeoutError):
        return Fault(what + where, "raise --timeout, or set such records aside with --rejects FILE", kind="worker")
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return Fault(what + where, "mend the function, or set such records aside with --rejects FILE", trace)


def call_each(function: Callable[[Any], Any], values: Iterable[Any]) -> tuple[list[Any], dict[int, Fault]]:
    """function(value) for each value, in order; None and a fault where it raised."""
    watch = current_watch()
    if watch is not None and watch.busy:
        return _call_watched(function, values, watch)
    results: list[Any] = []
    faults: dict[int, Fault] = {}
    append = results.append
    for lot in _lots(values):
        left = True
        while left:
            try:  # one try for all rows: they pay nothing for it
                for value in lot:
                    append(function(value))
                left = False
            except CAUGHT as error:
                faults[len(results)] = fault_of(error)
                append(None)
    return results, faults


def _lots(values: Iterable[Any]) -> Iterator[Iterator[Any]]:
    """The values in lots of a few milliseconds, between which a run that was given up is left.

    A thread cannot be stopped from outside; it looks for itself, and so seldom that fast functions pay nothing.
    """
    leash, pending, size = current_leash(), iter(values), 1
    for first in pending:
        begun = time.monotonic()
        yield chain((first,), islice(pending, size - 1))
        if leash is not None and leash.is_set():
            raise Abandoned
        size = min(2 * size, 1024) if time.monotonic() - begun < 0.005 else max(1, size // 2)


def _call_watched(
    function: Callable[[Any], Any], values: Iterable[Any], watch: Any
) -> tuple[list[Any], dict[int, Fault]]:
    results: list[Any] = []
    faults: dict[int, Fault] = {}
    base = watch.begin()
    for i, value in enumerate(values):
        if base + i in watch.skip:
            faults[i] = Fault(
                f"the worker process {watch.skip[base + i]}",
                "look at what the function does with this row",
                kind="worker",
            )
            results.append(None)
            continue
        watch.enter(base + i)
        result = None
        try:  # the alarm may ring at any moment in here, even with the result in hand
            result = function(value)
            watch.leave()
        except CAUGHT as error:
            watch.leave()
            faults[i] = fault_of(error)
        results.append(result)
    return results, faults


def item_function(function: Callable[[Any], Any], items: Items, on_error: str) -> Items:
    """function over Python objects; one that raises ends the run, with the object in its message, or is kept."""
    if on_error == "keep":
        return items_made(items, *call_each(function, items.values), on_error)
    results: list[Any] = []
    append = results.append
    try:
        for lot in _lots(items.values):
            for value in lot:
                append(function(value))
    except CAUGHT as error:
        return items_made(items, results, {len(results): fault_of(error)}, on_error)
    return Items(results, items.rejects)


def items_made(items: Items, results: list[Any], faults: dict[int, Fault], on_error: str) -> Items:
    """What became of objects. They have no place in a file: one that failed ends the run, or stays as it was."""
    if faults and on_error != "keep":
        first = min(faults)
        fault, value = faults[first], items.values[first]
        error = FunctionError(f"{fault.reason}, for {_shown(value)}", stage="map", hint=fault.hint)
        if fault.trace:
            error.add_note(fault.trace)
        raise error
    for i in faults:
        results[i] = items.values[i]
    return Items(results, items.rejects, (("kept", len(faults)),) if faults else ())


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
