"""Ctrl-C and SIGTERM: the first one lets the run finish what is in flight, the second cancels it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import click

from aiopipe.errors import EXIT_INTERRUPTED, EXIT_TERMINATED

__all__ = ["Stopper"]

_NAMES = ("SIGINT", "SIGTERM", "SIGBREAK")  # the last is Windows' Ctrl-Break


class Stopper:
    """Counts the signals that ask a run to end.

    first: stop reading, finish and commit what is in flight. second: cancel now. third: leave without waiting
    for a user's function that does not return. code: the exit code of the signal that came first, or None.
    """

    def __init__(self, task: asyncio.Task[Any], stop: asyncio.Event) -> None:
        self.code: int | None = None
        self.count = 0
        self._task = task
        self._stop = stop

    def received(self, number: int) -> None:
        """A signal has come; called in the event loop."""
        self.count += 1
        if self.count == 1:
            self.code = EXIT_TERMINATED if number == signal.SIGTERM else EXIT_INTERRUPTED
            _say(
                "stopping: no more is read, what was begun is finished (once more to cancel it); run it again to go on"
            )
            self._stop.set()
        elif self.count == 2:
            _say("cancelling: outputs that are not complete are removed (once more to leave at once)")
            self._task.cancel()
        else:
            _say("left at once; a temporary file .aiopipe-* may be left behind")
            os._exit(self.code or EXIT_INTERRUPTED)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Receive signals while the block runs, and put the old handlers back afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may; whoever runs us in another one stops us by other means
            return
        loop = asyncio.get_running_loop()
        undo = [_listen(loop, number, self.received) for n in _NAMES if (number := getattr(signal, n, None))]
        try:
            yield
        finally:
            for back in undo:
                back()


def _listen(
    loop: asyncio.AbstractEventLoop, number: signal.Signals, received: Callable[[int], None]
) -> Callable[[], Any]:
    """Install a handler; what takes it away again."""
    before = signal.getsignal(number)
    if before is signal.SIG_IGN:
        return lambda: None  # as under nohup: whoever started us does not want to be interrupted
    try:
        loop.add_signal_handler(number, received, number)
        removing = True
    except NotImplementedError:  # Windows
        signal.signal(number, lambda n, _: loop.call_soon_threadsafe(received, n))
        removing = False

    def undo() -> None:
        if removing:
            loop.remove_signal_handler(number)
        if before is not None:
            signal.signal(number, before)

    return undo


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone with the signal
        click.echo(f"aiopipe: {text}", err=True)
