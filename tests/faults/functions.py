"""Users' functions, good and bad, where worker processes can import them."""

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import threading
import time


def shout(row):
    row["text"] = row["text"].upper()
    return row


def same(row):
    return row


async def ashout(row):
    await asyncio.sleep(0)
    return shout(row)


def picky(row):
    """Refuses some rows."""
    if row["v"] == "3":
        raise ValueError("three")
    return row


async def apicky(row):
    await asyncio.sleep(0)
    return picky(row)


async def twice(rows):
    """Each row, and the ones with an even v once more."""
    async for row in rows:
        yield row
        if row["v"] in ("2", "4"):
            yield dict(row)


def on_three(act):
    def function(row):
        if row["v"] == "3":
            act()
        return row

    return function


def _named(name, act):
    function = on_three(act)
    function.__name__ = function.__qualname__ = name
    globals()[name] = function


def _segfault():
    ctypes.string_at(0)


def _regex():
    re.match(r"(a+)+$", "a" * 60 + "b")


def _swallows():
    while True:
        with contextlib.suppress(Exception):
            time.sleep(60)


_named("exits", lambda: os._exit(9))
_named("kills", lambda: os.kill(os.getpid(), signal.SIGKILL))
_named("segfaults", _segfault)
_named("sleeps", lambda: time.sleep(60))
_named("regex", _regex)
_named("waits", lambda: threading.Event().wait())
_named("swallows", _swallows)


def refuses_three(row):
    """A column more, text in capitals; nothing for the row 3."""
    if row["v"] == "3":
        raise ValueError("three")
    return {**row, "text": row["text"].upper(), "n": int(row["v"]) + 1}


async def arefuses_three(row):
    """The same, in the loop."""
    return refuses_three(row)


def logs_and_dies(log, row):
    """Note each call in a file, and die of 9999."""
    with open(log, "a") as file:
        file.write(row["v"] + "\n")
    if row["v"] == "9999":
        os.kill(os.getpid(), signal.SIGKILL)
    return row


def dies_once(mark, row):
    """Die as the out-of-memory killer has it, as long as the mark is there."""
    if os.path.exists(mark):
        os.unlink(mark)
        os.kill(os.getpid(), signal.SIGKILL)
    return row


def gives_what_does_not_pickle(value):
    return (lambda: value) if "3.csv" in str(value) else str(value)


def shout_text(row):
    return {**row, "text": row["text"].upper()}


async def async_same(row):
    await asyncio.sleep(0)
    return row


async def every_row(rows):
    async for row in rows:
        yield row


def tells_its_process(row):
    """Note who is at work, in the file that the row names, and take a while."""
    with open(row["text"], "a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(0.05)
    return row
