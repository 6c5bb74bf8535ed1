"""What runs have a ledger write, each applied inside a transaction of the writer's (`Ledger.submit`)."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from itertools import chain
from typing import Any

from aiopipe.job.ledger import RANGE, Key, Operation, Output, Range, Unit
from aiopipe.storage.version import Version

__all__ = [
    "add_range",
    "add_rejects",
    "adopt_ranges",
    "begin_run",
    "begin_units",
    "complete_parts",
    "damage_outputs",
    "disown",
    "drop_ranges",
    "end_run",
    "fail_units",
    "finish_units",
    "forget",
    "refresh_unit",
    "use_pipeline",
]

_TOGETHER = 40  # rows to a statement: older SQLite takes 999 values


def begin_run(attempt: str, host: str, places: Sequence[str]) -> Callable[[sqlite3.Connection], int]:
    """Note a new run, and that earlier ones which never ended are over; its id."""

    def operation(connection: sqlite3.Connection) -> int:
        now = time.time()
        connection.execute("UPDATE runs SET ended = ?, outcome = 'killed' WHERE ended IS NULL", (now,))
        connection.execute(
            "DELETE FROM rejects WHERE NOT EXISTS (SELECT 1 FROM units AS u"
            " WHERE u.run = rejects.run AND u.number = rejects.number AND u.state = 'done')"
            " AND NOT EXISTS (SELECT 1 FROM ranges AS g WHERE g.run = rejects.run AND g.number = rejects.number)"
        )
        cursor = connection.execute(
            "INSERT INTO runs (attempt, pid, host, began, places) VALUES (?, ?, ?, ?, ?)",
            (attempt, os.getpid(), host, now, json.dumps(list(places))),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    return operation


def end_run(run: int, outcome: str) -> Operation:
    """Note that a run has ended, and left no temporary: "done", "stopped" or "failed"."""
    return lambda c: c.execute("UPDATE runs SET ended = ?, outcome = ? WHERE id = ?", (time.time(), outcome, run))


def use_pipeline(run: int, digest: str, parts: dict[str, str]) -> Callable[[sqlite3.Connection], int]:
    """Note which pipeline a run runs; the pipeline's id."""

    def operation(connection: sqlite3.Connection) -> int:
        connection.execute(
            "INSERT OR IGNORE INTO pipelines (digest, parts) VALUES (?, ?)",
            (digest, json.dumps(parts, ensure_ascii=True)),
        )
        row = connection.execute("SELECT id FROM pipelines WHERE digest = ?", (digest,)).fetchone()
        connection.execute("UPDATE runs SET pipeline = ? WHERE id = ?", (row[0], run))
        found: int = row[0]
        return found

    return operation


_BEGUN = 9  # values of a unit that is begun
_BEGIN = """
INSERT INTO units (path, start, stop, state, run, number, pipeline, source, why) VALUES {marks}
ON CONFLICT (path, start) DO UPDATE SET stop = excluded.stop, state = excluded.state, run = excluded.run,
  number = excluded.number, pipeline = excluded.pipeline, source = excluded.source, why = excluded.why
"""


def begin_units(units: Sequence[tuple[Any, ...]]) -> Operation:
    """Units are about to be done: from now on their rows claim nothing about outputs.

    Each is path, start, stop, "running", run, number, pipeline, source and why.
    """
    return lambda connection: _insert(connection, _BEGIN, _BEGUN, units)


_FINISHED = (
    "path, start, stop, state, run, number, pipeline, source, why, size, mtime_ns, inode, ctime_ns, xxh128, read_at,"
    " done_at, seconds, taken, given, rejected, made, message"
)
_AS_BEGUN = slice(Unit._fields.index("state"), Unit._fields.index("version"))  # fields of a Unit as they stand there
_AS_READ = slice(Unit._fields.index("xxh128"), Unit._fields.index("message"))
_UNREAD = (None,) * len(Version._fields)
_FINISH = f"INSERT INTO units ({_FINISHED}) VALUES {{marks}} ON CONFLICT (path, start) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in _FINISHED.split(", ")[2:]
)
_OWN = """
INSERT OR REPLACE INTO outputs (path, unit, size, mtime_ns, inode, ctime_ns, blake3)
WITH made (path, of, start, size, mtime_ns, inode, ctime_ns, blake3) AS (VALUES {marks})
SELECT made.path, units.id, made.size, made.mtime_ns, made.inode, made.ctime_ns, made.blake3
FROM made JOIN units ON units.path = made.of AND units.start = made.start
"""


def finish_units(units: Sequence[Unit], fresh: Collection[Key] = ()) -> Operation:
    """Units are done (or a "part" of a job that is one unit): their outputs are on the disk under their names.

    An output belongs to the unit that made it last. One that a unit made before, and no more, stays on record as
    nobody's, for --prune. fresh: those of them that have no row yet.
    """
    rows, outputs = [], []
    for u in units:
        path, start, _ = u.key
        plain: tuple[Any, ...] = u
        rows.append((*u.key, *plain[_AS_BEGUN], *(u.version or _UNREAD), *plain[_AS_READ], u.made, None))
        outputs += [(o.path, path, start, *o.version, o.blake3) for o in u.outputs]
    old = [u.key for u in units if u.key not in fresh]

    def operation(connection: sqlite3.Connection) -> None:
        _insert(connection, _FINISH, 22, rows)
        here = "(SELECT id FROM units WHERE path = ? AND start = ?)"
        connection.executemany(f"UPDATE outputs SET unit = -1 WHERE unit = {here}", [k[:2] for k in old])
        _insert(connection, _OWN, 8, outputs)
        drop_ranges([k.path for k in old])(connection)

    return operation


def _insert(connection: sqlite3.Connection, text: str, width: int, rows: Sequence[tuple[Any, ...]]) -> None:
    """Many rows with few statements: each lets go of the interpreter lock, and must wait for it, when others compute.

    text: with {marks} where the values of the rows stand, `width` of them for each.
    """
    mark = f"({', '.join('?' * width)})"
    for at in range(0, len(rows), _TOGETHER):
        some = rows[at : at + _TOGETHER]
        connection.execute(text.format(marks=", ".join([mark] * len(some))), list(chain.from_iterable(some)))


def complete_parts(run: int) -> Operation:
    """All parts of a job that is one unit are done: now they are, and what else it did before is over."""

    def operation(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE units SET state = 'done' WHERE run = ? AND state = 'part'", (run,))
        others = "FROM units WHERE run <> ? AND pipeline = (SELECT pipeline FROM runs WHERE id = ?)"
        connection.execute(f"UPDATE outputs SET unit = -1 WHERE unit IN (SELECT id {others})", (run, run))
        connection.execute(f"DELETE {others}", (run, run))

    return operation


def refresh_unit(key: Key, version: Version, read_at: int, outputs: Sequence[Output]) -> Operation:
    """The input (and the outputs) of a unit have other signatures, and the same bytes."""

    def operation(connection: sqlite3.Connection) -> None:
        connection.execute(
            "UPDATE units SET size = ?, mtime_ns = ?, inode = ?, ctime_ns = ?, read_at = ?"
            " WHERE path = ? AND start = ?",
            (version.size, version.mtime_ns, version.inode, version.ctime_ns, read_at, key.path, key.start),
        )
        for o in outputs:
            connection.execute(
                "UPDATE outputs SET mtime_ns = ?, inode = ?, ctime_ns = ? WHERE path = ?",
                (o.version.mtime_ns, o.version.inode, o.version.ctime_ns, o.path),
            )

    return operation


def add_range(found: Range) -> Operation:
    """A range of a file is done, and its output is on the disk."""
    r, names = found.reached, None if found.reached.names is None else json.dumps(found.reached.names)
    values = (
        *found.key, found.run, found.number, found.pipeline, found.source, found.size, r.part, r.seen, r.xxh128,
        r.lines, r.taken, r.rejected, r.given, names, found.temporary, r.length, r.blake3, found.done_at,
    )  # fmt: skip
    marks = ", ".join("?" * len(values))
    return lambda c: c.execute(f"INSERT OR REPLACE INTO ranges ({RANGE}) VALUES ({marks})", values)


def adopt_ranges(last: Range, run: int, number: int) -> Operation:
    """Another run goes on behind `last`: ranges up to there, and their rejects, are its own; those behind go."""

    def operation(connection: sqlite3.Connection) -> None:
        path, mine = last.key.path, (last.run, last.number)
        connection.execute("DELETE FROM ranges WHERE path = ? AND stop > ?", (path, last.key.stop))
        connection.execute("UPDATE ranges SET run = ?, number = ? WHERE path = ?", (run, number, path))
        where = "WHERE run = ? AND number = ? AND start = -1"
        connection.execute(f"DELETE FROM rejects {where} AND seq >= ?", (*mine, last.reached.rejected))
        connection.execute(f"UPDATE rejects SET run = ?, number = ? {where}", (run, number, *mine))

    return operation


def drop_ranges(paths: Sequence[bytes]) -> Operation:
    """The files are finished, or done anew: nothing is gone on with."""
    return lambda c: c.executemany("DELETE FROM ranges WHERE path = ?", [(p,) for p in paths])


def fail_units(keys: Sequence[Key], message: str) -> Operation:
    """Units did not get done, and this is why."""
    given = [(message, k.path, k.start) for k in keys]
    text = "UPDATE units SET state = 'failed', message = ? WHERE path = ? AND start = ? AND state <> 'done'"
    return lambda c: c.executemany(text, given)


def damage_outputs(paths: Sequence[bytes]) -> Operation:
    """Outputs do not hold what was written: the next run makes them anew."""
    return lambda c: c.executemany("UPDATE outputs SET damaged = 1 WHERE path = ?", [(p,) for p in paths])


def add_rejects(run: int, number: int, start: int, first: int, rows: Sequence[dict[str, Any]]) -> Operation:
    """Records of a unit set aside, numbered from `first`; they count once the unit is done."""
    given = [(run, number, start, first + i, json.dumps(row, ensure_ascii=True)) for i, row in enumerate(rows)]
    return lambda c: c.executemany("INSERT OR REPLACE INTO rejects VALUES (?, ?, ?, ?, ?)", given)


def disown(keys: Sequence[Key]) -> Operation:
    """The inputs of these units are gone: their outputs are nobody's."""

    def operation(connection: sqlite3.Connection) -> None:
        here = "(SELECT id FROM units WHERE path = ? AND start = ?)"
        connection.executemany(f"UPDATE outputs SET unit = -1 WHERE unit = {here}", [k[:2] for k in keys])
        connection.executemany("DELETE FROM units WHERE path = ? AND start = ?", [k[:2] for k in keys])

    return operation


def forget(outputs: Sequence[bytes]) -> Operation:
    """Outputs that nobody owns are gone, or somebody else's."""
    return lambda c: c.executemany("DELETE FROM outputs WHERE path = ? AND unit = -1", [(p,) for p in outputs])
