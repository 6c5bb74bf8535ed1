"""What a person is told when a run fails: each cause once, where, and what to do next."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Iterator

import click

from aiopipe.errors import EXIT_FAILED, AiopipeError

__all__ = ["exit_code_of", "leaves", "show_click", "show_failure"]

_OURS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
_LIBRARY = os.path.join(os.path.dirname(os.path.abspath(os.__file__)), "")
_SHOWN = 10


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group of groups, one by one."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def exit_code_of(error: BaseException) -> int:
    """2 if everything that went wrong is wrong usage, 1 otherwise."""
    codes = {e.exit_code if isinstance(e, AiopipeError) else EXIT_FAILED for e in leaves(error)}
    return codes.pop() if len(codes) == 1 else EXIT_FAILED


def show_failure(error: BaseException, *, debug: bool = False) -> None:
    """Say on standard error what went wrong; with debug=True with every traceback."""
    texts = list(dict.fromkeys(_text(e, debug) for e in leaves(error)))
    for text in texts[:_SHOWN]:
        click.echo(text, err=True)
    if len(texts) > _SHOWN:
        click.echo(f"aiopipe: and {len(texts) - _SHOWN} more", err=True)
    if debug:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)


def show_click(error: click.ClickException) -> None:
    """Click's own complaint, in our form."""
    message = error.format_message().rstrip(".")
    hint = ""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"\n  next: see {error.ctx.command_path} --help"
    click.echo(f"aiopipe: {message}{hint}", err=True)


def _text(error: BaseException, debug: bool) -> str:
    if isinstance(error, AiopipeError):
        notes = getattr(error, "__notes__", [])
        traces = [n for n in notes if n.startswith("Traceback ")]
        lines = [f"aiopipe: {error}", *(n for n in notes if n not in traces)]
        lines += [t.rstrip() if debug else users_frames(t) for t in traces]
        return "\n".join(lines)
    if isinstance(error, MemoryError):
        return "aiopipe: out of memory\n  next: give --memory a smaller size, or fewer --workers"
    trace = "".join(traceback.format_exception(error))
    own = _users_frame(error)
    if own is not None:
        where = f"{os.path.basename(own.filename)}:{own.lineno}, in {own.name}"
        return f"aiopipe: {type(error).__name__}: {error} ({where})\n{trace.rstrip() if debug else users_frames(trace)}"
    version = f"Python {sys.version.split()[0]}, {sys.platform}"
    return f"{trace}aiopipe: this is a bug of aiopipe, not of your data: please report it with the above ({version})"


def _users_frame(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost frame of code that is neither ours nor a library's: a user's own stage or iterable."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = os.path.abspath(frame.filename)
        library = path.startswith((_OURS, _LIBRARY)) or "site-packages" in path or frame.filename.startswith("<")
        if not library:
            return frame
    return None


def users_frames(trace: str) -> str:
    """A traceback without the frames of aiopipe itself and of Python's library."""
    kept, ours = [], False
    for line in trace.rstrip().splitlines():
        match = re.match(r'  File "(.*?)", line', line)
        if match:
            ours = os.path.abspath(match[1]).startswith((_OURS, _LIBRARY)) or match[1].startswith("<frozen importlib")
        elif not line.startswith("    "):
            ours = False
        if not ours:
            kept.append(line)
    return "\n".join(kept)
