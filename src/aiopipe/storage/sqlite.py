"""A query of an SQLite database as a source: rows fetched some at a time, as the bytes of a CSV."""

from __future__ import annotations

import os
import re
import sqlite3
from typing import Any
from urllib.parse import quote

from aiopipe.codec.dialect import Dialect
from aiopipe.codec.rows import check_dialect, csv_lines
from aiopipe.errors import InputError, RecordError, UsageError
from aiopipe.model import Position
from aiopipe.storage.settle import settled
from aiopipe.storage.turns import Turns
from aiopipe.storage.urls import database_of

__all__ = ["Query", "open_query"]

_TOGETHER = 1000  # rows fetched in one go


class Query(Turns):
    """The rows of a query: NULL is empty, numbers as Python writes them (a REAL 1 is 1.0), a BLOB an error."""

    def __init__(self, path: str, database: _Database, cursor: Any, delimiter: str) -> None:
        super().__init__()
        self._path = path
        self._database = database
        self._cursor = cursor
        self._delimiter = delimiter
        self._names = [column[0] for column in cursor.description]
        self._records = -1  # the header has not been told yet

    async def more(self, size: int) -> bytes:
        """The header, then rows."""
        if self._records < 0:
            self._records = 0
            return csv_lines([self._names], self._delimiter, self._names, 0)
        place = Position(self._path, record=self._records + 1)
        try:
            rows = await self._cursor.fetchmany(_TOGETHER)
        except sqlite3.Error as error:
            raise InputError(str(error), position=place, stage="read", hint="look at the query") from error
        try:
            data = csv_lines(rows, self._delimiter, self._names, self._records + 1) if rows else b""
        except RecordError as error:
            error.position, error.stage = place, "read"
            raise
        self._records += len(rows)
        return data

    async def finish(self) -> None:
        """Give the query up and close the database."""
        await settled(self._database.end())


class _Database:
    """A connection whose query can be given up at any moment.

    sqlite3's interrupt() does nothing to a query that has not begun yet, and an endless one would begin behind it: so
    SQLite asks, every few thousand steps, whether anybody still waits.
    """

    _STEPS = 10_000

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._given_up = False

    async def begin(self, query: str) -> Any:
        """The query's cursor."""
        await self._connection.set_progress_handler(lambda: self._given_up, self._STEPS)
        return await self._connection.execute(query)

    async def end(self) -> None:
        """Give the query up, and close."""
        self._given_up = True
        await self._connection.close()
        # It has said its last word and is leaving: nothing is waited for, but that it has left.
        getattr(self._connection, "_thread", self._connection).join(1)


async def open_query(url: str, dialect: Dialect) -> Query:
    """Begin the query of `sqlite:///FILE#QUERY`, read-only; InputError where it cannot be.

    QUERY is a SELECT, or the name of a table.
    """
    try:
        import aiosqlite
    except ImportError:
        raise UsageError("aiosqlite is not installed", hint="pip install 'aiopipe-csv[sqlite]'") from None
    check_dialect(dialect, "a database")
    path, query = database_of(url)
    if re.fullmatch(r"\w+", query):
        query = f'SELECT * FROM "{query}"'
    try:
        database = _Database(await aiosqlite.connect(_read_only(path), uri=True))
    except sqlite3.Error as error:
        raise _trouble(path, error) from error
    try:
        cursor = await database.begin(query)
        if cursor.description is None:
            raise UsageError("the query gives no rows", stage="read", hint="write a SELECT")
    except sqlite3.Error as error:
        await settled(database.end())
        raise _trouble(path, error) from error
    except BaseException:  # a long query is given up, not waited for
        await settled(database.end())
        raise
    return Query(url, database, cursor, dialect.delimiter)


def _read_only(path: str) -> str:
    """The file as SQLite's own kind of address, which says that a missing one is not to be made."""
    return f"file:{quote(os.path.abspath(path))}?mode=ro"


def _trouble(path: str, error: sqlite3.Error) -> InputError:
    hint = "check the path" if "unable to open" in str(error) else "look at the query"
    return InputError(str(error), position=Position(path), stage="read", hint=hint)
