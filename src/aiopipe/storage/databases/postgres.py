"""A table of a PostgreSQL database, through psycopg 3: rows go in with COPY."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from aiopipe import kernels as pc
from aiopipe.errors import AiopipeError, LockedError, UsageError
from aiopipe.storage.databases.address import Address, Filling
from aiopipe.storage.databases.rows import Rows
from aiopipe.storage.databases.table import Table, alone, cannot

__all__ = ["PostgresTable"]

_PATIENCE = 10  # seconds that another program may hold a lock
_ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"))
_SMALL = 500  # rows that are tried together once one of a parcel was refused


class PostgresTable(Table):
    """Rows are copied behind a savepoint; of those that the table refuses, COPY names the line, else halves do."""

    mark = "%s"
    bytes_type = "BYTEA"

    looks = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"

    def __init__(self, address: Address, filling: Filling, *, reading: bool = False) -> None:
        super().__init__(address, filling, reading=reading)
        try:
            import psycopg
        except ImportError:
            raise UsageError("psycopg is not installed", hint="pip install 'aiopipe-csv[postgres]'") from None
        self.Error = psycopg.Error
        self._psycopg = psycopg
        try:
            self._connection = psycopg.connect(address.database, autocommit=True, connect_timeout=_PATIENCE)
        except psycopg.Error as error:
            raise self.trouble(error) from error
        try:
            self.execute(f"SET lock_timeout = '{_PATIENCE}s'")
            self.execute("SET client_min_messages = warning")
            self.known = self.columns()
        except psycopg.Error as error:
            self._connection.close()
            raise self.trouble(error) from error

    def quote(self, name: str) -> str:
        """A name as SQL has it, in a statement with parameters."""
        return super().quote(name).replace("%", "%%")

    def execute(self, text: str, given: Sequence[Any] = ()) -> Any:
        """Execute a statement."""
        cursor = self._connection.execute(text, tuple(given))
        return cursor if cursor.description is None else cursor.fetchall()

    @alone
    def begin(self) -> None:
        """Begin; one at a time makes a table that is not there."""
        super().begin()
        if self.known is None:
            self._once()
            self.known = self.columns()

    @alone
    def prepare(self) -> None:
        """CREATE TABLE IF NOT EXISTS fails where two do it at once."""
        super().begin()
        self._once()
        super().prepare()
        self.commit()

    def _once(self) -> None:
        self.execute("SELECT pg_advisory_xact_lock(hashtext('aiopipe'))")

    def columns(self) -> dict[str, str] | None:
        """Columns but generated ones."""
        rows = self.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = to_regclass(%s)"
            " AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity <> 'a' ORDER BY attnum",
            (self.name.replace("%%", "%"),),
        )
        return dict(rows) if rows else None

    def has(self, name: str) -> bool:
        """See Table.has."""
        return self.execute("SELECT to_regclass(%s)", (name,))[0][0] is not None

    def keys(self) -> list[tuple[str, ...]]:
        """The primary key, then unique indices that hold for all rows and on columns."""
        rows = self.execute(
            "SELECT (SELECT array_agg(a.attname ORDER BY k.n) FROM unnest(i.indkey::int[]) WITH ORDINALITY AS k(c, n)"
            " JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.c) FROM pg_index AS i"
            " WHERE i.indrelid = to_regclass(%s) AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL"
            " ORDER BY NOT i.indisprimary, i.indexrelid",
            (self.name.replace("%%", "%"),),
        )
        return [tuple(row[0]) for row in rows]

    def put(
        self, rows: Rows, start: int, stop: int, targets: Sequence[str], last: tuple[Any, ...], strict: bool
    ) -> list[tuple[int, str]]:
        """See Table.put."""
        bad: list[tuple[int, str]] = []
        todo = [(start, stop)]
        while todo:
            at, end = todo.pop()
            refused = self._try(rows, at, end, targets, last)
            if refused is None:
                continue
            line, reason = refused
            if end - at == 1:
                bad.append((at, reason))
                if strict:
                    break
            elif line is not None and at + line < end:
                row = at + line
                rest = [(row + 1 + k, min(row + 1 + k + _SMALL, end)) for k in range(0, end - row - 1, _SMALL)]
                todo += [*reversed(rest), (row, row + 1)]
                if row > at:
                    todo.append((at, row))
            else:
                half = (at + end) // 2
                todo += [(half, end), (at, half)]
        return bad

    def _try(
        self, rows: Rows, start: int, stop: int, targets: Sequence[str], last: tuple[Any, ...]
    ) -> tuple[int | None, str] | None:
        """Copy rows, all or none; the one that was refused, counted from 0, where COPY names it, and why."""
        psycopg = self._psycopg
        self.execute("SAVEPOINT aiopipe_rows")
        try:
            self._copy(_lines(rows, start, stop, last), targets)
        except (psycopg.IntegrityError, psycopg.DataError) as error:
            self.execute("ROLLBACK TO SAVEPOINT aiopipe_rows")
            found = re.search(r"COPY .*, line (\d+)", error.diag.context or "")
            return (int(found[1]) - 1 if found else None), _reason(error)
        self.execute("RELEASE SAVEPOINT aiopipe_rows")
        return None

    def _copy(self, data: Any, targets: Sequence[str]) -> None:
        names = ", ".join(map(self.quote, targets))
        clause = self.on_conflict(targets)
        into = self.name
        if clause:  # COPY knows no conflicts: through a table of our own
            into = "_aiopipe_rows"
            self.execute(f"CREATE TEMP TABLE {into} AS SELECT {names} FROM {self.name} WITH NO DATA")
            self.execute(f"ALTER TABLE {into} ADD COLUMN _aiopipe_n BIGSERIAL")
        with self._connection.cursor() as cursor, cursor.copy(f"COPY {into} ({names}) FROM STDIN", ()) as copy:
            copy.write(data)
        if not clause:
            return
        source = f"SELECT {names} FROM {into} ORDER BY _aiopipe_n"
        if self.filling.on_conflict == "update":  # the last of several with one key, as one after the other would leave
            key = ", ".join(map(self.quote, self.conflict_key()))
            source = f"SELECT DISTINCT ON ({key}) {names} FROM {into} ORDER BY {key}, _aiopipe_n DESC"
        self.execute(f"INSERT INTO {self.name} ({names}) {source}{clause}")
        self.execute(f"DROP TABLE {into}")

    def trouble(self, error: Exception) -> AiopipeError:
        """By PostgreSQL's own code."""
        code = getattr(error, "sqlstate", None) or ""
        reason = _reason(error)
        if code in ("55P03", "40P01", "57014"):
            return LockedError(
                f"{self.address.shown} is locked by another program: {reason}",
                stage="write",
                hint="wait until the other one is done, then run again: what is finished is passed over",
            )
        hint = "look at the table, then run again" if code else "check the address, and that the server runs"
        return cannot(self.address, reason, hint, reading=self.reading)

    def disconnect(self) -> None:
        """Close; what is not committed was never there."""
        self._connection.close()


def _reason(error: Any) -> str:
    diag = getattr(error, "diag", None)
    told = (diag and diag.message_primary) or str(error).strip() or type(error).__name__
    return f"{told} ({diag.message_detail})" if diag and diag.message_detail else str(told)


def _lines(rows: Rows, start: int, stop: int, last: tuple[Any, ...]) -> bytes:
    """The rows in COPY's text format."""
    fields = [_escaped(v) for v in rows.part(start, stop)]
    fields += [_escaped(pa.array([value], pa.string()))[0] for value in last]
    if len(fields) == 1:
        joined = pc.fill_null(fields[0], "\\N")
    else:
        joined = pc.binary_join_element_wise(*fields, "\t", null_handling="replace", null_replacement="\\N")
    return ("\n".join(joined.to_pylist()) + "\n").encode()


def _escaped(values: Any) -> Any:
    for character, instead in _ESCAPES:
        if pc.any(pc.match_substring(values, character)).as_py():
            values = pc.replace_substring(values, character, instead)
    return values
