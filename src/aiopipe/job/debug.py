"""What `--debug` finds: lines that held the event loop, and coroutines that nobody awaited, by stage."""

from __future__ import annotations

import linecache
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from aiopipe.fuse import Node
from aiopipe.loopwatch import LIMIT, OUTSIDE, Hold, Line, LoopWatch
from aiopipe.unawaited import Origin, listening
from aiopipe.watch import IN_HAND

__all__ = ["Debug", "DebugReport", "HoldReport", "UnawaitedReport"]

_log = logging.getLogger("aiopipe.debug")
_SHOWN = 10  # lines of each table
_STACK = 30  # lines of a stack


@dataclass(frozen=True, slots=True)
class HoldReport:
    """A line that held the loop longer than the limit.

    stage: whose code it is, "aiopipe" for our own before and after the stages, "outside aiopipe" for the program
    around the run, "another run" for one in the same loop. code: the line's text. times, seconds, longest: how
    often, in all and at most. cpu: seconds that the loop's thread computed in it, None where the system does not
    tell: next to none for a line that slept or waited. stack: of the longest time, innermost first.
    """

    stage: str
    file: str
    line: int
    function: str
    code: str
    times: int
    seconds: float
    longest: float
    cpu: float | None
    stack: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnawaitedReport:
    """A coroutine that was called and never awaited: its name, the line that called it, how often."""

    stage: str
    coroutine: str
    file: str
    line: int
    code: str
    times: int


@dataclass(frozen=True, slots=True)
class DebugReport:
    """What a run with debug=True found.

    limit: seconds from which on a hold is told. late: how often the loop was late with no code in it (it waited
    for a processor or for the interpreter's lock), the seconds in all, and the longest.
    """

    limit: float
    holds: tuple[HoldReport, ...] = ()
    unawaited: tuple[UnawaitedReport, ...] = ()
    late: tuple[int, float, float] = (0, 0.0, 0.0)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        limit = f"{1000 * self.limit:.0f} ms"
        if self.holds:
            yield f"debug: the event loop was held longer than {limit} by"
            yield from _table(("stage", "times", "longest", "in all", "computing", "line"), map(_hold_row, self.holds))
            for hold in self.holds[:3]:
                yield f"stack of the longest, {_at(hold.file, hold.line)}:"
                yield from (f"    {line}" for line in hold.stack)
        else:
            yield f"debug: nothing held the event loop longer than {limit}"
        if self.unawaited:
            yield "debug: never awaited"
            rows = [(u.stage, str(u.times), f"{_at(u.file, u.line)}: {u.code or u.coroutine}") for u in self.unawaited]
            yield from _table(("stage", "times", "line"), rows)
        if self.late[0]:
            count, seconds, longest = self.late
            yield (
                f"debug: {count} times the loop waited for a processor or the interpreter's lock,"
                f" {seconds:.2f} s in all, at most {longest:.2f} s"
            )


class Debug:
    """Finds these things while a run lasts; `report` when it has ended."""

    def __init__(self, run: object) -> None:
        self._run = run
        self._watch = LoopWatch(run)
        self._unawaited: dict[tuple[str, Origin], int] = {}
        self._lock = threading.Lock()  # coroutines are thrown away in any thread

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look while the block runs; in the loop's thread."""
        with listening(self._thrown_away):
            self._watch.start()
            try:
                yield
            finally:
                self._watch.stop()

    def know(self, nodes: Sequence[Node]) -> None:
        """What the run's tasks are called."""
        for node in nodes:
            self._watch.names[node.name] = node.label
            if node.shape == "flow":
                self._watch.names.setdefault(type(node.steps[0].stage).word, node.label)

    def tell(self) -> None:
        """Log what was found, if anything was: of a run that failed."""
        report = self.report()
        if report.holds or report.unawaited:
            _log.warning("%s", report)

    def _thrown_away(self, origin: Origin) -> None:
        in_hand = IN_HAND.get()
        stage = in_hand[1] if in_hand is not None and in_hand[0] is self._run else OUTSIDE
        with self._lock:
            self._unawaited[stage, origin] = self._unawaited.get((stage, origin), 0) + 1

    def report(self) -> DebugReport:
        """What was found; reads the source lines of what it names."""
        holds = sorted(self._watch.holds.values(), key=lambda h: -h.seconds)
        waits = self._watch.waits
        unawaited = sorted(self._unawaited.items(), key=lambda found: -found[1])
        return DebugReport(
            LIMIT,
            tuple(map(_hold, holds)),
            tuple(
                UnawaitedReport(stage, name, file, line, linecache.getline(file, line).strip(), times)
                for (stage, (name, file, line)), times in unawaited
            ),
            (waits.count, waits.seconds, waits.longest),
        )


def _hold(hold: Hold) -> HoldReport:
    code, number = hold.line
    text = linecache.getline(code.co_filename, number).strip()
    stack = tuple(map(_shown, hold.stack[:_STACK]))
    file = code.co_filename
    return HoldReport(
        hold.stage, file, number, code.co_name, text, hold.count, hold.seconds, hold.longest, hold.cpu, stack
    )


def _shown(line: Line) -> str:
    code, number = line
    text = linecache.getline(code.co_filename, number).strip()
    return f"{_at(code.co_filename, number)}, in {code.co_name}" + (f": {text}" if text else "")


def _at(file: str, line: int) -> str:
    """The place, from the working directory on where the file lies below it."""
    here = os.path.join(os.getcwd(), "")
    return f"{file.removeprefix(here)}:{line}"


def _hold_row(hold: HoldReport) -> tuple[str, ...]:
    cpu = "" if hold.cpu is None else f"{hold.cpu:.2f} s"
    where = f"{_at(hold.file, hold.line)}, in {hold.function}" + (f": {hold.code}" if hold.code else "")
    return hold.stage, f"{hold.times:,}", f"{hold.longest:.2f} s", f"{hold.seconds:.2f} s", cpu, where


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> Iterator[str]:
    every = list(rows)
    shown = [head, *every[:_SHOWN]]
    widths = [max(len(row[k]) for row in shown) for k in range(len(head) - 1)]
    for row in shown:
        first, *cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=False))
        yield "  " + "  ".join((first.strip().ljust(widths[0]), *cells, row[-1]))
    if len(every) > _SHOWN:
        yield f"  and {len(every) - _SHOWN} more"
