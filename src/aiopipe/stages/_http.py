"""One shared HTTP session for a run of `fetch`: requests that are bounded in time and size, and failures in words.

aiohttp is imported when a run begins, in a thread: it takes a tenth of a second.
"""

from __future__ import annotations

import asyncio
import importlib
import math
import re
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from aiopipe.errors import UsageError
from aiopipe.stage import Context
from aiopipe.stages._calls import PlainError
from aiopipe.stages._template import Secrets

__all__ = ["SAFE", "AnswerError", "Http", "Request", "Response", "library", "retry_after"]

T = TypeVar("T")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
AGAIN = frozenset({408, 425, 429})  # of the 4xx; and all 5xx but those that say "never"
_NEVER = frozenset({501, 505})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_PIECE = 200  # characters of an answer that a message shows
_SMALL = 262_144  # bytes of an answer that any call may hold
_HINT = "see what the service says, or set such records aside with --rejects FILE"
_SENSITIVE = frozenset({"authorization", "proxy-authorization", "cookie"})


class AnswerError(PlainError):
    """No answer, or one that cannot be used. again: another attempt may help."""

    def __init__(
        self, reason: str, *, again: bool, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(reason, _HINT, "request")
        self.again = again
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent. url: as it goes over the wire. headers: those that are not the same for all requests."""

    url: str
    headers: Mapping[str, str]
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Response:
    """What came back, whole."""

    status: int
    headers: Mapping[str, str]
    text: str


Use = Callable[[Response], Awaitable[T]]


async def library(context: Context) -> Any:
    """aiohttp; UsageError with the command that installs it where it is missing."""
    try:
        return await context.hop(importlib.import_module, "aiohttp")
    except ImportError:
        raise UsageError(
            "fetch needs aiohttp, which is not installed", stage="fetch", hint="pip install 'aiopipe-csv[http]'"
        ) from None


class Http:
    """The session. Open it with `async with`; when the block is left, no connection is."""

    def __init__(
        self,
        aiohttp: Any,
        context: Context,
        *,
        method: str,
        headers: Mapping[str, str],
        secrets: Secrets,
        guarded: bool,
        connections: int,
        timeout: float,
        most: int,
    ) -> None:
        """headers: the same for all requests. guarded: they, or the URL, hold what no other host must see.

        timeout: seconds for one attempt. most: bytes that an answer may have.
        """
        self._aiohttp = aiohttp
        self._context = context
        self._method = method
        self._headers = headers
        self._secrets = secrets
        self._guarded = guarded or any(name.lower() in _SENSITIVE for name in headers)
        self._connections = connections
        self._timeout = timeout
        self._most = most
        # Answers that are not small are read by few at a time: together they keep to the run's memory.
        self._large = asyncio.Semaphore(max(1, context.memory // 4 // most))
        self._trouble = (aiohttp.ClientError, OSError, TimeoutError, asyncio.IncompleteReadError)
        self._url = importlib.import_module("yarl").URL

    async def __aenter__(self) -> Http:
        aiohttp = self._aiohttp
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, resolver=_resolver(aiohttp, self._context.io)),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),
            headers=self._headers,
        )
        # aiohttp would send a GET once more by itself; attempts are counted, spread and spaced by us.
        self._session._retry_connection = False
        return self

    async def __aexit__(self, *_: object) -> None:
        from aiopipe.storage.settle import settled

        await settled(self._session.close())

    async def ask(self, request: Request, use: Use[T]) -> T:
        """What `use` makes of the answer to one attempt; a status that is no success, nor 304, is an AnswerError."""
        clock = asyncio.timeout(self._timeout)
        try:
            async with clock:
                return await self._follow(request, clock, use)
        except self._trouble as error:
            if isinstance(error, TimeoutError) and clock.expired():
                raise AnswerError(f"no answer within {self._timeout:g} s", again=True) from error
            again = not isinstance(error, (self._aiohttp.InvalidURL, self._aiohttp.ClientSSLError))
            raise AnswerError(self._told(error), again=again) from error
        except ValueError as error:  # a header with a line end in it, a host that cannot be
            raise AnswerError(self._told(error), again=False) from error

    def _told(self, error: BaseException) -> str:
        text = " ".join(str(error).split())
        return self._secrets.hidden(f"{type(error).__name__}: {text}" if text else type(error).__name__)[:500]

    async def _follow(self, request: Request, clock: asyncio.Timeout, use: Use[T]) -> T:
        url, method, body = self._url(request.url, encoded=True), self._method, request.body
        for _ in range(_MOST_REDIRECTS + 1):
            response = await self._session.request(
                method, url, headers=request.headers, data=body, allow_redirects=False
            )
            try:
                status = response.status
                target = response.headers.get("Location") if status in _REDIRECTS else None
                if target is None:
                    return await self._whole(response, clock, use)
                response.close()
            except BaseException:
                response.close()
                raise
            url = self._redirected(url, target, status)
            if status == 303 or (status in (301, 302) and method == "POST"):
                method, body = ("GET" if method != "HEAD" else method), None
        raise AnswerError(f"redirected more than {_MOST_REDIRECTS} times", again=False)

    def _redirected(self, url: Any, target: str, status: int) -> Any:
        new = url.join(self._url(target))
        if new.scheme not in ("http", "https") or (url.scheme == "https" and new.scheme == "http"):
            raise AnswerError(f"HTTP {status}: redirected from {url.scheme} to {new.scheme}", again=False)
        if new.origin() != url.origin() and self._guarded:
            raise AnswerError(
                f"HTTP {status}: redirected to {new.host}, which must not get the secrets meant for {url.host}",
                again=False,
            )
        return new

    async def _whole(self, response: Any, clock: asyncio.Timeout, use: Use[T]) -> T:
        status = response.status
        good = 200 <= status < 300
        length = response.headers.get("Content-Length", "")
        if good and length.isdigit() and int(length) > self._most:
            raise AnswerError(f"HTTP {status}: the answer has {int(length):,} bytes, {self._limit}", again=False)
        some = [await response.content.readany()]
        if response.content.at_eof():
            return await self._used(response, some[0], clock, use)
        if not good:
            return await self._used(response, await self._beginning(response, some), clock, use)
        size = await self._read(response, some, _SMALL)
        if size <= _SMALL:
            return await self._used(response, b"".join(some), clock, use)
        await self._turn(clock)
        try:
            if await self._read(response, some, self._most) > self._most:
                response.close()
                raise AnswerError(f"HTTP {status}: the answer has {self._limit} bytes", again=False)
            data = b"".join(some)
            some.clear()
            return await self._used(response, data, clock, use)
        finally:
            self._large.release()

    async def _used(self, response: Any, data: bytes, clock: asyncio.Timeout, use: Use[T]) -> T:
        clock.reschedule(None)  # it has answered in time
        status = response.status
        text = await self._decoded(data, response.charset or "utf-8")
        if 200 <= status < 300 or status == 304:
            return await use(Response(status, response.headers, text))
        piece = self._secrets.hidden(" ".join(text[: 4 * _PIECE].split()))[:_PIECE]
        reason = f"HTTP {status} {response.reason or ''}".rstrip() + (f": {piece}" if piece else "")
        again = status in AGAIN or (status >= 500 and status not in _NEVER)
        raise AnswerError(
            self._secrets.hidden(reason),
            again=again,
            status=status,
            retry_after=retry_after(response.headers.get("Retry-After")) if again else None,
        )

    @property
    def _limit(self) -> str:
        return f"more than {self._most:,} (--max-response)"

    async def _read(self, response: Any, some: list[bytes], most: int) -> int:
        """Read on to the end of the answer, or until there are more than `most` bytes; how many there are."""
        content, size = response.content, sum(map(len, some))
        while size <= most and not content.at_eof():
            data = await content.readany()
            some.append(data)
            size += len(data)
        return size

    async def _beginning(self, response: Any, some: list[bytes]) -> bytes:
        """Of an answer that is a failure no more than a message can show."""
        if await self._read(response, some, _SMALL) > _SMALL:
            response.close()
        return b"".join(some)

    async def _turn(self, clock: asyncio.Timeout) -> None:
        """Wait to be one of the few who read a large answer; that is our doing, and does not count as time."""
        when, loop = clock.when(), asyncio.get_running_loop()
        left = None if when is None else when - loop.time()
        clock.reschedule(None)
        await self._large.acquire()
        if left is not None:
            clock.reschedule(loop.time() + max(left, 0.001))

    async def _decoded(self, data: bytes, charset: str) -> str:
        try:
            if len(data) > _SMALL:
                return await self._context.hop(data.decode, charset, "replace" if charset != "utf-8" else "strict")
            return data.decode(charset)
        except (UnicodeDecodeError, LookupError):
            return data.decode("utf-8", "replace")


def retry_after(header: str | None) -> float | None:
    """Seconds from a Retry-After header, which has a number of them or a date (RFC 9110, section 10.2.3)."""
    if header is None:
        return None
    header = header.strip()
    if re.fullmatch(r"\d{1,9}", header):
        return float(header)
    try:
        return max(0.0, math.ceil(parsedate_to_datetime(header).timestamp() - time.time()))
    except (ValueError, TypeError, OverflowError):
        return None


def _resolver(aiohttp: Any, io: Callable[..., Awaitable[Any]]) -> Any:
    """Names looked up in the run's own threads: those of the loop's default executor would outlive it."""

    class Resolver(aiohttp.abc.AbstractResolver):  # type: ignore[misc]
        async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[dict[str, Any]]:
            found = await io(
                socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, 0, getattr(socket, "AI_ADDRCONFIG", 0)
            )
            return [
                {"hostname": host, "host": address[0], "port": address[1], "family": kind, "proto": proto,
                 "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV}
                for kind, _, proto, _, address in found
            ]  # fmt: skip

        async def close(self) -> None:
            pass

    return Resolver()
