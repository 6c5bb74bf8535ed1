"""What the ledger of a table tells people: the same questions as `job/inspect.py` answers for directories.

The ledger is in the database (`job/tables.py`), and holds what was committed, nothing else: no unit in it failed, none
is running. All of it only reads, in one transaction, and makes no database that is not there.
"""

from __future__ import annotations

import ast
import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiopipe.errors import InputError, UsageError, nearest
from aiopipe.job.answers import Answer, last_done
from aiopipe.job.fingerprint import changes
from aiopipe.job.ledger import Unit
from aiopipe.job.report import counted
from aiopipe.job.tables import unit_of
from aiopipe.job.units import stale
from aiopipe.model import display_path
from aiopipe.storage.databases.address import WRITABLE, Address, Filling, address_of
from aiopipe.storage.databases.opening import open_table
from aiopipe.storage.databases.table import Table
from aiopipe.storage.urls import is_url

__all__ = ["TableStatus", "TableVerified", "status", "table_of", "verify", "why"]


def table_of(destination: str) -> Address | None:
    """The table that a destination names, None for a directory; UsageError for an address without a ledger."""
    if not is_url(destination):
        return None
    scheme = destination.partition("://")[0].lower()
    if scheme not in (*WRITABLE, "postgres"):
        raise UsageError(
            f"{scheme}:// keeps no ledger",
            hint="name a directory, or a table: sqlite:///FILE#TABLE, postgresql://HOST/DATABASE#TABLE",
        )
    try:
        return address_of(destination)
    except UsageError as error:
        error.stage = None  # nothing is being written
        raise


class _Ledger:
    """The notes about one table, and how the pipelines were told to write into it."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.shown = table.address.shown
        rows = table.notes()
        self.units: list[tuple[str, Unit]] = [(row[1], unit_of(row)) for row in rows]
        self._parts: dict[int, dict[str, str]] = {}
        self.latest = max((unit for _, unit in self.units), key=lambda u: u.done_at).pipeline

    @property
    def dropped(self) -> bool:
        """Whether the table itself is gone."""
        return self.table.known is None

    def parts(self, pipeline: int) -> dict[str, str]:
        """What the fingerprint of a pipeline was made of."""
        if pipeline not in self._parts:
            self._parts[pipeline] = self.table.parts(pipeline)
        return self._parts[pipeline]

    def filled(self, pipeline: int, option: str) -> str:
        """An option of `write`, as a pipeline had it."""
        found = next((v for k, v in self.parts(pipeline).items() if k.endswith(f".{option}")), None)
        return str(ast.literal_eval(found) if found is not None else getattr(Filling(), option))

    @property
    def column(self) -> str | None:
        """The table's column that says which unit a row is of, if it has one."""
        name = self.filled(self.latest, "unit_column")
        return name if self.table.has_column(name) else None


@contextlib.contextmanager
def _ledger(address: Address) -> Iterator[_Ledger]:
    """The ledger of a table; InputError where there is none."""
    table = open_table(address, Filling(), reading=True)
    try:
        table.look()
        noted = table.noted()
        if address.table not in noted:
            raise _unknown(table, noted)
        yield _Ledger(table)
    finally:
        table.close()


def _unknown(table: Table, noted: Sequence[str]) -> InputError:
    address = table.address
    others = nearest(address.table, noted) if noted else "a run into it makes one, but with --append"
    if table.known is None:
        return InputError(f"{address.shown}: there is no such table, and no ledger of one", hint=others)
    return InputError(f"{address.shown} has no ledger: no run has written files into that table", hint=others)


def why(path: str, address: Address) -> Answer:
    """Why an input is or is not up to date in a table. InputError where its ledger knows nothing of the path."""
    with _ledger(address) as ledger:
        shown = display_path(path)
        unit = _unit(ledger, path)
        if unit is None:
            if os.path.exists(path):
                return Answer(shown, False, "new: no run into that table has read it")
            raise InputError(
                f"the ledger of {ledger.shown} knows nothing of {shown}", hint="name an input that a run has read"
            )
        last = last_done(unit)
        if ledger.dropped:
            return Answer(shown, False, f"output missing: the table {address.table}", last)
        if unit.pipeline != ledger.latest:
            found = changes(ledger.parts(unit.pipeline), ledger.parts(ledger.latest))
            return Answer(shown, False, f"pipeline changed: {'; '.join(found)}{_refused(ledger, unit)}", last)
        reason, _ = stale(unit, os.fsdecode(unit.source) or path, "")
        if reason is not None:
            return Answer(shown, False, reason + _refused(ledger, unit), last)
        return Answer(shown, True, "input and pipeline are as they were", last)


def _unit(ledger: _Ledger, path: str) -> Unit | None:
    """The unit that was read from a path, or has that name."""
    real = os.fsencode(os.path.abspath(path))
    found = next((u for _, u in ledger.units if u.source == real), None)
    if found is None and not os.path.exists(path):
        found = next((u for name, u in ledger.units if path == name or os.fsencode(path) == u.key.path), None)
    return found


def _refused(ledger: _Ledger, unit: Unit) -> str:
    """That a run will refuse to do it, where it cannot tell the unit's rows from others."""
    if not unit.given or ledger.column is not None or ledger.filled(ledger.latest, "on_conflict") != "error":
        return ""
    column = ledger.filled(ledger.latest, "unit_column")
    return (
        f"; but the table has no column {column!r} that tells which rows are of it, so the run ends with an error"
        " (--unit-column, --on-conflict)"
    )


@dataclass(slots=True)
class TableStatus:
    """What is in a table, as its ledger has it. rows: that its units gave; there: whether the table is."""

    table: str
    done: int = 0
    rows: int = 0
    rejected: int = 0
    there: bool = True

    def as_mapping(self) -> dict[str, Any]:
        """The same as JSON has it; null for what is on record for directories only."""
        return {
            "table": self.table,
            "exists": self.there,
            "units": {"done": self.done, "running": None, "unfinished": None, "failed": None},
            "rows": self.rows,
            "rejected": self.rejected,
        }

    def __str__(self) -> str:
        lines = [
            f"{self.table}: {counted(self.done, 'file')} done, {counted(self.rows, 'row')};"
            f" {counted(self.rejected, 'record')} set aside"
        ]
        if not self.there:
            lines.append("the table is not there any more: the next run writes all files again")
        lines.append("what failed or is running is not on record here: files and their notes are committed together")
        return "\n".join(lines)


def status(address: Address) -> TableStatus:
    """How the job that writes into a table stands; InputError where it has no ledger."""
    with _ledger(address) as ledger:
        found = TableStatus(ledger.shown, there=not ledger.dropped)
        for _, unit in ledger.units:
            found.done += 1
            found.rows += unit.given
            found.rejected += unit.rejected
    return found


@dataclass(slots=True)
class TableVerified:
    """What `verify` counted. problems: a line for each unit that has not as many rows as it gave; notes: what was not
    looked at, and why."""

    table: str
    units: int = 0
    rows: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        seen = f"{counted(self.units, 'file')}, {counted(self.rows, 'row')} counted"
        if self.problems:
            seen += f", {counted(len(self.problems), 'difference')}; --force writes all files again"
        else:
            seen += ", all there" if self.units else ""
        return "\n".join([seen, *self.notes, "values are not on record, and were not compared"])


def verify(address: Address) -> TableVerified:
    """Count the rows of every unit and compare with its note; where rows do not say whose they are, all of them."""
    with _ledger(address) as ledger:
        found = TableVerified(ledger.shown)
        given = sum(unit.given for _, unit in ledger.units)
        if ledger.dropped:
            found.problems.append(f"{ledger.shown}: the table is not there, {counted(given, 'row')} on record")
            return found
        counts = ledger.table.counts(ledger.column)
        found.rows = sum(counts.values())
        loose = [n for n, unit in ledger.units if ledger.filled(unit.pipeline, "on_conflict") != "error"]
        if loose:
            found.notes.append(
                f"{counted(len(loose), 'file')} written with --on-conflict not compared: their rows may be those of"
                " others"
            )
        if ledger.column is None:
            _all_together(ledger, found, given, bool(loose))
        else:
            _one_by_one(ledger, found, counts, set(loose))
    return found


def _all_together(ledger: _Ledger, found: TableVerified, given: int, loose: bool) -> None:
    column = ledger.filled(ledger.latest, "unit_column")
    found.notes.append(f"the table has no column {column!r}: only the number of all rows could be compared")
    if loose:
        return
    found.units = len(ledger.units)
    if found.rows < given:
        found.problems.append(f"{ledger.shown}: {counted(found.rows, 'row')}, not {given:,}")
    elif found.rows > given:
        found.notes.append(f"{counted(found.rows - given, 'row')} more than files gave: of somebody else")


def _one_by_one(ledger: _Ledger, found: TableVerified, counts: dict[str | None, int], loose: set[str]) -> None:
    for name, unit in ledger.units:
        count = counts.pop(name, 0)
        if name in loose:
            continue
        found.units += 1
        if count != unit.given:
            found.problems.append(f"{ledger.shown}: {display_path(name)}: {counted(count, 'row')}, not {unit.given:,}")
    if other := sum(counts.values()):
        found.notes.append(f"{counted(other, 'row')} of no file on record")
