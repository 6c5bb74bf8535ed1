"""DuckDB as this room uses it: one locked-down connection per thread, fed Arrow columns, giving Arrow back.

No files, no network, no extensions, no Python variables, one thread, time zone UTC: what an expression gives
depends on the expression and its columns alone.
"""

from __future__ import annotations

import atexit
import importlib
import json
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

__all__ = ["Session", "ask", "describe_error", "errors", "evaluation_errors", "forget", "identifier", "lend", "session"]

KEPT = 64  # statements a thread keeps planned; a pipeline has a handful

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "enable_external_access": False,
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "python_enable_replacements": False,
    "preserve_insertion_order": True,
}
_SETTINGS = (
    "SET TimeZone = 'UTC'",  # an option of the built-in icu extension, unknown to connect()
    "SET errors_as_json = true",
    "SET enable_progress_bar = false",
    "SET lock_configuration = true",
)


def _bindings() -> Any:
    """What `duckdb` re-exports: to parse and to bind takes nothing else, and the package around it 50 ms to import."""
    try:
        return importlib.import_module("_duckdb")
    except ImportError:  # it is a private name
        return importlib.import_module("duckdb")


def identifier(name: str) -> str:
    """A name between the quotes of SQL."""
    return '"' + name.replace('"', '""') + '"'


class _Feed:
    """A table whose rows are replaced between runs of a planned statement: DuckDB asks anew at each run."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch
        # Between runs no batch is kept alive: a slice of one would keep all its buffers.
        self.empty = pa.RecordBatch.from_arrays([pa.nulls(0, f.type) for f in batch.schema], schema=batch.schema)

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.batch.__arrow_c_stream__(requested_schema)


class Session:
    """A connection and the statements it has planned. It belongs to the thread that made it."""

    def __init__(self) -> None:
        bindings = _bindings()
        self.connection = bindings.connect(":memory:", config=_CONFIG)
        for setting in _SETTINGS:
            self.connection.execute(setting)
        # Before 2.0 DuckDB takes the stream once, when the object is registered: plan anew for each batch.
        self._replans = int(bindings.__version__.split(".")[0]) < 2
        self._planned: OrderedDict[tuple[str, Any], tuple[str, _Feed, Any]] = OrderedDict()
        self._count = 0

    def syntax(self, statement: str) -> dict[str, Any]:
        """DuckDB's syntax tree of a statement, or its error, as it serializes them."""
        rows = self.connection.execute(
            "SELECT json_serialize_sql(?, skip_null := true, skip_empty := true)", [statement]
        ).fetchall()
        tree: dict[str, Any] = json.loads(rows[0][0])
        return tree

    def bind(self, statement: str, columns: Mapping[str, str]) -> str:
        """The type of a statement's only column, over a table `batch` of these columns and types; `errors()` else."""
        listed = ", ".join(f"{identifier(name)} {kind}" for name, kind in columns.items())
        self.connection.execute(f"CREATE TEMP TABLE batch ({listed})")
        try:
            result = self.connection.execute(statement)
            kind = str(result.description[0][1]) if result.description else ""
            result.fetchall()  # DuckDB 2.0 takes no other work before a result is read to its end
            return kind
        finally:
            self.connection.execute("DROP TABLE batch")

    def run(self, select: str, batch: pa.RecordBatch) -> Any:
        """The Arrow table of `SELECT {select} FROM batch`, in order."""
        import duckdb  # noqa: F401 - gives connections what they need to take Arrow

        if self._replans:
            return self._run_anew(select, batch)
        key = (select, batch.schema)
        kept = self._planned.get(key)
        if kept is None:
            kept = self._planned[key] = self._plan(select, batch)
            if len(self._planned) > KEPT:
                self.connection.unregister(self._planned.popitem(last=False)[1][0])
        else:
            self._planned.move_to_end(key)
        _, feed, relation = kept
        feed.batch = batch
        try:
            return relation.to_arrow_table()
        finally:
            feed.batch = feed.empty

    def _plan(self, select: str, batch: pa.RecordBatch) -> tuple[str, _Feed, Any]:
        self._count += 1
        view, feed = f"batch_{self._count}", _Feed(batch)
        self.connection.register(view, feed)
        return view, feed, self.connection.sql(f"SELECT {select} FROM {view}")

    def _run_anew(self, select: str, batch: pa.RecordBatch) -> Any:
        self.connection.register("batch", pa.Table.from_batches([batch]))
        try:
            return self.connection.sql(f"SELECT {select} FROM batch").to_arrow_table()
        finally:
            self.connection.unregister("batch")

    def functions(self) -> list[tuple[str, str, str | None, str | None, bool]]:
        """(name, kind, stability, macro body, whether it makes something of an instant, or one) of every function."""
        rows = self.connection.execute(
            "SELECT DISTINCT lower(function_name), function_type, stability, macro_definition, parameter_types,"
            " return_type FROM duckdb_functions()"
        ).fetchall()
        return [
            (*row, bool(taken) and any("TIME ZONE" in str(t) or "TIMESTAMPTZ" in str(t) for t in (*taken, made)))
            for *row, taken, made in rows
        ]

    def close(self) -> None:
        """Let go of the connection; the session is of no more use."""
        self._planned.clear()
        self.connection.close()


_local = threading.local()
_all: weakref.WeakSet[Session] = weakref.WeakSet()


def session() -> Session:
    """This thread's session; about 20 ms when it is the thread's first."""
    found: Session | None = getattr(_local, "session", None)
    if found is None:
        found = _local.session = Session()
        _all.add(found)
    return found


_lent: Callable[[str, tuple[Any, ...]], Any] | None = None


def lend(ask: Callable[[str, tuple[Any, ...]], Any] | None) -> None:
    """Another process has a session as well, which `ask(method, arguments)` asks: None where it has no answer."""
    global _lent
    _lent = ask


def ask(method: str, *given: Any) -> Any:
    """What a method of a session gives, by another process's session where one was lent; its errors are those of ours.

    method: "syntax", "bind" or "functions", which need no data.
    """
    found = _lent(method, given) if _lent is not None else None
    return getattr(session(), method)(*given) if found is None else found


def forget() -> None:
    """Drop this thread's session: after an internal error DuckDB refuses everything else."""
    found: Session | None = getattr(_local, "session", None)
    if found is not None:
        del _local.session
        found.close()


@atexit.register
def _close_all() -> None:
    # A connection that still holds a Python object at exit makes its bindings complain on stderr.
    for one in list(_all):
        one.close()


def errors() -> type[Exception]:
    """All that DuckDB raises."""
    found: type[Exception] = _bindings().Error
    return found


def evaluation_errors() -> tuple[type[Exception], ...]:
    """What DuckDB raises when a value is at fault: a bad cast, an overflow, a wrong argument."""
    bindings = _bindings()
    return (bindings.DataError, bindings.InvalidInputException)


def describe_error(error: Exception) -> tuple[str, int | None]:
    """A DuckDB error as its message, first sentence only, and the byte of the statement it points at."""
    text = str(error)
    brace = text.find("{")
    try:
        fields = json.loads(text[brace:]) if brace >= 0 else {}
    except ValueError:
        fields = {}
    message = fields.get("exception_message", text if not fields else "").strip()
    at = fields.get("position")
    return shorten(message), int(at) if at is not None and str(at).isdigit() else None


def shorten(message: str) -> str:
    """The first line of a DuckDB message without its advice about settings nobody can reach from here."""
    line = message.split("\n", 1)[0]
    for tail in (". You might need", ". Use TRY", " Use SET", ". Please transition"):
        line = line.split(tail, 1)[0]
    return line.strip()
