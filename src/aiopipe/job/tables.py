"""The ledger of a job whose outputs are rows of a table: it is in the same database, and in the same transactions.

What decides whether a unit is done is that of `job/units.py`; where the rows of the ledger go is all that differs.
A row needs no state "running": until the transaction ends, the database still has the old rows and the old note.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from aiopipe.engine.workers import Workers
from aiopipe.errors import OutputError, UsageError
from aiopipe.job.fingerprint import digest_of, parts_of
from aiopipe.job.incremental import Keeper, one_unit
from aiopipe.job.ledger import Key, Unit
from aiopipe.job.rejects import row_of
from aiopipe.job.units import Ticket, Units
from aiopipe.model import FileRef, Reject, display_path
from aiopipe.plan import Plan
from aiopipe.stage import Sink, Source
from aiopipe.storage.databases.address import unit_name
from aiopipe.storage.databases.opening import open_table
from aiopipe.storage.databases.table import Table
from aiopipe.storage.ranges import Resumed
from aiopipe.storage.settle import settled
from aiopipe.storage.version import Version

__all__ = ["TableKeeper", "TableUnits", "unit_of"]


class _Rows:
    """The ledger in the database, as `job/units.py` reads it."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.parts = table.parts

    def unit(self, key: Key) -> Unit | None:
        """The row of a unit, if it has one."""
        row = self._table.unit(key.path)
        return None if row is None else unit_of(row)

    def units(self) -> Iterator[Unit]:
        """All rows, in bytewise order of their paths."""
        return map(unit_of, self._table.units())


def unit_of(row: Sequence[Any]) -> Unit:
    """A row of the table's ledger as a unit."""
    _, _, path, state, pipeline, source, why, version, xxh128, read_at, done_at, seconds, taken, given, rejected = row
    return Unit(
        Key(bytes(path)),
        state,
        run=0,
        number=0,
        pipeline=pipeline,
        source=bytes(source or b""),
        why=why or "",
        version=Version(*map(int, version.split())) if version else None,
        xxh128=bytes(xxh128) if xxh128 is not None else None,
        read_at=read_at or 0,
        done_at=done_at or 0.0,
        seconds=seconds or 0.0,
        taken=taken or 0,
        given=given or 0,
        rejected=rejected or 0,
    )


def _values(unit: Unit, name: str) -> tuple[Any, ...]:
    """A unit as the table's ledger has it."""
    version = " ".join(map(str, unit.version)) if unit.version is not None else None
    return (
        name,
        unit.key.path,
        unit.state,
        unit.pipeline,
        unit.source,
        unit.why,
        version,
        unit.xxh128,
        unit.read_at,
        unit.done_at,
        unit.seconds,
        unit.taken,
        unit.given,
        unit.rejected,
    )


class TableUnits(Units):
    """The units of one run into a table; see Units. store, replaced, hold: for the sink that writes the rows."""

    def __init__(self, table: Table, pipeline: int, parts: dict[str, str], **options: Any) -> None:
        reader: Any = _Rows(table)
        super().__init__("", _Nowhere(), reader, 0, pipeline, parts, output_of=unit_name, **options)  # type: ignore[arg-type]
        self.table = table
        self._pending: dict[int, list[Reject]] = {}
        self._stored: dict[int, int] = {}
        self._names: dict[int, str] = {}
        self._held: list[Ticket] = []
        self._replaced: list[str] = []

    @property
    def together(self) -> bool:
        """Whether the whole job is one unit, to be committed as one."""
        return bool(self._whole)

    def survey(self, files: Iterator[FileRef]) -> None:
        """Where the job is one unit: decide for all of its files, and what of earlier runs it replaces. Blocks."""
        if not self._whole:
            return
        known = list(files)
        super().survey(iter(known))
        if self._whole_why is None:
            return
        names = {os.fsencode(file.relative) for file in known}
        old = [u for u in self._reader.units() if u.pipeline == self._pipeline or u.key.path in names]
        for unit in old:
            self._refuse_more(unit, self._whole_why)
        self._replaced = [unit_name(os.fsdecode(u.key.path)) for u in old]

    def replaced(self) -> list[str]:
        """The units whose rows go before those of a job that is one unit come."""
        return self._replaced

    def _judge(self, file: FileRef, unit: Unit | None) -> str | None:
        if file.size < 0:
            raise UsageError(
                f"{display_path(file.path)} is a stream: nothing tells whether its records are in the table",
                stage="write",
                hint="read it alone, with --append",
            )
        if unit is not None:
            _refuse_another(unit, file, self.table.address.table)
        why = super()._judge(file, unit)
        if why and unit is not None:
            self._refuse_more(unit, why)
        return why

    def _refuse_more(self, unit: Unit, why: str) -> None:
        """OutputError where rows would have to be replaced that the table does not tell from others."""
        table, filling = self.table, self.table.filling
        if not unit.given or table.owns or filling.on_conflict != "error":
            return
        raise table.unknown_rows(str(unit.key), why)

    def _begin(self, file: FileRef, key: Key, why: str, resumed: Resumed | None = None) -> None:
        self._open[file.index] = Ticket(key, file.index, file.path, why != "new", self._absolute(file), why)
        self._names[file.index] = unit_name(file.relative)

    def _pass_over(self, file: FileRef, unit: Unit | None) -> None:
        super()._pass_over(file, unit)
        self._names[file.index] = unit_name(file.relative)

    def _flush(self, *, late: bool = True) -> None:
        """Nothing: a unit that was begun is not noted."""

    def _refresh(self, unit: Unit, fresh: Any) -> None:
        version, read_at, _ = fresh
        fresh = unit._replace(version=version, read_at=read_at)
        self.table.note([_values(fresh, unit_name(os.fsdecode(unit.key.path)))])

    def set_aside(self, number: int, rejects: Sequence[Reject]) -> None:
        """Rejects of the unit with this number, in order; before it is complete."""
        self._aside[number] = self._aside.get(number, 0) + len(rejects)
        with self._guard:
            self._pending.setdefault(number, []).extend(rejects)

    def store(self, number: int) -> None:
        """Write what was set aside of a unit since the last time, in the transaction of its rows. Blocks."""
        with self._guard:
            some = self._pending.pop(number, [])
        if some:
            first = self._stored.get(number, 0)
            self._stored[number] = first + len(some)
            self.table.add_rejects(self._names[number], first, list(map(row_of, some)))

    def commit(self, done: Sequence[tuple[Ticket, Sequence[Any]]]) -> None:
        """Write the rows of these units, in the transaction that has theirs. Blocks."""
        for ticket, _ in done:
            self.store(ticket.number)
        self.table.note([self._noted(ticket) for ticket, _ in done])

    def hold(self, ticket: Ticket) -> None:
        """A part of a job that is one unit is complete."""
        self._held.append(ticket)

    def _noted(self, ticket: Ticket) -> tuple[Any, ...]:
        unit = self._row(ticket, ())._replace(state="done")
        return _values(unit, self._names[ticket.number])

    def rejects(self) -> Generator[dict[str, Any], None, None]:
        """What the rejects file is to hold, in the order of the input."""
        for number in sorted({*(n for n, *_ in self.kept), *self._aside}):
            yield from self.table.rejects(self._names[number])

    def finish(self, files: Iterator[FileRef]) -> None:
        """The run came to its end: commit a job that is one unit, with what it did not have to read. Blocks."""
        if not self._whole or self._whole_why is None:
            return
        if not self.table.open:
            self.table.begin()
            self.table.forget(self._replaced)
        for file in files:
            if file.index not in self._names:
                self.wants(file)
            ticket = self._open.pop(file.index, None)
            if ticket is not None:
                if ticket.version is None:
                    ticket.read_at = time.time_ns()
                    ticket.version = Version.of(os.stat(file.path))
                ticket.rejected = self._aside.get(file.index, 0)
                self._held.append(ticket)
        for name in set(self._replaced) - set(self._names.values()):
            self.table.forget([name], wholly=True)
        if not self.table.owns:
            for ticket in self._held:
                self.table.claim(os.fsdecode(ticket.key.path))
        self.commit([(ticket, ()) for ticket in self._held])
        self.table.commit()

    def fail(self, path: str, message: str) -> None:
        """Nothing: what the table has of the unit is what it had before."""

    def prune(self) -> int:
        """Delete the rows of units whose input is gone; how many units. Blocks."""
        gone = [u for u in self._reader.units() if u.source and not os.path.lexists(u.source)]
        for unit in gone:
            self._refuse_more(unit, "its input is gone")
        self.table.begin()
        self.table.forget([unit_name(os.fsdecode(u.key.path)) for u in gone], wholly=True)
        self.table.commit()
        return len(gone)


def _refuse_another(unit: Unit, file: FileRef, table: str) -> None:
    """OutputError where rows of another file of the same name would be taken for this one's."""
    here = os.fsencode(os.path.abspath(file.path))
    if unit.source and unit.source != here and os.path.lexists(unit.source):
        raise OutputError(
            f"the rows of {unit.key} in {table} are of {display_path(os.fsdecode(unit.source))}, which is another file"
            f" than {display_path(os.fsdecode(here))}",
            stage="write",
            hint="read both from a common parent directory, or write to two tables",
        )


class _Nowhere:
    """A ledger of its own, which such a job has none of."""

    overdue: object = None


class TableKeeper(Keeper):
    """Opens the table, begins and ends its units; see Keeper."""

    def __init__(self, source: Source, sink: Sink, pools: Workers, **options: bool) -> None:
        super().__init__("", source, sink, pools, **options)
        self._table: Table | None = None

    async def open(self, files: Sequence[str]) -> None:
        """Connect, and make the tables of the ledger where they are missing."""
        sink: Any = self._sink
        self._table = await settled(self._pools.io(open_table, sink.table, sink.filling), lambda t: t.close())
        await settled(self._pools.io(self._table.prepare))

    async def begin(self, plan: Plan) -> None:
        """Take the typed plan's fingerprint, and be what the stages ask about files from now on."""
        table, pools, whole = self._table, self._pools, one_unit(plan)
        assert table is not None
        parts = await pools.hop(parts_of, plan, whole)
        pipeline = await settled(pools.io(table.use, digest_of(parts), parts))
        units = TableUnits(
            table,
            pipeline,
            parts,
            whole=whole,
            force=self._force,
            tolerant=self._tolerant,
            stopping=lambda: pools.stopping,
        )
        await settled(pools.io(units.survey, self._files()))
        self.units = pools.found.units = units

    async def _pruned(self) -> int:
        assert isinstance(self.units, TableUnits)
        return await settled(self._pools.io(self.units.prune))

    async def close(self, outcome: str) -> None:
        """Give up what is not committed, and let go of the database."""
        if self._table is not None:
            await settled(self._pools.io(self._table.close))
