"""What a run does with each unit: pass over what is done and unchanged, begin it, count it, commit it.

The stages know this object as `context.found.units` (see `aiopipe.stage.Units`). In the order of a unit's life:

    wants      the source asks before it reads a file: False for one that is done and unchanged
    reading    the reader opens it: its signature is taken, and a hash of its bytes begun
    count      records were parsed (called by the accounts)
    complete   the sink has all of its records: its counts and rejects are final
    ready      its outputs are on the disk as temporaries: may they appear? Waits until an old row says "running"
    commit     its outputs are visible, and their names on the disk: the row is written

`wants`, `reading`, `ready` and `commit` block and are called in threads; `count` and `complete` in the loop.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiopipe.errors import ChangedError, OutputError
from aiopipe.job.fingerprint import changes
from aiopipe.job.ledger import Key, Ledger, Operation, Output, Reader, Unit
from aiopipe.job.operations import add_rejects, begin_units, complete_parts, fail_units, finish_units, refresh_unit
from aiopipe.job.ranges import Ranges, size_of
from aiopipe.job.rejects import row_of
from aiopipe.model import FileRef, Position, Reject, directory_of, display_path
from aiopipe.storage.groups import Readings
from aiopipe.storage.ranges import Resumed
from aiopipe.storage.version import Checksum, Version, checksum_of
from aiopipe.storage.write import Made

__all__ = ["Ticket", "Units", "stale"]

RACY = 2_000_000_000  # nanoseconds: a file changed that shortly before it was read may change again unseen


def _later(default: Any) -> Any:
    """A field that no ticket is filled with when it is made: until somebody sets it, the class has it."""
    return field(default=default, init=False)


@dataclass(eq=False, repr=False)
class Ticket:
    """A unit in work; the sink takes it from `complete` to `ready` and `commit`."""

    key: Key
    number: int
    path: str
    redo: bool
    source: bytes
    why: str
    began: float = field(default_factory=time.monotonic)
    read_at: int = _later(0)
    version: Version | None = _later(None)
    checksum: Checksum | None = _later(None)
    xxh128: bytes | None = _later(None)  # instead of a checksum, where somebody else read it
    sequence: int = _later(0)
    taken: int = _later(0)
    given: int = _later(0)
    rejected: int = _later(0)
    resumed: Resumed | None = _later(None)


class Units:
    """The units of one run into a destination.

    run, pipeline: their ids in the ledger. parts: of the pipeline's fingerprint. output_of: the path of the output
    for an input, by its relative path. whole: why the job is one unit
    ("" where each file is). by_ranges: whether large files can be gone on with in their middle. force: nothing is
    passed over. tolerant: records may be set aside. stopping: True once the run was asked to stop.
    """

    def __init__(
        self,
        destination: str,
        ledger: Ledger,
        reader: Reader,
        run: int,
        pipeline: int,
        parts: dict[str, str],
        *,
        output_of: Callable[[str], str] = str,
        whole: str = "",
        by_ranges: bool = False,
        force: bool = False,
        tolerant: bool = False,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.destination = destination
        self._home = os.path.join(destination, "")
        self.run = run
        self.unchanged = 0  # inputs passed over
        self.kept: list[tuple[int, int, int, int]] = []  # of those with rejects: number here, run, number there, count
        self.settle: Callable[[int], None] = lambda number: None  # called before a unit's counts are taken
        self._aside: dict[int, int] = {}  # number -> rejects submitted so far
        self._given_up: set[int] = set()  # numbers of attempts that are lost
        self._ledger = ledger
        self._reader = reader
        self._pipeline = pipeline
        self._parts = parts
        self._output_of = output_of
        self._whole = whole
        self._whole_why: str | None = ""
        self._force = force
        self._tolerant = tolerant
        self._stopping = stopping
        self._open: dict[int, Ticket] = {}
        self._claimed: dict[str, str] = {}
        self._beginning: dict[int, Ticket] = {}  # begun, and not yet in the ledger
        self._guard = threading.Lock()
        self._beside = ("", os.path.join(os.path.abspath(""), ""))  # the directory of the last file, and that from /
        self._known: dict[bytes, Unit] = {}  # of files that come next
        self._expected: set[bytes] = set()
        self._nothing_known = isinstance(reader, Reader) and reader.is_empty()
        ledger.overdue = self._overdue
        self._changes: dict[int, str] = {}
        self.ranges: Ranges | None = None
        if isinstance(reader, Reader):
            self.ranges = Ranges(
                destination,
                ledger,
                reader,
                run,
                pipeline,
                able=by_ranges and not whole,
                tolerant=tolerant,
                rejected=lambda number: self._aside.get(number, 0),
                checksum=lambda number: self._open[number].checksum if number in self._open else None,
                stopping=stopping,
                begun=self._flush,
            )

    def survey(self, files: Iterator[FileRef]) -> None:
        """Where the job is one unit: look at all of its files, and decide for all of them. Blocks."""
        if not self._whole:
            return
        names = set()
        self._whole_why = None
        for file in files:
            names.add(os.fsencode(file.relative))
            self._whole_why = self._judge(file, self._unit(Key.of(file.relative)))
            if self._whole_why is not None:
                return
        for unit in self._reader.units():
            if unit.pipeline == self._pipeline and unit.state == "done" and unit.key.path not in names:
                self._whole_why = f"input {unit.key} is gone"
                return

    def expect(self, files: Sequence[FileRef]) -> None:
        """These files are asked about next: what is on record of them is read in one go. Blocks."""
        if self._nothing_known or not isinstance(self._reader, Reader):
            return
        self._flush(late=False)  # files of an old row that were begun since the last call
        paths = [os.fsencode(file.relative) for file in files]
        self._known, self._expected = self._reader.known(paths), set(paths)

    def _unit(self, key: Key) -> Unit | None:
        """What is on record of a unit."""
        if self._nothing_known:
            return None
        return self._known.get(key.path) if key.path in self._expected else self._reader.unit(key)

    def wants(self, file: FileRef) -> bool:
        """Whether a file is to be read; if so, it is begun. OutputError where two would have one output."""
        key, target = Key.of(file.relative), self._output_of(file.relative)
        other = self._claimed.setdefault(target, file.path)
        if other != file.path:
            raise OutputError(
                f"{display_path(other)} and {display_path(file.path)} would both become {display_path(target)}",
                stage="write",
                hint="read them in two runs, or from a common parent directory",
            )
        unit = None if self._whole and self._whole_why is not None else self._unit(key)
        why = self._whole_why if self._whole else self._judge(file, unit)
        if why is None:
            self._pass_over(file, unit)
            return False
        if not why:
            return False  # asked to stop: nothing was decided
        resumed = self._resumed(file, key)
        if resumed is None and self._stopping():
            return False
        self._begin(file, key, why, resumed)
        return True

    def _resumed(self, file: FileRef, key: Key) -> Resumed | None:
        """Where a file that must be done is gone on with; None where from its beginning."""
        if self.ranges is None:
            return None
        if self._force:
            self.ranges.drop(key)
            return None
        return self.ranges.take_up(file, key)

    def _pass_over(self, file: FileRef, unit: Unit | None) -> None:
        self.unchanged += 1
        if unit is not None and unit.rejected:
            self.kept.append((file.index, unit.run, unit.number, unit.rejected))

    def _begin(self, file: FileRef, key: Key, why: str, resumed: Resumed | None = None) -> None:
        ticket = Ticket(key, file.index, file.path, why != "new", self._absolute(file), why)
        self._open[file.index] = ticket
        if resumed is not None:
            reached = resumed.reached
            ticket.resumed, ticket.taken = resumed, reached.taken
            if reached.rejected:
                self._aside[file.index] = reached.rejected
            ticket.why = f"{why}; it resumed at {size_of(reached.byte)} of {size_of(max(file.size, 0))}"
        with self._guard:
            self._beginning[file.index] = ticket

    def _absolute(self, file: FileRef) -> bytes:
        """The absolute path of a file, b"" for a stream: that of its directory is found once for its neighbours."""
        if file.size < 0:
            return b""
        directory = directory_of(file.path)
        if directory != self._beside[0]:
            self._beside = directory, os.path.join(os.path.abspath(directory), "")
        return os.fsencode(self._beside[1] + file.path[len(directory) :])

    def _flush(self, *, late: bool = True) -> None:
        """Have the rows of units begun so far written soon. late: those of new ones as well, which may wait."""
        with self._guard:
            some = [t for t in self._beginning.values() if late or t.redo]
            if some:
                sequence = self._ledger.submit(self._begun(some))
                for ticket in some:
                    ticket.sequence = sequence
                    del self._beginning[ticket.number]

    def _begun(self, tickets: Sequence[Ticket]) -> Operation:
        run, pipeline = self.run, self._pipeline
        return begin_units([(*t.key, "running", run, t.number, pipeline, t.source, t.why) for t in tickets])

    def _overdue(self) -> Operation | None:
        """The rows of units that are begun and not finished by now: most are, and then one row says all."""
        with self._guard:
            some, self._beginning = list(self._beginning.values()), {}
        return self._begun(some) if some else None

    def reading(self, file: FileRef, status: os.stat_result) -> Checksum:
        """What the bytes of a file that was just opened are to be fed to, in order; behind those that it has counted.

        ChangedError where the file is gone on with, and is not what it was when that was decided.
        """
        if self._beginning:
            self._flush(late=False)  # the files of a group are all known by now: one operation for them together
        checksum = Checksum(quick=True)
        ticket = self._open.get(file.index)
        if ticket is not None:
            if ticket.resumed is not None:
                if ticket.resumed.version != Version.of(status):
                    raise ChangedError(
                        "changed since its beginning was compared with what an earlier run had read",
                        position=Position(file.path),
                        stage="read",
                        hint="run again when nobody writes to it",
                    )
                checksum = ticket.resumed.read
            ticket.read_at = time.time_ns()
            ticket.version, ticket.checksum = Version.of(status), checksum
        return checksum

    def was_read(self, file: FileRef, status: os.stat_result, data: bytes) -> None:
        """A file was opened, and read in one go."""
        self.reading(file, status).update(data)

    def were_read(self, tickets: Sequence[Ticket], readings: Readings) -> None:
        """The files of these units were read where neither of these could be called: how they were."""
        *signatures, hashes, read_at = readings
        for ticket, xxh128, *signature in zip(tickets, hashes, *signatures, strict=True):
            ticket.version, ticket.xxh128, ticket.read_at = Version(*signature), xxh128, read_at

    def again(self, lost: FileRef, file: FileRef) -> None:
        """The attempt to read `lost` is given up: the same file comes once more as `file`."""
        self._flush()  # its row is begun before it is begun again
        ticket = self._open.pop(lost.index)
        self._given_up.add(lost.index)
        if self.ranges is not None:
            self.ranges.give_up(lost.index)
        self._begin(file, ticket.key, "input changed while it was read" if ticket.redo else "new")

    def count(self, number: int, records: int) -> None:
        """Records of the unit with this number were parsed, good or not."""
        ticket = self._open.get(number)
        if ticket is not None:
            ticket.taken += records

    def complete(self, file: FileRef, records: int) -> Ticket:
        """All records of the unit have come: `records` of them go into its outputs."""
        self.settle(file.index)
        if self.ranges is not None:
            self.ranges.over(file.index)
        ticket = self._open.pop(file.index)
        ticket.given = records
        ticket.rejected = self._aside.get(file.index, 0)
        return ticket

    def ready(self, tickets: Sequence[Ticket]) -> None:
        """Return once no row on the disk claims what is about to be replaced."""
        self._flush(late=False)
        self._ledger.wait(max((t.sequence for t in tickets if t.redo), default=0))

    def commit(self, done: Sequence[tuple[Ticket, Sequence[Made]]]) -> None:
        """The outputs of these units are visible: write their rows, soon. OutputError where that failed before."""
        if self.ranges is not None:
            self.ranges.finished(ticket.key for ticket, _ in done)
        with self._guard:
            fresh = {t.key for t, _ in done if self._beginning.pop(t.number, None) is not None and not t.redo}
            self._ledger.submit(finish_units([self._row(ticket, made) for ticket, made in done], fresh))

    def _row(self, t: Ticket, made: Sequence[Made]) -> Unit:
        xxh128 = t.xxh128
        if t.checksum is not None and t.version is not None and t.checksum.count == t.version.size:
            xxh128 = t.checksum.digest()
        outputs = tuple([Output(self._below(m.target), m.version, m.blake3) for m in made])
        state, seconds = "part" if self._whole else "done", time.monotonic() - t.began
        # By position: so many names take four times as long, once for every file.
        return Unit(
            t.key, state, self.run, t.number, self._pipeline, t.source, t.why, t.version, xxh128, t.read_at,
            time.time(), seconds, t.taken, t.given, t.rejected, "", outputs, len(outputs),
        )  # fmt: skip

    def _below(self, target: str) -> bytes:
        """The path of an output below the destination."""
        home = self._home
        below = target[len(home) :] if target.startswith(home) else os.path.relpath(target, self.destination)
        return os.fsencode(below)

    def set_aside(self, number: int, rejects: Sequence[Reject]) -> None:
        """Rejects of the unit with this number, in order; before it is complete."""
        first = self._aside.get(number, 0)
        self._aside[number] = first + len(rejects)
        # Made into rows in the ledger's thread: ten thousand of them would hold up the loop.
        self._ledger.submit(lambda c: add_rejects(self.run, number, -1, first, list(map(row_of, rejects)))(c))

    def rejects(self) -> Generator[dict[str, Any], None, None]:
        """What the rejects file is to hold: of units passed over and of this run, in the order of the input."""
        self._ledger.wait()
        mine = [(number, self.run, number) for number in self._aside if number not in self._given_up]
        for _, run, number in sorted([(n, r, there) for n, r, there, _ in self.kept] + mine):
            yield from self._reader.rejects(run, number)

    @property
    def kept_rejects(self) -> int:
        """Records of what was passed over, files and ranges of them, that were set aside when these were done."""
        return sum(count for *_, count in self.kept) + (self.ranges.rejected if self.ranges is not None else 0)

    def finish(self, files: Iterator[FileRef]) -> None:
        """The run came to its end: a job that is one unit is now done, whatever it did not have to read."""
        self._flush()
        if self._whole and self._whole_why is not None:
            rest = []
            for file in files:
                if self._output_of(file.relative) not in self._claimed:
                    self.wants(file)
                ticket = self._open.pop(file.index, None)
                if ticket is not None:
                    if ticket.version is None:
                        ticket.read_at = time.time_ns()
                        ticket.version = Version.of(os.stat(file.path))
                    ticket.rejected = self._aside.get(file.index, 0)
                    rest.append(self._row(ticket, ()))
            self._flush()
            self._ledger.submit(finish_units(rest))
            self._ledger.submit(complete_parts(self.run))
        self._ledger.wait()

    def fail(self, path: str, message: str) -> None:
        """The run ends because of this file."""
        self._flush()
        keys = [t.key for t in self._open.values() if t.path == path]
        if keys:
            self._ledger.submit(fail_units(keys, message))

    def _judge(self, file: FileRef, unit: Unit | None) -> str | None:
        """Why a unit must be done (again); None where it need not, "" where the run was asked to stop meanwhile.

        unit: what is on record of it.
        """
        if unit is None:
            return "new"
        if self._force:
            return "--force"
        if file.size < 0:
            return "a stream is read anew each time"
        if unit.pipeline != self._pipeline:
            if unit.pipeline not in self._changes:
                found = changes(self._reader.parts(unit.pipeline), self._parts)
                self._changes[unit.pipeline] = f"pipeline changed: {'; '.join(found)}"
            return self._changes[unit.pipeline]
        if unit.rejected and not self._tolerant:
            return "records of it were set aside, and this run has no rejects file"
        why, fresh = stale(unit, file.path, self.destination, self._stopping)
        if why is None and fresh is not None:
            self._refresh(unit, fresh)
        return why

    def _refresh(self, unit: Unit, fresh: Fresh) -> None:
        """Its files have other signatures, and the same bytes."""
        self._ledger.submit(refresh_unit(unit.key, *fresh))


Fresh = tuple[Version, int, tuple[Output, ...]]


def stale(
    unit: Unit, path: str, destination: str, stopping: Callable[[], bool] = lambda: False
) -> tuple[str | None, Fresh | None]:
    """Why the files of a unit make it no longer done, or None; and what has another signature, but the same bytes.

    path: its input. "" where `stopping()` became true before it was known. Blocks, and reads files only where
    their signatures leave a doubt.
    """
    if unit.state != "done":
        return _unfinished(unit), None
    if unit.version is None:
        return "a stream is read anew each time", None
    if unit.made != len(unit.outputs):
        return "an output of it was made anew from another input", None
    try:
        now = Version.of(os.stat(path))
    except OSError as error:
        return f"input cannot be read: {error.strerror}", None
    fresh = None
    if now != unit.version or unit.read_at - now.mtime_ns <= RACY:
        why, fresh = _compared(unit, now, path, stopping)
        if why is not None:
            return why, None
    outputs, other = [], False
    for output in unit.outputs:
        why, same = _output(output, destination, stopping)
        if same is None:
            return why, None
        other = other or same is not output
        outputs.append(same)
    if not other and fresh is None:
        return None, None
    version, read_at = fresh or (unit.version, unit.read_at)
    return None, (version, read_at, tuple(outputs))


def _unfinished(unit: Unit) -> str:
    if unit.state == "failed":
        return f"it failed: {unit.message}"
    return "the run that began it did not finish it"


def _compared(
    unit: Unit, now: Version, path: str, stopping: Callable[[], bool]
) -> tuple[str | None, tuple[Version, int] | None]:
    """The input's bytes compared with those that were read."""
    assert unit.version is not None
    if now.size != unit.version.size:
        return f"input changed: size {unit.version.size} -> {now.size}", None
    if unit.xxh128 is None:
        return "input changed: it has another time stamp, and not all of it was read before", None
    read_at = time.time_ns()
    try:
        found = checksum_of(path, stopping, quick=True)
    except OSError as error:
        return f"input cannot be read: {error.strerror}", None
    if found is None:
        return ("" if stopping() else "input changes"), None
    if found[1] != unit.xxh128:
        return "input changed: other bytes of the same size", None
    return None, (found[0], read_at)


def _output(output: Output, destination: str, stopping: Callable[[], bool]) -> tuple[str, Output | None]:
    """What is wrong with an output, or the output as it is on record now."""
    path = os.path.join(destination, os.fsdecode(output.path))
    shown = display_path(path)
    if output.damaged:
        return f"output damaged: {shown} does not hold what was written", None
    try:
        now = Version.of(os.stat(path))
        if now == output.version:
            return "", output
        if now.size != output.version.size:
            return f"output damaged: {shown}, size {output.version.size} -> {now.size}", None
        found = checksum_of(path, stopping)
    except FileNotFoundError:
        return f"output missing: {shown}", None
    except OSError as error:
        return f"output cannot be read: {shown}: {error.strerror}", None
    if found is None:
        return ("" if stopping() else f"output changes: {shown}"), None
    if found[1] != output.blake3:
        return f"output damaged: {shown} holds other bytes", None
    return "", Output(output.path, found[0], output.blake3)
