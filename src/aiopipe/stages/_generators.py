"""Users' async generator functions over rows: one call for each file, fed and drained without extra tasks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import numpy as np

from aiopipe.arrays import text_array
from aiopipe.batch import Batch, Body, Column, Header, Segment, quoted
from aiopipe.codec.dialect import Dialect
from aiopipe.codec.index import index
from aiopipe.errors import FunctionError, UsageError
from aiopipe.model import Reject
from aiopipe.stage import Context, Items
from aiopipe.stages._calls import CAUGHT, SLICE, fault_of
from aiopipe.stages._ranges import slices
from aiopipe.stages._rebuild import text_of
from aiopipe.stages._rows import rows_of

__all__ = ["streamed"]


class Row(dict[str, str]):
    """A row that knows which record it was, so that a generator may hand it on untouched."""

    __slots__ = ("body", "fields", "place")
    body: Body
    place: int
    fields: list[str]


async def streamed(
    function: Callable[..., Any], parcels: AsyncIterator[Any], declared: Sequence[str], context: Context
) -> AsyncIterator[Any]:
    """What `function` yields for each file's rows, as batches of that file."""
    feed = _Feed(parcels, context)
    while await feed.next_file():
        if feed.items is not None:
            async with aclosing(_each(feed)) as values, aclosing(function(values)) as made:
                async for value in made:
                    yield Items([value])
            return
        writer = _Writer(feed, declared)
        try:
            async with aclosing(feed.rows()) as rows, aclosing(function(rows)) as made:
                async for row in made:
                    writer.add(row)
                    if len(writer.rows) >= SLICE:
                        yield await context.hop(writer.batch, False)
        except CAUGHT as error:
            if feed.failed is error:
                raise
            problem = error if isinstance(error, FunctionError) else _problem(error, feed)
            if not context.found.failures.goes_on(problem):
                raise problem from (None if problem is error else error)
            assert feed.segment is not None
            context.found.failures.add([feed.segment.file], problem)
            writer.rows = []
        await feed.drain()
        if feed.segment is not None and feed.segment.file.index in context.found.failures:
            context.found.failures.records += max(0, feed.taken - writer.given)
        if feed.failed is not None:  # the function may have caught it: the file is not finished all the same
            raise feed.failed
        yield await context.hop(writer.batch, feed.finished)


def _problem(error: BaseException, feed: _Feed) -> FunctionError:
    """What the function raised, as an error that knows the row."""
    fault = fault_of(error)
    problem = FunctionError(fault.reason, position=feed.position(), stage="map", hint="mend the function")
    problem.add_note(fault.trace)
    return problem


async def _each(feed: _Feed) -> AsyncGenerator[Any, None]:
    parcel = feed.items
    while parcel is not None:
        for value in parcel.values:
            yield value
        parcel = await anext(feed.parcels, None)


class _Feed:
    """The rows of one file after the other, pulled from the parcels as the generator asks for them."""

    def __init__(self, parcels: AsyncIterator[Any], context: Context) -> None:
        self.parcels = parcels
        self.context = context
        self.items: Items | None = None
        self.segment: Segment | None = None
        self.header: Header | None = None
        self.columns: tuple[Column, ...] = ()
        self.rejects: list[Reject] = []
        self.failed: BaseException | None = None
        self.latest: tuple[Body, int] | None = None
        self.finished = False  # the file in hand has been read to its end
        self.taken = 0  # records of it
        self._pending: list[tuple[Segment, Batch]] = []
        self._ended = True

    async def next_file(self) -> bool:
        """Go to the next file; False when there is none."""
        self.segment = None
        self.latest = None
        if not await self._pull():
            return False
        if self.items is not None:
            return True
        segment, batch = self._pending[0]
        self.segment, self.header, self.columns = segment, batch.body.header, batch.columns
        self._ended = self.finished = False
        self.taken = 0
        return True

    async def _pull(self) -> bool:
        while not self._pending:
            try:
                parcel = await anext(self.parcels)
            except StopAsyncIteration:
                return False
            except BaseException as error:
                self.failed = error
                raise
            if isinstance(parcel, Items):
                self.items = parcel
                return True
            self._pending = [(part.segments[0], part) for part in parcel.apart()]
        return True

    async def rows(self) -> AsyncGenerator[Row, None]:
        """The rows of the file in hand."""
        while not self._ended:
            if not await self._pull():
                self._ended = True
                return
            segment, batch = self._pending.pop(0)
            self.rejects.extend(batch.rejects)
            self.taken += len(batch)
            try:
                for part in slices(batch, lambda: 4 * SLICE):
                    for row in await self.context.hop(_rows, part):
                        self.latest = (row.body, row.place)
                        yield row
            finally:  # also where the function has had enough in the midst of it
                if segment.last and not segment.more:
                    self._ended = self.finished = True

    async def drain(self) -> None:
        """Pass over what the generator did not ask for."""
        async for _ in self.rows():
            pass

    def position(self) -> Any:
        """Where the row that was handed out last stands, as far as is known here."""
        if self.latest is None:
            return None
        segment, position, _ = self.latest[0].place(self.latest[1])
        if segment.part == 0 and position.line is not None:
            return replace(position, line=position.line + segment.head_lines)
        return replace(position, line=None, record=None)


def _rows(batch: Batch) -> list[Row]:
    rows = rows_of(batch)
    places = np.arange(len(batch.body)) if batch.rows is None else batch.rows
    made = []
    for place, fields in zip(places.tolist(), rows.fields(), strict=True):
        row = Row(zip(rows.names, fields, strict=True))
        row.body, row.place, row.fields = batch.body, place, fields
        made.append(row)
    return made


class _Writer:
    """Collects yielded rows of one file and makes batches of them."""

    def __init__(self, feed: _Feed, declared: Sequence[str]) -> None:
        self.feed = feed
        self.rows: list[tuple[dict[str, Any], tuple[Body, int]]] = []
        self.expected = list(declared)
        self.part = self.given = 0

    def add(self, row: Any) -> None:
        """Take a yielded row; FunctionError where it is none or has other columns than the first."""
        if not isinstance(row, dict):
            raise FunctionError(
                f"the generator yielded {type(row).__name__}, not a row",
                position=self.feed.position(),
                stage="map",
                hint="yield dicts of column name to text",
            )
        if not self.expected:
            self.expected = list(row)
        if row.keys() != dict.fromkeys(self.expected).keys():
            raise FunctionError(
                f"the generator yielded columns {', '.join(map(str, row))}, before {', '.join(self.expected)}",
                position=self.feed.position(),
                stage="map",
                hint="yield the same columns for every row, empty where there is no value",
            )
        home = (row.body, row.place) if isinstance(row, Row) else self.feed.latest
        if home is None:
            raise FunctionError(
                "the generator yielded a row before it asked for one",
                stage="map",
                hint="yield inside `async for row in rows`, or after it",
            )
        self.rows.append((row, home))

    def batch(self, last: bool) -> Batch:
        """The rows so far as a batch of their file."""
        feed = self.feed
        assert feed.segment is not None and feed.header is not None
        names = self.expected or [c.name for c in feed.columns]
        header = _renamed(feed.header, names)
        dialect = Dialect(header.delimiter.decode(), header.quote.decode(), header.encoding)
        lines: list[bytes] = []
        bounds = [0]
        for row, _ in self.rows:
            if lines and lines[-1][-1:] not in (b"\n", b"\r"):
                lines[-1] += header.newline or b"\n"
            lines.append(_line(row, names, header))
        if lines and not last and lines[-1][-1:] not in (b"\n", b"\r"):
            lines[-1] += header.newline or b"\n"
        data = b"".join(lines)
        found = index(data, dialect, len(names))
        if len(found.starts) != len(lines):
            raise UsageError("rows of the generator cannot be written as records", stage="map")
        bounds.append(len(found.starts))
        segment = feed.segment._replace(part=self.part, last=last, records=len(lines), first=0, more=False)
        body = Body(
            data,
            header,
            found.starts,
            found.ends,
            found.stops,
            (segment,),
            np.array(bounds),
            found.numbers,
            found.quoted,
            [home for _, home in self.rows],
        )
        self.part += 1
        self.given += len(lines)
        self.rows = []
        rejects, feed.rejects = tuple(feed.rejects), []
        return Batch(body, tuple(Column(n, k) for k, n in enumerate(names)), None, rejects)


def _renamed(header: Header, names: Sequence[str]) -> Header:
    raw = []
    for name in names:
        if name in header.names:
            raw.append(header.raw[header.names.index(name)])
        else:
            raw.append(quoted(text_array([name]), header)[0].as_py())
    return header._replace(names=tuple(names), raw=tuple(raw), newline=header.newline or b"\n")


def _line(row: dict[str, Any], names: Sequence[str], header: Header) -> bytes:
    """One record: the original bytes of the row, or of each field that did not change."""
    end = header.newline
    raw: dict[str, bytes] = {}
    if isinstance(row, Row):
        body, place = row.body, row.place
        if list(row) == list(body.header.names) == list(names) and list(row.values()) == row.fields:
            return body.data[int(body.starts[place]) : int(body.stops[place])]
        if len(row.fields) >= len(body.header.names):
            at, ends = int(body.starts[place]), body.ends.table()
            for k, name in enumerate(body.header.names):
                stop = int(ends[place, k])
                if row.get(name) == row.fields[k]:
                    raw[name] = body.data[at:stop]
                at = stop + 1
    odd: dict[int, Any] = {}
    fields = []
    for name in names:
        if name in raw:
            fields.append(raw[name])
            continue
        text = text_of(row[name], name, 0, odd)
        if odd:
            raise FunctionError(odd[0].reason, stage="map", hint=odd[0].hint)
        fields.append(quoted(text_array([text]), header)[0].as_py())
    if fields == [b""]:
        fields = [header.quote * 2]
    return header.delimiter.join(fields) + end
