"""An eye on the record in hand: names the one that never came back, interrupts the one that takes too long."""

from __future__ import annotations

import contextlib
import contextvars
import mmap
import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

__all__ = ["IN_HAND", "KILLED", "Abandoned", "Watch", "current_leash", "current_watch", "leashed", "watching"]

T = TypeVar("T")
# The run (any object) and the stage whose code runs here: set in every task of a run.
IN_HAND: contextvars.ContextVar[tuple[object, str] | None] = contextvars.ContextVar("aiopipe_in_hand", default=None)
KILLED = 77  # the exit code of a worker that ended itself because a record never came back


class Watch:
    """Knows which record is being worked on, and since when.

    timeout: seconds a record may take. A record that takes longer is interrupted by a signal where the
    system has them; code that does not let itself be interrupted takes the worker with it. diary: a file that
    always holds the number of the record in hand, so that the parent can name it after the worker has died.
    skip: records known to kill their worker, with what happened.
    """

    def __init__(self, timeout: float | None, diary: str | None, skip: dict[int, str]) -> None:
        self.timeout = timeout
        self.skip = skip
        self.row = -1
        self.since = 0.0
        self.warned = False  # the record in hand has been told that its time is up
        self._calls = -1
        self._done = threading.Event()
        self._map: mmap.mmap | None = None
        if diary is not None:
            with open(diary, "r+b") as file:
                self._map = mmap.mmap(file.fileno(), 8)

    def begin(self) -> int:
        """A stage begins with its rows: the number to add to each of them, so that two stages never mix."""
        self._calls += 1
        return self._calls << 32

    def enter(self, row: int) -> None:
        """Record `row` is now in hand."""
        if self._map is not None:
            struct.pack_into("<q", self._map, 0, row)
        if self.timeout is not None:
            self.since = time.monotonic()
            self.warned = False
        self.row = row

    def leave(self) -> None:
        """No record is in hand any more."""
        self.row = -1
        if self._map is not None:
            struct.pack_into("<q", self._map, 0, -1)

    @property
    def busy(self) -> bool:
        """Whether rows must be announced one by one."""
        return self.timeout is not None or self._map is not None or bool(self.skip)

    @contextlib.contextmanager
    def guarding(self) -> Iterator[None]:
        """Interrupt records that take too long while the block runs."""
        if self.timeout is None:
            yield
            return
        timeout, main = self.timeout, threading.current_thread() is threading.main_thread()
        alarm = getattr(signal, "SIGALRM", None) if main else None

        def over(*_: object) -> None:
            if self.row >= 0 and not self.warned and time.monotonic() - self.since >= timeout:
                self.warned = True  # once: a second one would hit whoever deals with the first
                raise TimeoutError(f"no answer within {timeout:g} s")

        def bite() -> None:
            patience = timeout * (2 if alarm is not None else 1) + 0.5
            while not self._done.wait(min(timeout / 4, 0.25)):
                if self.row >= 0 and time.monotonic() - self.since > patience:
                    os._exit(KILLED)

        if alarm is not None:
            signal.signal(alarm, over)
            signal.setitimer(signal.ITIMER_REAL, timeout / 4, timeout / 4)
        threading.Thread(target=bite, daemon=True, name="aiopipe-watch").start()
        try:
            yield
        finally:
            self._done.set()
            self.row = -1
            if alarm is not None:
                signal.setitimer(signal.ITIMER_REAL, 0)


_watch: contextvars.ContextVar[Watch | None] = contextvars.ContextVar("aiopipe_watch", default=None)


def current_watch() -> Watch | None:
    """The watch over the parcel in hand, for whoever calls a user's function."""
    return _watch.get()


@contextlib.contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Make `watch` the current one while the block runs, and let it guard the block."""
    token = _watch.set(watch)
    try:
        with watch.guarding():
            yield
    finally:
        _watch.reset(token)


class Abandoned(BaseException):
    """The run was given up while a thread worked for it: nobody waits for what it does.

    Raised between rows, and no Exception: no row is blamed for it.
    """


_leash: contextvars.ContextVar[threading.Event | None] = contextvars.ContextVar("aiopipe_leash", default=None)


def current_leash() -> threading.Event | None:
    """The event that is set once nobody waits for this thread's work any more."""
    return _leash.get()


def leashed(leash: threading.Event, function: Callable[..., T], *arguments: Any) -> T:
    """function(*arguments), with `leash` as the current one."""
    token = _leash.set(leash)
    try:
        return function(*arguments)
    finally:
        _leash.reset(token)
