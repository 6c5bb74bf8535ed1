"""Objects that a program hands over to be read: stream readers, async iterables of bytes, rows."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from aiopipe.codec.dialect import Dialect
from aiopipe.codec.rows import check_dialect, csv_lines
from aiopipe.errors import AiopipeError, InputError, RecordError
from aiopipe.model import Position
from aiopipe.storage.turns import Turns

__all__ = ["Given", "called", "can_be_read"]

_TOGETHER = 512  # rows that become one piece of text
_END: Any = object()


def can_be_read(value: object) -> bool:
    """Whether this is a stream, or rows, and no path or list of paths."""
    if isinstance(value, (str, bytes)) or hasattr(value, "__fspath__"):
        return False
    if inspect.iscoroutinefunction(getattr(value, "read", None)) or isinstance(value, AsyncIterable):
        return True
    if isinstance(value, (list, tuple)):
        return bool(value) and isinstance(value[0], Mapping)
    return isinstance(value, Iterable) and not isinstance(value, (set, frozenset, Mapping))


def called(value: object) -> str:
    """What reports call it: the name of its type."""
    return f"<{type(value).__name__}>"


class Given(Turns):
    """A stream reader, an async iterable of bytes, or an iterable or async iterable of rows.

    Rows are mappings of column name to value, or lists of such; the first one names the columns. A generator is
    closed when the run needs no more of it; a stream reader stays open, as it is not ours.
    """

    def __init__(self, value: Any, path: str, dialect: Dialect) -> None:
        super().__init__()
        self._path = path
        self._dialect = dialect
        self._read = value.read if inspect.iscoroutinefunction(getattr(value, "read", None)) else None
        self._items: AsyncIterator[Any] | Iterator[Any] | None = None
        if self._read is None:
            self._items = aiter(value) if isinstance(value, AsyncIterable) else iter(value)
        self._names: tuple[str, ...] | None = None
        self._records = self._bytes = 0
        self._first: Any = None

    async def more(self, size: int) -> bytes:
        """The next bytes, or rows as bytes. Exceptions of the object arrive as InputError, with the place."""
        try:
            data = await self._next(size)
        except RecordError as error:
            error.position = error.position or Position(self._path, record=self._records + 1)
            raise
        except AiopipeError:
            raise
        except Exception as error:
            raise self._trouble(f"{type(error).__name__}: {error}", "look at what gives the stream") from error
        self._bytes += len(data)
        return data

    async def _next(self, size: int) -> bytes:
        if self._read is not None:
            return self._checked(await self._read(size))
        while True:
            item = await self._item()
            if item is _END:
                return b""
            if isinstance(item, Mapping):
                return self._rows(self._some(item))
            if isinstance(item, list) and item and isinstance(item[0], Mapping):
                return self._rows(item)
            if data := self._checked(item):
                return data

    async def _item(self) -> Any:
        if isinstance(self._items, AsyncIterator):
            return await anext(self._items, _END)
        return next(self._items, _END)  # type: ignore[arg-type]

    def _checked(self, data: object) -> bytes:
        if self._names is None and isinstance(data, (bytes, bytearray, memoryview)):
            return bytes(data)
        hint = "encode text; give rows as dicts of column name to value"
        raise self._trouble(f"it gave {type(data).__name__}, neither bytes nor a row", hint)

    def _some(self, first: Mapping[str, Any]) -> Iterator[Any]:
        """This row and, of a plain iterable, some more."""
        yield first
        if isinstance(self._items, Iterator):
            yield from islice(self._items, _TOGETHER - 1)

    def _rows(self, rows: Iterable[Any]) -> bytes:
        """The rows as text, the very first with the header."""
        head = b""
        some: list[list[Any]] = []
        for row in rows:
            if not isinstance(row, Mapping):
                raise self._trouble(f"it gave {type(row).__name__} after rows", "give dicts only")
            if self._names is None:
                self._names, head = self._header(row)
            some.append(self._values(row, len(some)))
        assert self._names is not None
        data = csv_lines(some, self._dialect.delimiter, self._names, self._records + 1)
        self._records += len(some)
        return head + data

    def _header(self, row: Mapping[str, Any]) -> tuple[tuple[str, ...], bytes]:
        check_dialect(self._dialect, self._path)
        if self._bytes:
            raise self._trouble("it gave rows after bytes", "give one or the other")
        names = tuple(row)
        if not names or not all(isinstance(name, str) for name in names):
            raise self._trouble(f"a row has the columns {list(row)!r}", "name columns by text")
        return names, csv_lines([names], self._dialect.delimiter, names, 0)

    def _values(self, row: Mapping[str, Any], ahead: int = 0) -> list[Any]:
        assert self._names is not None
        if len(row) != len(self._names) or any(name not in row for name in self._names):
            raise RecordError(
                f"a row has the columns {', '.join(map(str, row))}; the first had {', '.join(self._names)}",
                position=Position(self._path, record=self._records + ahead + 1),
                stage="read",
                hint="give all rows the same columns, None where there is no value",
            )
        return [row[name] for name in self._names]

    def _trouble(self, message: str, hint: str) -> InputError:
        rows = self._names is not None
        place = Position(self._path, record=self._records + 1) if rows else Position(self._path, byte=self._bytes)
        return InputError(message, position=place, stage="read", hint=hint)

    async def finish(self) -> None:
        """End a generator."""
        if isinstance(self._items, AsyncGenerator):
            await self._items.aclose()
        elif hasattr(self._items, "close") and inspect.isgenerator(self._items):
            self._items.close()
