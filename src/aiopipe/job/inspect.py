"""What a ledger tells people: why a file is or is not up to date, how a job stands, whether outputs are whole.

Everything here blocks, reads only, and may be called while a run is on; `verify` notes what it found damaged if no
run is.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aiopipe.errors import InputError, LockedError, UsageError
from aiopipe.job import inspect_tables as tables
from aiopipe.job.answers import Answer, Verified, last_done
from aiopipe.job.destination import lock_path
from aiopipe.job.fingerprint import changes
from aiopipe.job.inspect_tables import TableStatus, TableVerified, table_of
from aiopipe.job.ledger import Key, Ledger, Reader, Unit, ledger_path, open_ledger
from aiopipe.job.lock import Lock, holder_of
from aiopipe.job.operations import damage_outputs
from aiopipe.job.ranges import held, size_of, still_there
from aiopipe.job.report import counted
from aiopipe.job.units import stale
from aiopipe.model import display_path
from aiopipe.storage.urls import is_url
from aiopipe.storage.version import checksum_of

__all__ = ["Answer", "Status", "TableStatus", "TableVerified", "Verified", "status", "verify", "why"]


def why(path: str, destination: str | None = None) -> Answer:
    """Why an input or output is or is not up to date, in the directory `destination` or the one above an output.

    destination may be the address of a table. InputError where there is no ledger, or it knows nothing of the path.
    """
    if destination is not None and (table := table_of(destination)) is not None:
        return tables.why(path, table)
    if is_url(path):
        raise UsageError(
            f"{path.partition('://')[0]}:// is no file",
            hint=f"name an input: aiopipe why INPUT --in {path.partition('#')[0]}#TABLE",
        )
    home = destination if destination is not None else _home_of(path)
    with contextlib.closing(open_ledger(home)) as ledger:
        unit = _unit_of(ledger, path, home)
        if unit is None:
            if destination is not None and os.path.exists(path):
                return Answer(display_path(path), False, "new: no run into that directory has read it")
            raise InputError(
                f"the ledger of {display_path(home)} knows nothing of {display_path(path)}",
                hint="name an input that a run has read, or an output that it made",
            )
        return _answer(ledger, unit, path, home)


def _answer(ledger: Reader, unit: Unit, path: str, home: str) -> Answer:
    latest = next((r["pipeline"] for r in ledger.runs(20) if r["pipeline"] is not None), unit.pipeline)
    shown = display_path(path)
    last = last_done(unit)
    if unit.state == "running" and (holder := holder_of(lock_path(home))) is not None:
        return Answer(shown, False, f"it is being done now, by process {holder['pid']}", last)
    if unit.state == "done" and unit.pipeline != latest:
        found = changes(ledger.parts(unit.pipeline), ledger.parts(latest))
        return Answer(shown, False, f"pipeline changed: {'; '.join(found)}", last)
    source = os.fsdecode(unit.source) or path
    reason, _ = stale(unit, source, home)
    if reason is not None:
        return Answer(shown, False, reason + _resuming(ledger, unit, latest, source, home), last)
    return Answer(shown, True, "input, pipeline and output are as they were", last)


def _resuming(ledger: Reader, unit: Unit, pipeline: int, source: str, home: str) -> str:
    """Where the next run goes on with a file that was not finished; "" where it begins at its beginning."""
    with contextlib.suppress(OSError):
        found = held(ledger.ranges().get(unit.key.path, []), pipeline, source, home, lambda: False)
        if found is not None:
            return f"; it resumes at {size_of(found.reached.byte)} of {size_of(found.version.size)}"
    return ""


def _home_of(path: str) -> str:
    """The directory with a ledger at or above an output."""
    at = os.path.dirname(os.path.abspath(path))
    while not os.path.exists(ledger_path(at)):
        above = os.path.dirname(at)
        if above == at:
            raise InputError(
                f"no directory above {display_path(path)} has a ledger",
                hint="for an input, say where its output goes: aiopipe why INPUT --in DIR",
            )
        at = above
    return at


def _unit_of(ledger: Reader, path: str, home: str) -> Unit | None:
    """The unit whose input or output this is."""
    real = os.path.abspath(path)
    below = os.path.relpath(real, os.path.abspath(home))
    found = ledger.owner(os.fsencode(below)) or ledger.unit_from(os.fsencode(real))
    return found or (ledger.unit(Key.of(below)) if not os.path.exists(path) else None)


@dataclass(slots=True)
class Status:
    """How a job stands: units by their state, records set aside, who is running.

    done, running, failed: units; of a run that was killed or stopped, those it had begun are "unfinished". ranges: of
    those, and of running ones, the large files of which a part is done: path, how many bytes, and of how many.
    """

    directory: str
    done: int = 0
    running: int = 0
    unfinished: int = 0
    failed: int = 0
    rejected: int = 0
    unneeded: int = 0
    holder: dict[str, Any] | None = None
    last: dict[str, Any] | None = None
    failures: list[tuple[str, str]] = field(default_factory=list)
    ranges: list[tuple[str, int, int]] = field(default_factory=list)

    def as_mapping(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {
            "directory": display_path(self.directory),
            "units": {
                "done": self.done,
                "running": self.running,
                "unfinished": self.unfinished,
                "failed": self.failed,
            },
            "rejected": self.rejected,
            "unneeded_outputs": self.unneeded,
            "running": self.holder,
            "last_run": self.last,
            "failures": [{"path": path, "message": message} for path, message in self.failures],
            "resumable": [{"path": path, "byte": byte, "size": size} for path, byte, size in self.ranges],
        }

    def __str__(self) -> str:
        lines = [
            f"{display_path(self.directory)}: {counted(self.done, 'file')} done, {self.failed:,} failed,"
            f" {self.running:,} running, {self.unfinished:,} unfinished; {counted(self.rejected, 'record')} set aside"
        ]
        lines += [f"failed: {path}: {message}" for path, message in self.failures]
        word = "resumes at" if self.holder is None else "done up to"
        lines += [f"{path}: {word} {size_of(byte)} of {size_of(size)}" for path, byte, size in self.ranges]
        if self.unneeded:
            lines.append(f"{counted(self.unneeded, 'output')} of earlier runs that nothing makes any more (--prune)")
        if self.holder is not None:
            lines.append(f"a run is on: process {self.holder['pid']} on {self.holder['host']}")
        elif self.last is not None:
            lines.append(f"the last run: {self.last['outcome']}")
        return "\n".join(lines)


def status(directory: str) -> Status | TableStatus:
    """How the job that writes into a directory, or a table, stands; InputError where it has no ledger."""
    if (table := table_of(directory)) is not None:
        return tables.status(table)
    found = Status(directory, holder=holder_of(lock_path(directory)))
    with contextlib.closing(open_ledger(directory)) as ledger:
        states = Counter[str]()
        for unit in ledger.units():
            states[unit.state] += 1
            found.rejected += unit.rejected if unit.state == "done" else 0
            if unit.state == "failed":
                found.failures.append((display_path(os.fsdecode(unit.source)), unit.message))
        for some in ledger.ranges().values():
            if last := still_there(some, directory):
                found.ranges.append((display_path(os.fsdecode(last.source)), last.key.stop, last.size))
        for run in ledger.runs():
            outcome = run["outcome"] or ("running" if found.holder is not None else "killed")
            found.last = {"began": run["began"], "ended": run["ended"], "outcome": outcome}
        found.unneeded = len(ledger.unowned())
    begun = states["running"] + states["part"] + states["mending"]
    found.done, found.failed = states["done"], states["failed"]
    found.running, found.unfinished = (begun, 0) if found.holder is not None else (0, begun)
    return found


def verify(directory: str) -> Verified | TableVerified:
    """Hash every output on record and compare; what is damaged is noted, so that the next run makes it anew.

    Of a table rows are counted, and nothing is noted.
    """
    if (table := table_of(directory)) is not None:
        return tables.verify(table)
    found, damaged = Verified(), []
    with contextlib.closing(open_ledger(directory)) as ledger:
        for unit in ledger.units():
            for path, problem in _problems(unit, directory, found) if unit.state == "done" else ():
                damaged.append(path)
                found.problems.append(problem)
    if damaged:
        with contextlib.suppress(LockedError):  # a run is on: it sees to what it can
            _note(directory, damaged)
    return found


def _problems(unit: Unit, directory: str, found: Verified) -> Iterator[tuple[bytes, str]]:
    for output in unit.outputs:
        path = os.path.join(directory, os.fsdecode(output.path))
        found.outputs += 1
        found.nbytes += output.version.size
        try:
            now = checksum_of(path)
        except OSError as error:
            yield output.path, f"{display_path(path)}: {error.strerror}"
            continue
        if now is None:
            yield output.path, f"{display_path(path)}: changes while it is read"
        elif now[0].size != output.version.size:
            yield output.path, f"{display_path(path)}: {now[0].size} bytes, not {output.version.size}"
        elif now[1] != output.blake3:
            yield output.path, f"{display_path(path)}: other bytes (BLAKE3 {now[1].hex()}, not {output.blake3.hex()})"


def _note(directory: str, damaged: list[bytes]) -> None:
    lock = Lock(lock_path(directory), directory)
    try:
        ledger = Ledger(directory)
        ledger.submit(damage_outputs(damaged))
        ledger.close()
    finally:
        lock.close()
