"""Byte ranges of large files as units: what a killed run had done of a file is not done again.

While the output of a large file is written, the sink brings it to the disk now and then, and a range goes into the
ledger: the bytes of the input from the last boundary to this one are done. The run that finds such ranges, of a file
that was not finished, goes on behind the last one that still holds: input and output are, up to there, what they were
(`storage.ranges.holds`), the pipeline is the same, and no stage of it remembers records. Where that is not so, the
temporary is removed and the file is done from its beginning.

In the order of a file's life: `take_up` or `drop` when its unit is begun, `begin` when it is opened, `cut` for each
chunk, `mark` and `keep` at a boundary, `over` when it is finished; the ledger forgets its ranges with the same stroke
that notes the unit as done.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from aiopipe.job.ledger import Key, Ledger, Range, Reader
from aiopipe.job.operations import add_range, adopt_ranges, drop_ranges
from aiopipe.model import FileRef
from aiopipe.plan import Plan
from aiopipe.storage.ranges import Reached, Resumed, holds
from aiopipe.storage.version import Checksum
from aiopipe.storage.write import temporary_of, trouble

__all__ = ["Counts", "Ranges", "by_ranges", "held", "remove", "remove_temporaries", "size_of", "still_there"]


def by_ranges(plan: Plan) -> bool:
    """Whether large files of such a job can be gone on with in their middle: no stage remembers records."""
    return not (plan.inputs or plan.branches) and all(s.stage.per_record for s in plan.steps)


def size_of(nbytes: int) -> str:
    """A number of bytes as people read it.

    >>> size_of(640_000_000), size_of(4096)
    ('640.0 MB', '4.1 kB')
    """
    size, unit = float(nbytes), "bytes"
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.1f} {unit}" if unit != "bytes" else f"{nbytes} bytes"


def still_there(ranges: Sequence[Range], home: str) -> Range | None:
    """The last of a file's ranges whose output is still there, to judge by the temporary's size alone."""
    return next((r for r in reversed(ranges) if _length(temporary_path(r, home)) >= r.reached.length), None)


def held(ranges: Sequence[Range], pipeline: int, path: str, home: str, stopping: Callable[[], bool]) -> Resumed | None:
    """Where a run of this pipeline can go on with the input at `path`, of which these ranges are done; see `holds`."""
    same = [r for r in ranges if r.pipeline == pipeline and r.temporary == ranges[-1].temporary]
    placed = [r.reached._replace(temporary=temporary_path(r, home)) for r in same]
    return holds(placed, path, stopping) if placed else None


def temporary_path(found: Range, home: str) -> str:
    """Where the output of a range is."""
    return os.path.join(home, os.fsdecode(found.temporary))


def _length(path: str) -> int:
    try:
        return os.stat(path, follow_symlinks=False).st_size
    except OSError:
        return -1


def remove_temporaries(ranges: Iterable[Range], home: str) -> None:
    """Remove what holds the output of these ranges. OutputError where that is not possible."""
    remove({temporary_path(r, home) for r in ranges})


def remove(paths: Iterable[str]) -> None:
    """Remove temporaries, as far as they are there. OutputError where that is not possible."""
    for path in paths:
        if temporary_of(os.path.basename(path)) is None:
            continue
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise trouble(path, error) from None


class Counts(Protocol):
    """What knows how many lines and records came before a chunk, and who was set aside; see job.accounts."""

    def before(self, number: int, part: int) -> tuple[int, int] | None:
        """Lines and records of the file with this number before chunk `part`; None while that is not known."""
        ...

    def resume(self, number: int, reached: Reached) -> None:
        """The file is read from there on: so much came before."""
        ...

    def settle(self, number: int, before: int | None = None) -> None:
        """What was set aside of the file, in chunks before this one, goes to the ledger."""
        ...


class Ranges:
    """The ranges of one run; see the module. able: whether this pipeline may be gone on with, see `by_ranges`.

    tolerant: records may be set aside. rejected: how many were, so far, of the unit with a number; checksum: what its
    bytes go through as they are read. begun: writes the rows of units that are begun.
    """

    def __init__(
        self,
        home: str,
        ledger: Ledger,
        reader: Reader,
        run: int,
        pipeline: int,
        *,
        able: bool,
        tolerant: bool,
        rejected: Callable[[int], int],
        checksum: Callable[[int], Checksum | None],
        stopping: Callable[[], bool],
        begun: Callable[[], None] = lambda: None,
    ) -> None:
        self.files = 0  # that were gone on with,
        self.records = 0  # records of theirs that were done before,
        self.rejected = 0  # and those of them that were set aside
        self.counts: Counts | None = None
        self.paused: set[int] = set()  # numbers of files with a range of this run that are not finished
        self._home = home
        self._ledger = ledger
        self._reader = reader
        self._run = run
        self._pipeline = pipeline
        self._able = able
        self._tolerant = tolerant
        self._rejected = rejected
        self._checksum = checksum
        self._stopping = stopping
        self._begun = begun
        self._known: dict[bytes, list[Range]] | None = None
        self._resumed: dict[int, Resumed] = {}
        self._temporaries: dict[bytes, set[str]] = {}  # by a unit's path: those that its ranges name, or named
        self._starts: dict[int, int] = {}  # by number: where the next range begins
        self._cuts: dict[int, dict[int, tuple[int, int, bytes]]] = {}  # by number and part: byte, seen, its hash

    def of(self, key: Key) -> list[Range]:
        """The ranges of a file that was not finished, as the run found them. Blocks."""
        if self._known is None:
            self._known = self._reader.ranges()
        return self._known.get(key.path, [])

    def take_up(self, file: FileRef, key: Key) -> Resumed | None:
        """Go on with a file whose unit is to be done, if that is possible; else what was done of it is removed.

        None as well when the run was asked to stop meanwhile: then nothing was decided. Blocks. OutputError where
        something cannot be removed.
        """
        ranges = self.of(key)
        if not ranges:
            return None
        found = None
        if self._able:
            with contextlib.suppress(OSError):  # of the input: its reader will say it better
                found = self._holding(ranges, file)
        if found is None:
            if not self._stopping():
                self.drop(key)
            return None
        last = next(r for r in ranges if r.key.stop == found.reached.byte)
        self._temporaries[key.path] = {temporary_path(r, self._home) for r in ranges}
        self._ledger.submit(adopt_ranges(last, self._run, file.index))
        self._resumed[file.index] = found
        self._starts[file.index] = found.reached.byte
        self.paused.add(file.index)
        self.files += 1
        self.records += found.reached.taken
        self.rejected += found.reached.rejected
        return found

    def _holding(self, ranges: Sequence[Range], file: FileRef) -> Resumed | None:
        usable = [r for r in ranges if self._tolerant or not r.reached.rejected]
        return None if file.size < 0 else held(usable, self._pipeline, file.path, self._home, self._stopping)

    def drop(self, key: Key) -> None:
        """A file is done from its beginning: what was done of it goes. Blocks."""
        ranges = self.of(key)
        if ranges:
            remove_temporaries(ranges, self._home)  # first: a row may name what is gone, but nothing may lie unnamed
            self._ledger.submit(drop_ranges([key.path]))

    def begin(self, file: FileRef) -> Resumed | None:
        """Where the reader is to begin. In the loop."""
        found = self._resumed.get(file.index)
        if found is not None and self.counts is not None:
            self.counts.resume(file.index, found.reached)
        return found

    def resumed(self, file: FileRef) -> Resumed | None:
        """Where it began."""
        return self._resumed.get(file.index)

    def cut(self, file: FileRef, part: int, byte: int) -> None:
        """Chunk `part` begins at `byte` (-1: nobody knows). In the loop."""
        checksum = self._checksum(file.index) if self._able and byte >= 0 else None
        if checksum is not None:
            self._cuts.setdefault(file.index, {})[part] = (byte, *checksum.noted)

    def mark(self, file: FileRef, part: int) -> Reached | None:
        """How far a file has come when all before chunk `part` is at the sink; see aiopipe.stage.Ranges."""
        number = file.index
        cuts = self._cuts.get(number)
        counted = self.counts.before(number, part) if self.counts is not None and cuts and part in cuts else None
        if cuts is None or counted is None or self.counts is None:
            return None
        byte, seen, xxh128 = cuts[part]
        self._cuts[number] = {p: cut for p, cut in cuts.items() if p >= part}
        self.counts.settle(number, part)
        lines, taken = counted
        return Reached(part, byte, seen, xxh128, lines, taken, self._rejected(number))

    def keep(self, file: FileRef, reached: Reached) -> None:
        """What came of a file up to there is on the disk; when this returns, the ledger says so. Blocks.

        OutputError where the ledger cannot: nobody would know whose the temporary is.
        """
        number, path = file.index, os.fsencode(file.relative)
        known = self._temporaries.setdefault(path, set())
        if number not in self._starts:  # from the beginning: what an attempt before this one did is of no use
            remove(known)
            known.clear()
            self._ledger.submit(drop_ranges([path]))
        known.add(reached.temporary)
        start = self._starts.get(number, 0)
        found = Range(
            Key.of(file.relative, start, reached.byte),
            self._run,
            number,
            self._pipeline,
            os.fsencode(os.path.abspath(file.path)),
            file.size,
            reached,
            os.fsencode(os.path.relpath(reached.temporary, self._home)),
            time.time(),
        )
        self._begun()  # a range without a unit would be nobody's
        self._ledger.wait(self._ledger.submit(add_range(found)))
        self._starts[number] = reached.byte
        self.paused.add(number)

    def finished(self, keys: Iterable[Key]) -> None:
        """These files have their outputs: nothing that was done of them besides is of use. Blocks."""
        for key in keys:
            remove(self._temporaries.pop(key.path, ()))

    def give_up(self, number: int) -> None:
        """The attempt at the file with this number is lost; the file comes again, under another, from its beginning."""
        found = self._resumed.pop(number, None)
        if found is not None:
            self.files -= 1
            self.records -= found.reached.taken
            self.rejected -= found.reached.rejected
        self.over(number)

    def over(self, number: int) -> None:
        """All of a file is at the sink."""
        self.paused.discard(number)
        self._cuts.pop(number, None)
