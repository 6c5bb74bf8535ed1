"""The ledger of a destination: which units are done, from which input, by which pipeline, with which outputs.

It is a SQLite database at DEST/.aiopipe/ledger.db. A row says "done" only after the outputs it names are on the
disk under their names, and it stops saying so before one of them is replaced. So a row never lies, whenever a
run is killed. `Ledger` writes, in a thread of its own and many rows to a transaction; `open_ledger` reads, also
beside a run. What a row means for the next run is decided in `job/units.py`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiopipe.errors import InputError, OutputError
from aiopipe.model import display_path
from aiopipe.storage.ranges import Reached
from aiopipe.storage.version import Version
from aiopipe.storage.write import trouble

__all__ = ["FOLDER", "Key", "Ledger", "Output", "Range", "Reader", "Unit", "ledger_path", "open_ledger"]

FOLDER = ".aiopipe"
SCHEMA = 2
_PATIENCE = 0.05  # seconds: how long rows may wait for company before they are committed
_MANY = 5000  # rows that are committed without waiting
_OVERDUE = 0.5  # seconds: how often what may be written late is asked for
_AT_ONCE = 256  # keys that are looked up together

_TABLES = """
CREATE TABLE runs (id INTEGER PRIMARY KEY, attempt TEXT, pid INTEGER, host TEXT, began REAL, ended REAL,
                   outcome TEXT, pipeline INTEGER, places TEXT);
CREATE TABLE pipelines (id INTEGER PRIMARY KEY, digest TEXT UNIQUE, parts TEXT);
CREATE TABLE units (id INTEGER PRIMARY KEY, path BLOB NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL,
                    state TEXT NOT NULL, run INTEGER NOT NULL, number INTEGER NOT NULL, pipeline INTEGER NOT NULL,
                    source BLOB, why TEXT, size INTEGER, mtime_ns INTEGER, inode INTEGER, ctime_ns INTEGER,
                    xxh128 BLOB, read_at INTEGER, done_at REAL, seconds REAL, taken INTEGER, given INTEGER,
                    rejected INTEGER, message TEXT, made INTEGER, UNIQUE (path, start));
CREATE INDEX units_by_run ON units (run, number);
CREATE TABLE outputs (path BLOB PRIMARY KEY, unit INTEGER NOT NULL, size INTEGER, mtime_ns INTEGER, inode INTEGER,
                      ctime_ns INTEGER, blake3 BLOB, damaged INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX outputs_by_unit ON outputs (unit);
CREATE TABLE rejects (run INTEGER, number INTEGER, start INTEGER, seq INTEGER, body TEXT,
                      PRIMARY KEY (run, number, start, seq)) WITHOUT ROWID;
"""

# Ledgers that were begun before there were ranges get it when they are opened.
_RANGES = """
CREATE TABLE IF NOT EXISTS ranges (path BLOB NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL,
                    run INTEGER NOT NULL, number INTEGER NOT NULL, pipeline INTEGER NOT NULL, source BLOB, size INTEGER,
                    part INTEGER, seen INTEGER, xxh128 BLOB, lines INTEGER, taken INTEGER, rejected INTEGER,
                    given INTEGER, names TEXT, temporary BLOB, length INTEGER, blake3 BLOB, done_at REAL,
                    PRIMARY KEY (path, start)) WITHOUT ROWID;
"""


def ledger_path(destination: str) -> str:
    """Where a destination keeps its ledger."""
    return os.path.join(destination, FOLDER, "ledger.db")


class Key(NamedTuple):
    """A unit: an input file by its path below the job's root, as bytes; start, stop: a byte range of it, or -1.

    >>> Key.of("sub/a.csv")
    Key(path=b'sub/a.csv', start=-1, stop=-1)
    """

    path: bytes
    start: int = -1
    stop: int = -1

    @classmethod
    def of(cls, relative: str, start: int = -1, stop: int = -1) -> Key:
        """The key of a file, or of the bytes [start, stop) of it."""
        return cls(os.fsencode(relative), start, stop)

    def __str__(self) -> str:
        where = f" [{self.start}-{self.stop}]" if self.start >= 0 else ""
        return display_path(os.fsdecode(self.path)) + where


@dataclass(frozen=True, slots=True)
class Output:
    """A file that a unit made. path: below the destination, as bytes. damaged: `aiopipe verify` found it changed."""

    path: bytes
    version: Version
    blake3: bytes
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Unit:
    """A row of the ledger, with its outputs.

    state: "done"; "running" (begun, and not finished if no run is on); "part" (of a job that is one unit, and not
    finished); "failed"; "mending" (see job/mends.py). run, number: of the run that did it, and its place in that
    run's input. pipeline: whose parts `Reader.parts` gives. source: the input's absolute path. why: what made that
    run do it. version, xxh128: of the input as it was read; xxh128 is None where not all of it was. read_at:
    nanoseconds of the epoch when reading began. taken, given, rejected: records. message: what went wrong, of a
    failed one. made: how many outputs it had when it was done.
    """

    key: Key
    state: str
    run: int
    number: int
    pipeline: int
    source: bytes = b""
    why: str = ""
    version: Version | None = None
    xxh128: bytes | None = None
    read_at: int = 0
    done_at: float = 0.0
    seconds: float = 0.0
    taken: int = 0
    given: int = 0
    rejected: int = 0
    message: str = ""
    outputs: tuple[Output, ...] = ()
    made: int = 0


@dataclass(frozen=True, slots=True)
class Range:
    """A byte range of an input that is done: its output is the next bytes of a temporary, up to `length`.

    Of a file that is not finished: when it is, the unit is the whole file, and its ranges are forgotten. key: path, and
    the bytes [start, stop). run, number, pipeline, source: as for Unit. size: of the input then. The rest is counted
    from the beginning of the file, and said in `storage.ranges.Reached`; temporary is below the destination, as bytes.
    """

    key: Key
    run: int
    number: int
    pipeline: int
    source: bytes
    size: int
    reached: Reached
    temporary: bytes
    done_at: float = 0.0


_COLUMNS = (
    "id, path, start, stop, state, run, number, pipeline, source, why, size, mtime_ns, inode, ctime_ns, xxh128,"
    " read_at, done_at, seconds, taken, given, rejected, message, made"
)


_OUTPUT = "path, size, mtime_ns, inode, ctime_ns, blake3, damaged"


def _output(row: Any) -> Output:
    return Output(row[0], Version(*row[1:5]), row[5], bool(row[6]))


RANGE = (
    "path, start, stop, run, number, pipeline, source, size, part, seen, xxh128, lines, taken, rejected, given, names,"
    " temporary, length, blake3, done_at"
)


def _range(row: Any) -> Range:
    path, start, stop, run, number, pipeline, source, size, part, seen, xxh128 = row[:11]
    lines, taken, rejected, given, names, temporary, length, blake3, done_at = row[11:]
    columns = tuple(json.loads(names)) if names is not None else None
    reached = Reached(
        part, stop, seen, xxh128, lines, taken, rejected, given, columns, os.fsdecode(temporary), length, blake3
    )
    return Range(Key(path, start, stop), run, number, pipeline, source, size, reached, temporary, done_at)


class Reader:
    """What a ledger says. Only one thread at a time may use it; every method blocks.

    The methods that read are those that a ledger kept elsewhere (in a database that is the sink) must have too.
    InputError where the file cannot be read, or holds something else. path: of the ledger.
    """

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._connection = connection
        self._path = path

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def unit(self, key: Key) -> Unit | None:
        """The row of a unit, if it has one."""
        rows = self._rows(f"SELECT {_COLUMNS} FROM units WHERE path = ? AND start = ?", (key.path, key.start))
        return self._unit(rows[0]) if rows else None

    def known(self, paths: Sequence[bytes]) -> dict[bytes, Unit]:
        """The rows of those of these input files that have one, by the path of the unit."""
        found: dict[bytes, Unit] = {}
        for at in range(0, len(paths), _AT_ONCE):
            some = paths[at : at + _AT_ONCE]
            marks = ", ".join("?" * len(some))
            rows = self._rows(f"SELECT {_COLUMNS} FROM units WHERE path IN ({marks}) AND start = -1", some)
            text = f"SELECT {_OUTPUT}, unit FROM outputs WHERE unit IN ({', '.join('?' * len(rows))}) ORDER BY path"
            outputs: dict[int, list[Output]] = {}
            for *output, unit in self._rows(text, [row[0] for row in rows]):
                outputs.setdefault(unit, []).append(_output(output))
            found.update((row[1], _unit(row, outputs.get(row[0], ()))) for row in rows)
        return found

    def is_empty(self) -> bool:
        """Whether no unit was ever begun."""
        return not self._rows("SELECT 1 FROM units LIMIT 1", ())

    def units(self) -> Iterator[Unit]:
        """All rows, in bytewise order of their paths."""
        for row in self._each(f"SELECT {_COLUMNS} FROM units ORDER BY path, start", ()):
            yield self._unit(row)

    def in_state(self, state: str) -> list[Key]:
        """The units that are in this state."""
        return [Key(*row) for row in self._rows("SELECT path, start, stop FROM units WHERE state = ?", (state,))]

    def with_rejects(self) -> dict[Key, tuple[int, int]]:
        """The units that are done but for some records: with their run, and their number there."""
        rows = self._rows("SELECT path, start, stop, run, number FROM units WHERE rejected > 0 AND state = 'done'", ())
        return {Key(*row[:3]): (row[3], row[4]) for row in rows}

    def owner(self, output: bytes) -> Unit | None:
        """The unit that an output below the destination comes from."""
        rows = self._rows(
            f"SELECT {_COLUMNS} FROM units WHERE id = (SELECT unit FROM outputs WHERE path = ?)", (output,)
        )
        return self._unit(rows[0]) if rows else None

    def unit_from(self, source: bytes) -> Unit | None:
        """The unit whose input has this absolute path."""
        rows = self._rows(f"SELECT {_COLUMNS} FROM units WHERE source = ?", (source,))
        return self._unit(rows[0]) if rows else None

    def unowned(self) -> list[Output]:
        """Outputs that some unit made once, and none does any more."""
        rows = self._rows(f"SELECT {_OUTPUT} FROM outputs WHERE unit = -1 ORDER BY path", ())
        return [_output(row) for row in rows]

    def parts(self, pipeline: int) -> dict[str, str]:
        """What the fingerprint of a pipeline was made of."""
        rows = self._rows("SELECT parts FROM pipelines WHERE id = ?", (pipeline,))
        found: dict[str, str] = json.loads(rows[0][0]) if rows else {}
        return found

    def rejects(self, run: int, number: int | None = None) -> Iterator[dict[str, Any]]:
        """The rows of a rejects file that a unit (by its run and number there), or a whole run, set aside."""
        where = "run = ?" if number is None else "run = ? AND number = ?"
        given = (run,) if number is None else (run, number)
        text = f"SELECT body FROM rejects WHERE {where} ORDER BY number, start, seq"
        for (body,) in self._each(text, given):
            yield json.loads(body)

    def runs(self, last: int = 1) -> list[dict[str, Any]]:
        """The last runs, the newest first: id, attempt, pid, host, began, ended, outcome, pipeline, places."""
        names = [row[1] for row in self._rows("PRAGMA table_info(runs)", ())]
        rows = self._rows(f"SELECT {', '.join(names)} FROM runs ORDER BY id DESC LIMIT ?", (last,))
        return [dict(zip(names, row, strict=True)) for row in rows]

    def unclean(self) -> list[dict[str, Any]]:
        """Runs that never said they had ended: attempt and places."""
        rows = self._rows("SELECT attempt, places FROM runs WHERE ended IS NULL", ())
        return [{"attempt": a, "places": [os.fsencode(p) for p in json.loads(places)]} for a, places in rows]

    def ranges(self) -> dict[bytes, list[Range]]:
        """The ranges of files that were not finished, in order, by the path of their unit."""
        if not self._rows("SELECT 1 FROM sqlite_master WHERE name = 'ranges'", ()):
            return {}
        found: dict[bytes, list[Range]] = {}
        for row in self._each(f"SELECT {RANGE} FROM ranges ORDER BY path, start", ()):
            found.setdefault(row[0], []).append(_range(row))
        return found

    def _rows(self, text: str, given: Sequence[Any]) -> list[Any]:
        return list(self._each(text, given))

    def _each(self, text: str, given: Sequence[Any]) -> Iterator[Any]:
        try:
            for row in self._connection.execute(text, given):  # noqa: UP028 - `yield from` would close the cursor,
                yield row  # also when the connection has gone before
        except sqlite3.Error as error:
            shown = display_path(self._path)
            raise InputError(f"the ledger {shown} cannot be read: {error}", hint=_AGAIN) from None

    def _unit(self, row: Any) -> Unit:
        found = self._rows(f"SELECT {_OUTPUT} FROM outputs WHERE unit = ? ORDER BY path", (row[0],))
        return _unit(row, [_output(o) for o in found])


def _unit(row: Any, outputs: Sequence[Output]) -> Unit:
    """A row of _COLUMNS as a unit."""
    return Unit(
        Key(*row[1:4]),
        state=row[4],
        run=row[5],
        number=row[6],
        pipeline=row[7],
        source=row[8],
        why=row[9] or "",
        version=Version(*row[10:14]) if row[10] is not None else None,
        xxh128=row[14],
        read_at=row[15] or 0,
        done_at=row[16] or 0.0,
        seconds=row[17] or 0.0,
        taken=row[18] or 0,
        given=row[19] or 0,
        rejected=row[20] or 0,
        message=row[21] or "",
        made=row[22] or 0,
        outputs=tuple(outputs),
    )


def open_ledger(destination: str) -> Reader:
    """The ledger of a destination, to read; InputError where there is none, or it cannot be read."""
    path = ledger_path(destination)
    shown = display_path(destination)
    if not os.path.exists(path):
        raise InputError(
            f"{shown} has no ledger", hint="it is kept by runs that write to a directory: name that directory"
        )
    try:
        connection = sqlite3.connect(path, timeout=5, check_same_thread=False, isolation_level=None)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        raise InputError(f"the ledger of {shown} cannot be read: {error}", hint=_ANEW) from None
    if version != SCHEMA:
        connection.close()
        raise InputError(f"the ledger of {shown} is of version {version}, not {SCHEMA}", hint=_ANEW)
    return Reader(connection, path)


_ANEW = f"use the aiopipe that wrote it, or remove {FOLDER}/ in that directory: the next run then does all anew"
_AGAIN = f"check the disk and run again; if it stays so, remove {FOLDER}/: the next run then does all anew"

Operation = Callable[[sqlite3.Connection], Any]


class Ledger:
    """Writes a ledger, in a thread of its own; every method but `submit` blocks, and any thread may call.

    Operations are done in the order they were submitted. Those that come within 50 ms share a transaction (and so
    one fsync); `wait` makes it happen now. When one fails, that and every later call raises OutputError.

    overdue: asked twice a second for an operation that nobody waits for, to be done before those that were submitted.
    """

    def __init__(self, destination: str) -> None:
        self.path = ledger_path(destination)
        self._queue: queue.Queue[Operation | None] = queue.Queue()
        self._condition = threading.Condition()
        self._submitted = self._committed = 0
        self._hurry = False
        self._error: BaseException | None = None
        self.overdue: Callable[[], Operation | None] = lambda: None
        try:
            self._connection = _created(self.path)
        except sqlite3.Error as error:
            raise self._trouble(error) from None
        self._thread = threading.Thread(target=self._work, name="aiopipe-ledger", daemon=True)
        self._thread.start()

    def reader(self) -> Reader:
        """The same ledger, to read, with a connection of its own."""
        try:
            connection = sqlite3.connect(self.path, timeout=30, check_same_thread=False, isolation_level=None)
        except sqlite3.Error as error:
            raise self._trouble(error) from None
        return Reader(connection, self.path)

    def submit(self, operation: Operation) -> int:
        """Have `operation(connection)` done soon, inside a transaction; a number for `wait`."""
        with self._condition:
            self._raise()
            self._submitted += 1
            self._queue.put(operation)
            return self._submitted

    def wait(self, number: int | None = None) -> None:
        """Return when the operation of that number, or all so far, is on the disk."""
        with self._condition:
            number = self._submitted if number is None else number
            while self._committed < number:
                self._raise()
                self._hurry = True
                self._condition.notify_all()
                self._condition.wait(1)

    def ask(self, operation: Callable[[sqlite3.Connection], Any]) -> Any:
        """The result of an operation, once it is on the disk."""
        results: list[Any] = []
        self.wait(self.submit(lambda connection: results.append(operation(connection))))
        return results[0]

    def close(self) -> None:
        """Commit what was submitted and end the thread; OutputError where that was not possible."""
        if self._thread.is_alive():
            with self._condition:
                self._hurry = True
                self._queue.put(None)
                self._condition.notify_all()
            self._thread.join()
        self._connection.close()
        self._raise()

    def _work(self) -> None:
        ended, asked = False, time.monotonic()
        while not ended:
            some: list[Operation | None] = []
            with contextlib.suppress(queue.Empty):
                some.append(self._queue.get(timeout=_OVERDUE))
                with self._condition:
                    self._condition.wait_for(lambda: self._hurry or self._queue.qsize() > _MANY, _PATIENCE)
                    self._hurry = False
                while True:
                    some.append(self._queue.get_nowait())
            ended = None in some
            operations = [o for o in some if o is not None]
            submitted = len(operations)
            try:
                if time.monotonic() - asked >= _OVERDUE:
                    asked = time.monotonic()
                    late = self.overdue()
                    operations = operations if late is None else [late, *operations]
                if operations and self._error is None:
                    self._commit(operations)
            except BaseException as error:
                self._error = error
            with self._condition:
                if self._error is None:
                    self._committed += submitted
                self._condition.notify_all()

    def _commit(self, operations: Iterable[Operation]) -> None:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for operation in operations:
                operation(connection)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _raise(self) -> None:
        if isinstance(self._error, sqlite3.Error):
            raise self._trouble(self._error) from None
        if self._error is not None:
            raise self._error

    def _trouble(self, error: sqlite3.Error) -> OutputError:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return trouble(self.path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        cause = _refusal(os.path.dirname(self.path))
        if cause is not None:
            return trouble(self.path, cause)
        return OutputError(
            f"cannot write the ledger {display_path(self.path)}: {error}",
            stage="write",
            hint=f"check the disk, or {_ANEW}",
        )


def _refusal(directory: str) -> OSError | None:
    """Why no file can be made in a directory, if so: SQLite only says that it could not open one."""
    try:
        fd, path = tempfile.mkstemp(prefix="probe-", dir=directory)
    except OSError as error:
        return error
    os.close(fd)
    os.unlink(path)
    return None


def _created(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if version == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} {_RANGES} PRAGMA user_version = {SCHEMA}; COMMIT;")
        elif version != SCHEMA:
            raise sqlite3.DatabaseError(f"it is of version {version}, not {SCHEMA}")
        else:
            connection.execute(_RANGES)
    except BaseException:
        connection.close()
        raise
    return connection
