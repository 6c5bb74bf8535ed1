"""Running totals on standard error: a line that moves on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from aiopipe.stage import every_stage

if TYPE_CHECKING:
    from aiopipe.job.report import Report
    from aiopipe.stage import Pipeline

__all__ = ["progress_shown", "summary"]

_EVERY = 5.0  # seconds between lines where there is no terminal
Show = Callable[["Report"], None]


def summary(report: Report, seconds: float) -> str:
    """The totals so far on one line of at most 80 columns."""
    text = f"{report.read:,} records"
    if report.rejected:
        text += f", {report.rejected:,} set aside"
    rate = report.read / seconds if seconds > 0 else 0.0
    return f"{text}, {seconds:.0f} s, {rate:,.0f} records/s"


@contextlib.contextmanager
def progress_shown(pipeline: Pipeline, wanted: bool | None) -> Iterator[Show | None]:
    """A function that shows totals while the block runs, or None when nobody wants to see them.

    wanted: True, False, or None for "where standard error is a terminal and the data does not go to the same".
    """
    terminal = _is_terminal(sys.stderr)
    to_stdout = any(getattr(stage, "to", None) == "-" for stage in every_stage(pipeline.stages))
    if wanted is False or (wanted is None and (not terminal or (to_stdout and _is_terminal(sys.stdout)))):
        yield None
        return
    begun = time.monotonic()

    def text(report: Report) -> str:
        return summary(report, time.monotonic() - begun)

    with _moving(text) if terminal else _lines(text) as show:
        yield show


@contextlib.contextmanager
def _moving(text: Callable[[Report], str]) -> Iterator[Show]:
    from rich.console import Console
    from rich.status import Status

    # The spinner turns in rich's own thread; we only change its text.
    with Status("starting", console=Console(stderr=True)) as status:
        yield lambda report: status.update(text(report))


@contextlib.contextmanager
def _lines(text: Callable[[Report], str]) -> Iterator[Show]:
    last = time.monotonic()

    def show(report: Report) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _EVERY:
            last = now
            click.echo(f"aiopipe: {text(report)}", err=True)

    yield show


def _is_terminal(stream: object) -> bool:
    isatty = getattr(stream, "isatty", None)
    try:
        return bool(isatty and isatty())
    except ValueError:  # closed
        return False
