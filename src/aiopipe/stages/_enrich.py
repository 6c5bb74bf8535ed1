"""A run of `fetch`: records to requests, answers to columns, and what is kept in between.

unpack   the fields that the templates name, the requests, what the cache knows
call     one request, as often and as fast as the stage says
pack     the new columns, rejects for what failed

Calls are made in the loop; the rest is, where it takes a millisecond, and off the loop where it may take longer.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np

from aiopipe import kernels as pc
from aiopipe.arrays import mask_array, text_array
from aiopipe.batch import Batch, Body, Column, quoted
from aiopipe.errors import AiopipeError, UsageError
from aiopipe.stage import Context, Items
from aiopipe.stages._attempts import Attempts, exceptions_named
from aiopipe.stages._cache import Answer, Cache
from aiopipe.stages._calls import Fault, PlainError, items_made
from aiopipe.stages._flow import Entry, Work, is_light
from aiopipe.stages._http import SAFE, AnswerError, Http, Request, library
from aiopipe.stages._paths import Wanted
from aiopipe.stages._rebuild import without
from aiopipe.stages._template import Secrets
from aiopipe.storage.settle import settled

__all__ = ["enriching"]

_AGENT = "aiopipe"
_TOGETHER = 64  # answers that go to the cache in one transaction
_SOON = 1.0  # seconds after which fewer of them do
_IDEMPOTENT = SAFE | {"PUT", "DELETE"}


@dataclass(slots=True)
class _Job:
    """One record's request. key: what its answer is kept under. known: the answer of an earlier run."""

    request: Request | Fault
    key: bytes = b""
    known: Answer | None = None
    fresh: bool = False


@asynccontextmanager
async def enriching(stage: Any, context: Context) -> AsyncIterator[Work]:
    """The work of one run; when the block is left, its connections are closed and its answers are kept."""
    aiohttp = await library(context)
    maker = await context.io(_Maker, stage)
    cache: Cache | None = None
    if stage.cache is not None:
        cache = await settled(context.io(Cache, stage.cache), lambda opened: opened.close())
    keeper = _Keeper(cache, context)
    try:
        http = Http(
            aiohttp,
            context,
            method=stage.method,
            headers=maker.fixed,
            secrets=maker.secrets,
            guarded=bool(maker.secrets.values),
            timeout=stage.timeout,
            most=stage.max_response,
            take=Wanted(stage.paths).texts,
        )
        async with http:
            yield _work(stage, context, maker, keeper, http)
    finally:
        await settled(keeper.aclose())


def _work(stage: Any, context: Context, maker: _Maker, keeper: _Keeper, http: Http[tuple[str, ...]]) -> Work:
    attempts = Attempts(
        "fetch",
        retry=stage.retries,
        rate=stage.rate_limit,
        breaker=stage.breaker,
        retryable=_worth_it(stage.retries.on if stage.retries is not None else ()),
    )
    counts = attempts.counts

    async def ask(job: _Job) -> tuple[str, ...]:
        assert not isinstance(job.request, Fault)
        counts["asked"] += 1
        status, headers, texts = await http.ask(job.request)
        if texts is None:
            if job.known is None:
                raise AnswerError("HTTP 304, which was not asked for", again=False, status=status)
            counts["unchanged"] += 1
            keeper.keep(replace(job.known, saved=time.time()))
            return job.known.texts
        if job.key:
            keeper.keep(Answer(job.key, time.time(), headers.get("ETag", ""), headers.get("Last-Modified", ""), texts))
        return texts

    persistent = attempts.around(ask)

    async def call(job: _Job) -> Any:
        if job.fresh and job.known is not None:
            counts["cached"] += 1
            return job.known.texts
        if isinstance(job.request, Fault):
            raise PlainError(job.request.reason, job.request.hint, "request")
        keeper.check()
        try:
            return await persistent(job)
        except PlainError as error:
            error.fault = replace(error.fault, reason=maker.secrets.hidden(error.fault.reason))
            raise

    async def unpack(part: Any) -> tuple[Any, Sequence[Any]]:
        if not isinstance(part, Items) and not part.columns:
            return None, []  # an empty file has no columns, and no rows
        if keeper.cache is None and is_light(part):
            return None, maker.jobs(part, None)
        return None, await context.hop(maker.jobs, part, keeper.cache)

    async def pack(entry: Entry) -> Any:
        parcel = entry.parcel
        if isinstance(parcel, Items) or parcel.columns:
            made = maker.items if isinstance(parcel, Items) else maker.columns
            arguments = (parcel, entry.results, entry.faults)
            if not entry.faults and is_light(parcel, sum(len(t) for texts in entry.results for t in texts)):
                parcel = made(*arguments)
            else:
                parcel = await context.hop(made, *arguments)
        if counts:
            parcel = replace(parcel, noted=parcel.noted + attempts.taken())
        return parcel

    return Work("fetch", call, stage.concurrency, stage.ordered, unpack, pack)


def _worth_it(on: Sequence[str]) -> Any:
    """Whether a failure is worth another attempt: by its nature, and by what the user named."""
    statuses = {int(name) for name in on if name.isdigit()}
    named = exceptions_named([name for name in on if not name.isdigit()], "fetch")

    def again(error: BaseException) -> bool:
        if not isinstance(error, AnswerError):
            return False
        if not on:
            return error.again
        return error.status in statuses or isinstance(error.__cause__, named)

    return again


class _Maker:
    """Makes requests of records, and columns of answers. Reads the secrets, so it blocks a little."""

    def __init__(self, stage: Any) -> None:
        self._stage = stage
        url, headers, body = stage.parts
        every = [url, *headers.values(), *([body] if body is not None else [])]
        self.secrets = Secrets([name for t in every for name in t.secrets], "fetch")
        self.names = list(dict.fromkeys(name for t in every for name in t.fields))
        values = self.secrets.values
        self.fixed = {"User-Agent": _AGENT}
        self.fixed.update({n: t.filler([], values)(()) for n, t in headers.items() if not t.fields})
        _check_header_values(self.fixed)
        self._headers = {n: t.filler(self.names, values) for n, t in headers.items() if t.fields}
        self._url = url.filler(self.names, values)
        self._body = body.filler(self.names, values) if body is not None else None
        self._header = stage.idempotency_key if stage.method not in _IDEMPOTENT else ""
        # What makes two requests the same: the templates, with secrets by their names, and the fields they name.
        self._sent = blake2b(_plain([stage.method, stage.url, stage.headers, stage.body]), digest_size=16)
        self._taken = _plain(stage.into)

    def jobs(self, part: Any, cache: Cache | None) -> list[_Job]:
        """One for each record of a batch, or for each item."""
        if isinstance(part, Items):
            rows, places = self._of_items(part), None
        else:
            columns = [[v or "" for v in part.values(name).to_pylist()] for name in self.names]
            rows = list(zip(*columns, strict=True)) if columns else [()] * len(part)
            places = _places(part) if self._header else None
        made = [self._job(row, places[i] if places else None, cache is not None) for i, row in enumerate(rows)]
        if cache is not None:
            self._look_up(made, cache)
        return made

    def _of_items(self, part: Items) -> list[Any]:
        rows = []
        for value in part.values:
            if not isinstance(value, Mapping):
                raise UsageError(f"fetch works on rows, and gets {type(value).__name__}", hint="put a map before it")
            missing = [n for n in self.names if n not in value]
            if missing:
                raise UsageError(f"an item has no {missing[0]!r}", hint=f"it has {', '.join(map(str, value))}")
            rows.append(tuple("" if value[n] is None else str(value[n]) for n in self.names))
        return rows

    def _job(self, values: tuple[str, ...], place: Any, cached: bool) -> _Job:
        try:
            headers = {name: fill(values) for name, fill in self._headers.items()}
            body = self._body(values).encode() if self._body is not None else None
            url = self._url(values)
        except ValueError as error:  # a field that should hold JSON and does not, or a lone surrogate
            return _Job(Fault(f"no request can be made of the record: {error}", "look at its fields", kind="request"))
        key = b""
        if self._header or cached:
            sent = self._sent.copy()
            sent.update(_plain([values, place]))
            if self._header:
                headers[self._header] = str(uuid.UUID(bytes=sent.digest(), version=4))
            if cached:
                sent.update(self._taken)
                key = sent.digest()
        return _Job(Request(url, headers, body), key)

    def _look_up(self, jobs: list[_Job], cache: Cache) -> None:
        found = cache.find([job.key for job in jobs if job.key])
        oldest = None if self._stage.max_age is None else time.time() - self._stage.max_age
        for job in jobs:
            job.known = found.get(job.key)
            if job.known is None or isinstance(job.request, Fault):
                continue
            job.fresh = oldest is None or job.known.saved >= oldest
            if not job.fresh:
                asks = {"If-None-Match": job.known.etag, "If-Modified-Since": job.known.modified}
                job.request.headers = {**job.request.headers, **{n: v for n, v in asks.items() if v}}

    def items(self, part: Items, results: list[Any], faults: dict[int, Fault]) -> Items:
        """Items with what was answered."""
        names = [name for name, _ in self._stage.into]
        rows = [
            {**value, **dict(zip(names, texts or ("",) * len(names), strict=True))}
            for value, texts in zip(part.values, results, strict=True)
        ]
        try:
            made = items_made(part, rows, faults, self._stage.on_error)
        except AiopipeError as error:
            error.stage = "fetch"
            raise
        return made

    def columns(self, batch: Batch, results: list[Any], faults: dict[int, Fault]) -> Batch:
        """A batch with what was answered; records whose request failed are rejects, or stay as they were."""
        stage, keep = self._stage, self._stage.on_error == "keep"
        if faults and not keep:
            results = [r for i, r in enumerate(results) if i not in faults]
            batch = without(batch, faults, final=stage.on_error == "stop")
        names = [name for name, _ in stage.into]
        empty = ("",) * len(names)
        columns = list(zip(*[empty if r is None else r for r in results], strict=True)) or [()] * len(names)
        new = {name: self._column(batch, name, columns[k], faults) for k, name in enumerate(names)}
        made = batch.with_columns({name: column.values for name, column in new.items()})
        made = replace(made, columns=tuple(new.get(c.name, c) for c in made.columns))
        return replace(made, noted=(("kept", len(faults)),)) if faults and keep else made

    def _column(self, batch: Batch, name: str, texts: Sequence[str], faults: Mapping[int, Fault]) -> Column:
        """A new column; in one that was there, kept records keep their bytes."""
        if not faults or self._stage.on_error != "keep" or name not in batch.names:
            return Column(name, -1, text_array(texts))
        same = np.zeros(len(batch), np.bool_)
        same[list(faults)] = True
        mask = mask_array(same)
        values = pc.if_else(mask, batch.values(name), text_array(texts))
        return Column(
            name, -1, values, pc.if_else(mask, batch.raw(batch.column(name)), quoted(values, batch.body.header))
        )


def _plain(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode()


def _check_header_values(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if any(c in value for c in "\r\n\0"):
            raise UsageError(f"header {name} holds a line end", stage="fetch", hint="a header is one line")


def _places(batch: Batch) -> list[tuple[Any, ...]]:
    """Where each record stands: its file, its byte there, and how many before it came of the same record."""
    rows = range(len(batch.body)) if batch.rows is None else batch.rows.tolist()
    seen: dict[tuple[Any, ...], int] = {}
    places = []
    for row in rows:
        place = _place(batch.body, row)
        seen[place] = seen.get(place, -1) + 1
        places.append((*place, seen[place]))
    return places


def _place(body: Body, row: int) -> tuple[Any, ...]:
    while body.homes is not None:  # a stage wrote it anew: where it came from
        body, row = body.homes[row]
    start = int(body.starts[row])
    segment = body.segment_at(start)
    if segment.byte < 0:  # it was transcoded: its number in its part of the file
        return segment.file.relative, segment.part, body.number(row) - segment.first
    return segment.file.relative, segment.byte + start - segment.offset


class _Keeper:
    """Answers on their way into the cache: some at a time, and never by the loop's thread."""

    def __init__(self, cache: Cache | None, context: Context) -> None:
        self.cache = cache
        self._context = context
        self._waiting: list[Answer] = []
        self._since = 0.0
        self._writing: asyncio.Future[None] | None = None

    def keep(self, answer: Answer) -> None:
        """Take an answer; it is on the disk soon, and at the end of the run in any case."""
        if self.cache is None:
            return
        now = time.monotonic()
        if not self._waiting:
            self._since = now
        self._waiting.append(answer)
        idle = self._writing is None or self._writing.done()
        if idle and (len(self._waiting) >= _TOGETHER or now - self._since >= _SOON):
            self.check()
            some, self._waiting = self._waiting, []
            self._writing = asyncio.ensure_future(self._context.io(self.cache.keep, some))

    def check(self) -> None:
        """Raise what the last write raised."""
        if self._writing is not None and self._writing.done():
            writing, self._writing = self._writing, None
            writing.result()

    async def aclose(self) -> None:
        """Write what is left, and close the file."""
        if self.cache is None:
            return
        try:
            if self._writing is not None:
                await self._writing
            if self._waiting:
                await self._context.io(self.cache.keep, self._waiting)
        finally:
            await self._context.io(self.cache.close)
