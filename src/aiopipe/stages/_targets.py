"""Where `write` gives records to that is no file: functions, stream writers, addresses of the web."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from aiopipe.codec.dialect import Dialect
from aiopipe.codec.rows import csv_lines
from aiopipe.errors import AiopipeError, OutputError
from aiopipe.model import Position, display_path
from aiopipe.stage import Context, Outcome
from aiopipe.storage.http import client, words
from aiopipe.storage.secrets import looked_up
from aiopipe.storage.sockets import SocketTarget
from aiopipe.storage.urls import is_socket, shown_url
from aiopipe.tuples import NamedTuple

__all__ = ["deliver", "is_target", "is_writer"]

_TOGETHER = 1000  # rows
_ATTEMPTS = 5
_WAIT = 0.5  # seconds before the second attempt, twice that before the third, ...
_LONGEST = 60.0
_AGAIN = (408, 425, 429, 500, 502, 503, 504)


def is_writer(value: object) -> bool:
    """Whether this is an asyncio.StreamWriter, or like one."""
    return callable(getattr(value, "write", None)) and inspect.iscoroutinefunction(getattr(value, "drain", None))


def is_target(value: object) -> bool:
    """Whether records can be given to this: a writer, or an async callable."""
    call = getattr(value, "__call__", None)  # noqa: B004 - an object's own
    return is_writer(value) or inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(call)


class _Some(NamedTuple):
    """Rows that go together: the number of the first, counted from 0, and the input they come from, if it is known."""

    rows: list[Any]
    first: int
    path: str = ""

    def __str__(self) -> str:
        place = f" of {display_path(self.path)}" if self.path else ""
        return (
            f"records {self.first + 1} to {self.first + len(self.rows)} of the output{place and f', the last{place}'}"
        )


async def deliver(sink: Any, parcels: AsyncIterator[Any], context: Context) -> Outcome:
    """Give everything to the target of a `write` stage; what it has taken is counted."""
    if sink.target is None and is_socket(sink.to):
        async with SocketTarget(sink.to, context.io) as socket:
            return await _as_bytes(socket.give, parcels, sink.to)
    if sink.target is None:
        return await _to_address(sink, parcels, context)
    if sink.gives_rows:
        return await _to_function(sink, parcels)
    if is_writer(sink.target):
        return await _as_bytes(_drained(sink.target), parcels, sink.to)
    return await _as_bytes(sink.target, parcels, sink.to)


async def _batches(parcels: AsyncIterator[Any], size: int) -> AsyncGenerator[_Some, None]:
    """The rows of all parcels, `size` at a time; the rest at the end."""
    waiting: list[Any] = []
    given, path = 0, ""
    async for parcel in parcels:
        segments = getattr(parcel, "segments", ())
        path = segments[-1].file.path if segments else path
        waiting.extend(parcel.values)
        at = 0
        while len(waiting) - at >= size:
            yield _Some(waiting[at : at + size], given, path)
            at, given = at + size, given + size
        del waiting[:at]
    if waiting:
        yield _Some(waiting, given, path)


async def _to_function(sink: Any, parcels: AsyncIterator[Any]) -> Outcome:
    outcome = Outcome()
    async with aclosing(_batches(parcels, sink.batch or _TOGETHER)) as batches:
        async for some in batches:
            try:
                await sink.target(some.rows)
            except AiopipeError:
                raise
            except Exception as error:
                raise _refused(sink.to, error, str(some), some.path) from error
            outcome.records += len(some.rows)
    return outcome


def _refused(name: str, error: Exception, what: str, path: str = "") -> OutputError:
    return OutputError(
        f"{name} raised {type(error).__name__}: {error} ({what})",
        position=Position(path) if path else None,
        stage="write",
        hint="batches before it were taken; look at what the function does",
    )


def _drained(writer: Any) -> Callable[[bytes], Awaitable[None]]:
    """Write, and wait until the other end keeps up."""

    async def give(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    return give


async def _as_bytes(give: Callable[[bytes], Awaitable[Any]], parcels: AsyncIterator[Any], name: str) -> Outcome:
    """The bytes of one output, header and all, piece by piece; nothing is closed at the end."""
    from aiopipe.stages._joined import joined_pieces

    outcome = Outcome(files=1)
    async with aclosing(joined_pieces(parcels)) as pieces:
        async for records, piece in pieces:
            data = bytes(piece)
            try:
                await give(data)
            except AiopipeError:
                raise
            except Exception as error:
                raise _refused(name, error, f"byte {outcome.nbytes} of the output") from error
            outcome.nbytes += len(data)
            outcome.records += records
    return outcome


async def _to_address(sink: Any, parcels: AsyncIterator[Any], context: Context) -> Outcome:
    """One POST for each batch, one after the other, each with a key by which the server knows it again."""
    aiohttp = client()
    outcome = Outcome()
    style = sink.format or "jsonl"
    kind = {"jsonl": "application/x-ndjson", "csv": "text/csv", "tsv": "text/tab-separated-values"}[style]
    headers = {"Content-Type": kind, **{key: looked_up(value, "write") for key, value in sink.headers}}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
    async with (
        aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
        aclosing(_batches(parcels, sink.batch or _TOGETHER)) as batches,
    ):
        async for some in batches:
            body = await context.hop(_body, some, style)
            # The same records at the same place have the same key, in another run as well.
            key = hashlib.sha256(f"{sink.to}\n{some.first}\n".encode() + body).hexdigest()[:32]
            await _post(session, sink.to, body, {**headers, "Idempotency-Key": key}, some)
            outcome.records += len(some.rows)
            outcome.nbytes += len(body)
    return outcome


def _body(some: _Some, style: str) -> bytes:
    from aiopipe.codec.items import as_mapping

    rows = [as_mapping(row) for row in some.rows]
    if style == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows).encode()
    names = tuple(rows[0])
    odd = next((row for row in rows if row.keys() != rows[0].keys()), None)
    if odd is not None:
        raise OutputError(
            f"columns differ: {', '.join(names)}, then {', '.join(odd)}",
            stage="write",
            hint="use select before write, or write --format jsonl",
        )
    delimiter = Dialect("tab" if style == "tsv" else ",").delimiter
    return csv_lines([names, *([row[n] for n in names] for row in rows)], delimiter, names, some.first)


async def _post(session: Any, url: str, body: bytes, headers: dict[str, str], some: _Some) -> None:
    """Send it until the server has it; OutputError when it refuses, or after the last attempt."""
    import random

    aiohttp = client()
    for attempt in range(1, _ATTEMPTS + 1):
        wait = min(_WAIT * 2 ** (attempt - 1) * (1 + random.random() / 4), _LONGEST)
        try:
            async with session.post(url, data=body, headers=headers) as response:
                if response.status < 300:
                    await response.read()
                    return
                said = (await response.content.read(200)).decode("utf-8", "replace").split()
                why = f"the server answered {response.status} {response.reason or ''} {' '.join(said)}".rstrip()
                again = response.status in _AGAIN
                told = response.headers.get("Retry-After", "")
                wait = min(float(told), _LONGEST) if told.isdecimal() else wait
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why, again = f"the connection failed: {words(error)}", True
        if not again or attempt == _ATTEMPTS:
            tried = f" after {attempt} attempts" if again else ""
            raise OutputError(
                f"{why}{tried} ({some})",
                position=Position(shown_url(url)),
                stage="write",
                hint="batches before it were taken; what is sent again has the same Idempotency-Key",
            )
        await asyncio.sleep(wait)
