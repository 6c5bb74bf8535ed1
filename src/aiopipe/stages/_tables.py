"""`write` into a table: the rows of a unit and the ledger's row of it, in one transaction.

One connection, one writer. The unit that is being written stands in the open transaction, behind a savepoint, so
that it can be taken back alone; others that come meanwhile (a stage said ordered=False) wait in a spool. Whenever no
unit is open, what is done is committed.

Where the whole job is one unit, or there is none, everything is one transaction.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from aiopipe.batch import Segment
from aiopipe.errors import UsageError
from aiopipe.model import FileRef, Reject
from aiopipe.stage import Context, Outcome
from aiopipe.storage.databases.address import Address, Filling, unit_name
from aiopipe.storage.databases.rows import Rows
from aiopipe.storage.settle import settled

__all__ = ["to_table"]

Piece = tuple[Rows, int, int]  # rows, and which of them


async def to_table(address: Address, filling: Filling, parcels: AsyncIterator[Rows], context: Context) -> Outcome:
    """Write everything; what is not committed at the end was never there."""
    units: Any = context.found.units
    if units is not None:
        table: Any = units.table
        loader = _Together(table, context) if units.together else _Units(table, context)
        try:
            return await loader.consume(parcels)
        except BaseException:
            await settled(context.io(table.rollback))
            raise
    _refuse_again(address, filling, context)
    from aiopipe.storage.databases.opening import open_table

    table = await settled(context.io(open_table, address, filling), lambda t: t.close())
    try:
        return await _Together(table, context).consume(parcels)
    finally:
        await settled(context.io(table.close))


def _refuse_again(address: Address, filling: Filling, context: Context) -> None:
    """UsageError where a second run would silently add the same rows once more."""
    if context.found.failures.keep_going:
        raise UsageError("keep_going needs a ledger", stage="write", hint="read files, and leave out --no-ledger")
    if not filling.append and filling.on_conflict == "error":
        raise UsageError(
            f"nothing here tells which rows of {address.table} are of which run: a second one would add them again",
            stage="write",
            hint="say --append if that is meant, or --on-conflict ignore (or update) for a table with a key;"
            " files read without branches are kept apart by the ledger",
        )


@dataclass(slots=True, eq=False)
class _Open:
    """A unit that is being written. begun: its first row stands in the transaction. over: nothing more is done."""

    file: FileRef
    came: int = 0
    bad: int = 0
    arrived: int = 0
    total: int = -1
    begun: bool = False
    over: bool = False
    spool: _Spool | None = None

    @property
    def name(self) -> str:
        return unit_name(self.file.relative)

    @property
    def final(self) -> bool:
        """Whether all of it has come."""
        return self.arrived == self.total

    def take(self, segment: Segment, records: int) -> None:
        self.came += records
        self.arrived += not segment.more
        if segment.last:
            self.total = segment.part + 1


class _Spool:
    """Pieces of a unit that must wait: some in memory, the others in a file that has no name."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[Piece] = []
        self._nbytes = 0
        self._file: Any = None

    def add(self, piece: Piece) -> None:
        """Keep a piece; blocks where it goes to the file."""
        if self._file is None and self._nbytes + piece[0].nbytes <= self._limit:
            self._pieces.append(piece)
            self._nbytes += piece[0].nbytes
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        pickle.dump(piece, self._file)

    def pieces(self) -> Iterator[Piece]:
        """All of them, in order; once. Blocks."""
        yield from self._pieces
        if self._file is not None:
            self._file.seek(0)
            while True:
                try:
                    yield pickle.load(self._file)
                except EOFError:
                    break
        self.close()

    def close(self) -> None:
        """Let go of what waits."""
        self._pieces = []
        if self._file is not None:
            self._file.close()
            self._file = None


@dataclass(slots=True)
class _Work:
    """What is to be done in a thread for one parcel: pieces to write, units to end or to take back, in order."""

    steps: list[tuple[str, _Open, Piece | None]] = field(default_factory=list)
    refused: list[Reject] = field(default_factory=list)


class _Units:
    """Each input file is a unit."""

    def __init__(self, table: Any, context: Context) -> None:
        self._table = table
        self._context = context
        self._units: Any = context.found.units
        self._tolerant = context.found.tolerant
        self._open: dict[int, _Open] = {}
        self._current: _Open | None = None
        self._done: list[Any] = []  # tickets of units that stand in the transaction, whole
        self._records = 0  # theirs
        self._outcome = Outcome()

    async def consume(self, parcels: AsyncIterator[Rows]) -> Outcome:
        """All units that come to their end."""
        try:
            async for rows in parcels:
                await self._take(rows)
            self._outcome.unfinished += sum(e.came - e.bad for e in self._open.values())
            await settled(self._context.io(self._table.rollback))
        finally:
            for entry in self._open.values():
                if entry.spool is not None:
                    entry.spool.close()
        return self._outcome

    async def _take(self, rows: Rows) -> None:
        work, ended = _Work(), list[_Open]()
        self._outcome.nbytes += rows.nbytes if len(rows) else 0
        for segment, start, stop in rows.spans():
            index = segment.file.index
            if index in self._context.found.failures:
                self._drop(index, stop - start, work, ended)
                continue
            entry = self._open.setdefault(index, _Open(segment.file))
            entry.take(segment, stop - start)
            if self._current is None:
                self._current = entry
            if entry is self._current:
                work.steps.append(("rows", entry, (rows, start, stop)))
                self._advance(work, ended)
            else:
                await self._wait(entry, (rows, start, stop))
        while work.steps:
            await settled(self._context.io(self._perform, work))
            work = self._aside(work, ended)
        for entry in ended:
            if not entry.over:
                self._done.append(self._units.complete(entry.file, entry.came - entry.bad))
                self._records += entry.came - entry.bad
        if self._current is None and self._done:
            await settled(self._context.io(self._commit, self._done))
            self._outcome.records += self._records
            self._outcome.files += len(self._done)
            self._done, self._records = [], 0

    async def _wait(self, entry: _Open, piece: Piece) -> None:
        if entry.spool is None:
            entry.spool = _Spool(self._context.memory // 16)
        await settled(self._context.io(entry.spool.add, piece))

    def _advance(self, work: _Work, ended: list[_Open]) -> None:
        """End the current unit if all of it has come; then it is the turn of one that waits."""
        while (entry := self._current) is not None and (entry.final or entry.over):
            if not entry.over:
                work.steps.append(("end", entry, None))
                ended.append(entry)
            self._open.pop(entry.file.index, None)
            whole = (e for e in self._open.values() if e.final)
            self._current = next(whole, next(iter(self._open.values()), None))
            if self._current is not None:
                work.steps.append(("spool", self._current, None))

    def _drop(self, index: int, records: int, work: _Work, ended: list[_Open]) -> None:
        """What came of a file that has failed is of no use."""
        self._outcome.unfinished += records
        entry = self._open.get(index)
        if entry is None:
            return
        self._outcome.unfinished += entry.came - entry.bad
        entry.came = entry.bad = 0
        if not entry.over:
            work.steps.append(("drop", entry, None))
        entry.over = True
        if entry is self._current:
            self._advance(work, ended)
        else:
            del self._open[index]

    def _perform(self, work: _Work) -> None:
        """In a thread: do the steps."""
        for what, entry, piece in work.steps:
            if what == "drop":
                if entry.begun:
                    self._table.take_back()
                if entry.spool is not None:
                    entry.spool.close()
            elif entry.over:
                continue
            elif what == "end":
                self._table.keep()
            else:
                pieces = iter([piece]) if piece else entry.spool.pieces() if entry.spool else iter(())
                for one in pieces:
                    if one is not None and not entry.over:
                        self._insert(entry, one, work)

    def _insert(self, entry: _Open, piece: Piece, work: _Work) -> None:
        table = self._table
        rows, start, stop = piece
        if not entry.begun:
            table.begin()
            table.save()
            table.claim(entry.file.relative)
            entry.begun = True
        self._units.store(entry.file.index)
        bad = table.insert(rows, start, stop, entry.name, strict=not self._tolerant)
        work.refused += [rows.refused(row, reason) for row, reason in bad]
        entry.bad += len(bad)
        if bad and not self._tolerant:
            table.take_back()
            entry.over = True

    def _aside(self, work: _Work, ended: list[_Open]) -> _Work:
        """In the loop: tell of the rows that the table would not have; what is still to be done then."""
        if not work.refused:
            return _Work()
        self._context.found.refuse(work.refused)
        if self._tolerant:
            self._outcome.rejected += len(work.refused)
            return _Work()
        failed = {entry.file.index: entry for _, entry, _ in work.steps if entry.over}
        for entry in failed.values():
            self._outcome.unfinished += entry.came
            entry.came = entry.bad = 0
        more = _Work()
        self._advance(more, ended)
        return more

    def _commit(self, tickets: list[Any]) -> None:
        """In a thread: the ledger's rows, and with them everything."""
        self._units.commit([(ticket, ()) for ticket in tickets])
        self._table.commit()


class _Together:
    """Everything is one transaction; with units, it is theirs to commit it when the run has ended."""

    def __init__(self, table: Any, context: Context) -> None:
        self._table = table
        self._context = context
        self._units: Any = context.found.units
        self._tolerant = context.found.tolerant
        self._outcome = Outcome()

    async def consume(self, parcels: AsyncIterator[Rows]) -> Outcome:
        """All rows, or none."""
        outcome, context, cut_off = self._outcome, self._context, False
        open_: dict[int, _Open] = {}
        async for rows in parcels:
            refused = await settled(context.io(self._insert, rows))
            if refused:
                context.found.refuse(refused)
                outcome.rejected += len(refused)
            gone: dict[int, int] = {}
            for reject in refused:
                gone[reject.file.index] = gone.get(reject.file.index, 0) + 1
            for segment, start, stop in rows.spans():
                index = segment.file.index
                entry = open_.setdefault(index, _Open(segment.file))
                entry.take(segment, stop - start - gone.pop(index, 0))
                if entry.final:
                    del open_[index]
                    if self._units is not None:
                        self._units.hold(self._units.complete(entry.file, entry.came))
            outcome.records += len(rows) - len(refused)
            outcome.nbytes += rows.nbytes if len(rows) else 0
            segments = rows.segments
            cut_off = bool(segments) and not (segments[-1].last and not segments[-1].more)
        if context.stopping or context.found.cut or cut_off:  # not all of the input: the table stays as it is
            outcome.records, outcome.unfinished = 0, outcome.records
            await settled(context.io(self._table.rollback))
            return outcome
        outcome.files = 1
        if self._units is None:
            await settled(context.io(self._table.commit))
        return outcome

    def _insert(self, rows: Rows) -> list[Reject]:
        table, refused = self._table, []
        if not table.open:
            table.begin()
            if self._units is not None:
                table.forget(self._units.replaced())
        for segment, start, stop in rows.spans():
            unit = None if self._units is None else unit_name(segment.file.relative)
            bad = table.insert(rows, start, stop, unit, strict=not self._tolerant)
            refused += [rows.refused(row, reason) for row, reason in bad]
            if bad and not self._tolerant:
                break
        return refused
