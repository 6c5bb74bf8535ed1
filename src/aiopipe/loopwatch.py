"""Who holds the event loop: a thread that looks at the loop's stack while the loop does not answer.

Every 5 ms the thread asks the loop for a sign of life (`call_soon_threadsafe`) and waits for it with the
interpreter's lock released. Where the sign is late it notes which lines the loop's thread is at, every 20 ms,
until the loop answers. It notes code objects and line numbers only, which takes microseconds; source text is
read when somebody prints it. Nothing is patched, and nothing runs once `stop` has returned.

A hold is told to a stage by the context variable `IN_HAND`, which the runner sets in every task of a run and
which tasks that users start inherit. A late sign with no code in the loop's stack was spent waiting for a
processor or for the interpreter's lock: it is counted apart, and blamed on nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import os
import sys
import sysconfig
import threading
import time
from asyncio.events import Handle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any

from aiopipe.watch import IN_HAND

__all__ = ["LIMIT", "OTHER", "OUTSIDE", "Hold", "Line", "LoopWatch", "Waits", "place_of"]

LIMIT = 0.05  # seconds: what the loop may be held without being told
OUTSIDE = "outside aiopipe"
OTHER = "another run"
_ASK = 0.005  # seconds between two questions
_LOOK = 0.02  # seconds between two looks at the stack of a loop that does not answer,
_SELDOM = 0.25  # and after the first second
_LONG = 1.0  # a hold that lasts this long is told while it lasts: it may never end
_KINDS = 1000  # lines that are told apart

_log = logging.getLogger("aiopipe.debug")
_HOME = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
_LIBRARY = tuple(os.path.join(p, "") for k, p in sysconfig.get_paths().items() if k in ("stdlib", "platstdlib"))
_LOOP = {"_run_once", "run_forever", "run_until_complete", "_run", "run"}
_RUN = Handle._run.__code__
_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR

Line = tuple[CodeType, int]


@dataclass(slots=True)
class Hold:
    """One line of code that held the loop: how often, how long, with the stack of the longest time.

    seconds, longest: by the clock. cpu: seconds that the loop's thread computed meanwhile, or None where the
    system does not tell; a line that slept or waited has next to none. stack: innermost line first.
    """

    stage: str
    line: Line
    count: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    cpu: float | None = None
    stack: tuple[Line, ...] = ()


@dataclass(slots=True)
class Waits:
    """Times when the loop was late with no code in it: it waited for a processor or the interpreter's lock."""

    count: int = 0
    seconds: float = 0.0
    longest: float = 0.0


@lru_cache(maxsize=4096)
def place_of(path: str) -> str:
    """Whose code a file is: "aiopipe", "python", "library" or "user"."""
    full = os.path.abspath(path)
    if full.startswith(_HOME):
        return "aiopipe"
    if "site-packages" in full or "dist-packages" in full:
        return "library"
    return "python" if path.startswith("<frozen") or full.startswith(_LIBRARY) else "user"


@dataclass(slots=True)
class _Sample:
    stage: str
    line: Line
    stack: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class _Now:
    """The time, and the processor seconds that the loop's thread and the whole program have used."""

    clock: float
    cpu: float | None
    process: float = 0.0

    def computed_since(self, before: _Now) -> bool:
        """Whether the thread had its part in what the program computed; True where the system does not tell.

        The clock says nothing: on a busy machine a thread that computes gets a part of it only.
        """
        if self.cpu is None or before.cpu is None:
            return True
        return self.cpu - before.cpu > (self.process - before.process) / 5


_Look = tuple[_Sample | None, _Now]  # what was seen, and when it was left, about


@dataclass
class LoopWatch:
    """Watches the running loop for one run, from `start` to `stop`; both are called in the loop's thread.

    run: what IN_HAND holds in the run's tasks. names: what the run's tasks are called, and by which stage.
    """

    run: object
    names: dict[str, str] = field(default_factory=dict)
    limit: float = LIMIT
    holds: dict[tuple[str, Line], Hold] = field(default_factory=dict)
    waits: Waits = field(default_factory=Waits)

    def start(self) -> None:
        """Begin; in the loop's thread."""
        self._loop = asyncio.get_running_loop()
        self._ident = threading.get_ident()
        self._clock = _thread_clock(self._ident)
        self._wake, self._over = threading.Event(), threading.Event()
        self._answer: _Now | None = None
        self._thread = threading.Thread(target=self._watch, name="aiopipe-debug", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        self._wake.set()
        self._thread.join()

    def _answering(self) -> None:
        self._answer = self._now()
        self._wake.set()

    def _watch(self) -> None:
        begun = self._now()
        while True:
            if self._now().clock - begun.clock < _LOOK:
                self._over.wait(_ASK)
            looks: list[_Look] = []
            now = self._now()
            if now.clock - begun.clock < _ASK + _LOOK:
                begun = now
            else:  # we could not run either: the loop's thread held the interpreter's lock, or another one did
                looks.append((self._sample() if now.computed_since(begun) else None, now))
            self._wake.clear()
            self._answer = None
            if self._over.is_set():
                return
            try:
                self._loop.call_soon_threadsafe(self._answering)
            except RuntimeError:
                return  # the loop is closed
            answer = self._look(begun, looks)
            if answer is not None:
                if answer.clock - begun.clock >= self.limit:
                    self._note(begun, looks)
                begun = answer

    def _now(self) -> _Now:
        return _Now(time.monotonic(), self._clock(), time.process_time())

    def _look(self, begun: _Now, looks: list[_Look]) -> _Now | None:
        """Note what the loop's thread is at, time after time, until the loop answers; when it did."""
        told = False
        while True:
            self._wake.wait(_SELDOM if told else _LOOK)
            now = self._now()
            if self._answer is not None:
                if looks:
                    looks[-1] = (looks[-1][0], self._answer)
                return self._answer
            if self._over.is_set():
                return None
            sample = self._sample()
            looks.append((sample, now))
            if now.clock - begun.clock >= _LONG and not told:
                told = True
                if sample is not None:
                    _tell(sample.stage, sample.line, "is holding", now.clock - begun.clock)

    def _sample(self) -> _Sample | None:
        frame = sys._current_frames().get(self._ident)
        if frame is None:
            return None
        stack, context = _inner(frame)
        del frame
        line = _blamed(stack)
        if line is None:
            return None
        return _Sample(self._stage(stack, context), line, tuple(stack))

    def _stage(self, stack: Sequence[Line], context: contextvars.Context | None) -> str:
        """The stage whose code this is."""
        task = asyncio.current_task(self._loop)
        get_context = getattr(task, "get_context", None)  # since Python 3.12
        if get_context is not None:
            context = get_context()
        if context is not None:
            in_hand = context.get(IN_HAND)
            if in_hand is not None:
                return in_hand[1] if in_hand[0] is self.run else OTHER
        elif task is not None:  # uvloop on Python 3.11 shows no context: tasks of the run go by their names
            name = task.get_name()
            label = self.names.get(name) or self.names.get(name.partition(" call ")[0])
            if label is not None:
                return label
        ours = any(place_of(code.co_filename) == "aiopipe" for code, _ in stack)
        return "aiopipe" if ours else OUTSIDE

    def _note(self, begun: _Now, looks: Sequence[_Look]) -> None:
        """Share the time among the lines that were seen: in one turn of the loop several may hold it."""
        shares: dict[tuple[str, Line], Hold] = {}
        nobody = 0.0
        for sample, now in looks:
            seconds = now.clock - begun.clock
            if sample is None:
                nobody += seconds
            else:
                share = shares.setdefault((sample.stage, sample.line), Hold(sample.stage, sample.line))
                share.seconds += seconds
                share.stack = sample.stack
                if now.cpu is not None and begun.cpu is not None:
                    share.cpu = (share.cpu or 0.0) + now.cpu - begun.cpu
            begun = now
        if nobody >= self.limit:
            self.waits.count += 1
            self.waits.seconds += nobody
            self.waits.longest = max(self.waits.longest, nobody)
        for share in shares.values():
            if share.seconds >= self.limit:
                self._add(share)

    def _add(self, share: Hold) -> None:
        key = share.stage, share.line
        if key not in self.holds:
            if len(self.holds) >= _KINDS:
                return
            self.holds[key] = Hold(*key)
            _tell(*key, "held", share.seconds)
        hold = self.holds[key]
        hold.count += 1
        hold.seconds += share.seconds
        if share.cpu is not None:
            hold.cpu = (hold.cpu or 0.0) + share.cpu
        if share.seconds > hold.longest:
            hold.longest, hold.stack = share.seconds, share.stack


def _tell(stage: str, line: Line, verb: str, late: float) -> None:
    code, number = line
    _log.warning(
        "%s %s the event loop, %.2f s: %s:%d, in %s", stage, verb, late, code.co_filename, number, code.co_name
    )


def _inner(frame: FrameType) -> tuple[list[Line], contextvars.Context | None]:
    """The lines that the loop has called, innermost first, and the context of its callback where it shows.

    Whoever started the loop stands further out and has nothing to do with what it runs now.
    """
    stack: list[Line] = []
    at: FrameType | None = frame
    while at is not None:
        code = at.f_code
        if code is _RUN:
            return stack, getattr(at.f_locals.get("self"), "_context", None)
        if code.co_name in _LOOP and _is_loop(code.co_filename):
            return stack, None
        stack.append((code, at.f_lineno))
        at = at.f_back
    return stack, None


@lru_cache(maxsize=4096)
def _is_loop(path: str) -> bool:
    return os.path.basename(path) in ("base_events.py", "runners.py") and place_of(path) == "python"


def _blamed(stack: Sequence[Line]) -> Line | None:
    """The line to name: the innermost that is the user's or aiopipe's own, else a library's.

    A coroutine of a library that aiopipe calls is a user's function that happens to be installed.
    """
    places = [place_of(code.co_filename) for code, _ in stack]
    at = next((i for i, place in enumerate(places) if place in ("user", "aiopipe")), None)
    if at is None:
        return stack[places.index("library")] if "library" in places else None
    called = stack[at - 1] if at else None
    if called is not None and places[at] == "aiopipe" and places[at - 1] == "library":
        return called if called[0].co_flags & _ASYNC else stack[at]
    return stack[at]


def _thread_clock(ident: int) -> Callable[[], float | None]:
    """Processor seconds of a thread, read from another one."""
    make: Any = getattr(time, "pthread_getcpuclockid", None)  # not on Windows
    if make is None:
        return lambda: None
    with contextlib.suppress(OSError):
        clock = make(ident)
        return lambda: time.clock_gettime(clock)
    return lambda: None
