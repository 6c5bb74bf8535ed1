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
from typing import Any, Generic, TypeVar

from aiopipe.errors import UsageError
from aiopipe.stage import Context
from aiopipe.stages._calls import PlainError
from aiopipe.stages._deadlines import Deadline, Deadlines
from aiopipe.stages._template import Secrets

__all__ = ["SAFE", "AnswerError", "Http", "Request", "library", "retry_after"]

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


@dataclass(slots=True)  # not frozen: that makes one three times as slow, and there is one for each record
class Request:
    """What is sent. url: as it goes over the wire. headers: those that are not the same for all requests."""

    url: str
    headers: Mapping[str, str]
    body: bytes | None


Headers = Mapping[str, str]
Take = Callable[[str, int, Headers], T]


async def library(context: Context) -> Any:
    """aiohttp; UsageError with the command that installs it where it is missing."""
    try:
        return await context.hop(importlib.import_module, "aiohttp")
    except ImportError:
        raise UsageError(
            "fetch needs aiohttp, which is not installed", stage="fetch", hint="pip install 'aiopipe-csv[http]'"
        ) from None


class Http(Generic[T]):
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
        timeout: float,
        most: int,
        take: Take[T],
    ) -> None:
        """headers: the same for all requests. guarded: they, or the URL, hold what no other host must see.

        timeout: seconds for one attempt. most: bytes that an answer may have. take: what is kept of an answer, out
        of its text, status and headers; for a large one it is called in a thread.
        """
        self._aiohttp = aiohttp
        self._context = context
        self._method = method
        self._headers = headers
        self._secrets = secrets
        self._guarded = guarded or any(name.lower() in _SENSITIVE for name in headers)
        self._timeout = timeout
        self._deadlines = Deadlines(timeout)
        self._most = most
        self._take = take
        # Answers that are not small are read by few at a time: together they keep to the run's memory.
        self._large = asyncio.Semaphore(max(1, context.memory // 4 // most))
        self._trouble = (aiohttp.ClientError, OSError, TimeoutError, asyncio.IncompleteReadError)
        self._url = importlib.import_module("yarl").URL

    async def __aenter__(self) -> Http[T]:
        aiohttp = self._aiohttp
        self._session = aiohttp.ClientSession(
            # No limit: there are as many connections as calls, and whoever makes them counts those.
            connector=aiohttp.TCPConnector(limit=0, resolver=_resolver(aiohttp, self._context.io)),
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

    async def ask(self, request: Request) -> tuple[int, Headers, T | None]:
        """Status, headers, and what was taken of the answer to one attempt; nothing is of a 304.

        Any other status that is no success is an AnswerError.
        """
        try:
            with self._deadlines.begin() as deadline:
                response = await self._session.request(
                    self._method,
                    self._url(request.url, encoded=True),
                    headers=request.headers,
                    data=request.body,
                    allow_redirects=False,
                )
                try:
                    status, headers = response.status, response.headers
                    if status in _REDIRECTS and "Location" in headers:
                        response = await self._redirected(response, request)
                        status, headers = response.status, response.headers
                    if status != 200 or not response.content.is_eof():
                        return await self._answered(response, deadline)
                    # The usual case, and what follows cheap: all of a small answer has come with its head.
                    data = response.content.read_nowait()
                    if len(data) > self._most:
                        raise self._too_large(status)
                    return status, headers, self._take(_decoded(data, response), status, headers)
                except BaseException:
                    response.close()
                    raise
        except self._trouble as error:
            if isinstance(error, TimeoutError) and deadline.expired:
                raise AnswerError(f"no answer within {self._timeout:g} s", again=True) from error
            again = not isinstance(error, (self._aiohttp.InvalidURL, self._aiohttp.ClientSSLError))
            raise AnswerError(self._told(error), again=again) from error
        except ValueError as error:  # a header with a line end in it, a host that cannot be
            raise AnswerError(self._told(error), again=False) from error

    def _told(self, error: BaseException) -> str:
        text = " ".join(str(error).split())
        return self._secrets.hidden(f"{type(error).__name__}: {text}" if text else type(error).__name__)[:500]

    async def _redirected(self, response: Any, request: Request) -> Any:
        """The answer from where the first one sent us."""
        method, body = self._method, request.body
        for _ in range(_MOST_REDIRECTS):
            status = response.status
            response.close()
            url = self._target(response.url, response.headers["Location"], status)
            if status == 303 or (status in (301, 302) and method == "POST"):
                method, body = ("GET" if method != "HEAD" else method), None
            response = await self._session.request(
                method, url, headers=request.headers, data=body, allow_redirects=False
            )
            if response.status not in _REDIRECTS or "Location" not in response.headers:
                return response
        response.close()
        raise AnswerError(f"redirected more than {_MOST_REDIRECTS} times", again=False)

    def _target(self, url: Any, target: str, status: int) -> Any:
        new = url.join(self._url(target))
        if new.scheme not in ("http", "https") or (url.scheme == "https" and new.scheme == "http"):
            raise AnswerError(f"HTTP {status}: redirected from {url.scheme} to {new.scheme}", again=False)
        if new.origin() != url.origin() and self._guarded:
            raise AnswerError(
                f"HTTP {status}: redirected to {new.host}, which must not get the secrets meant for {url.host}",
                again=False,
            )
        return new

    async def _answered(self, response: Any, deadline: Deadline) -> tuple[int, Headers, T | None]:
        """An answer that is large, or slow, or no success."""
        status, headers = response.status, response.headers
        good = 200 <= status < 300
        length = headers.get("Content-Length", "")
        if good and length.isdigit() and int(length) > self._most:
            raise self._too_large(status, int(length))
        some: list[bytes] = []
        size = await self._read(response, some, _SMALL)
        if not good:
            deadline.lift()  # it has answered in time
            if size > _SMALL:
                response.close()  # a message shows no more of it
            if status == 304:
                return status, headers, None
            raise self._failure(response, _decoded(b"".join(some), response))
        if size <= _SMALL:
            if size > self._most:
                raise self._too_large(status)
            return status, headers, self._take(_decoded(b"".join(some), response), status, headers)
        return status, headers, await self._large_one(response, some, deadline)

    async def _large_one(self, response: Any, some: list[bytes], deadline: Deadline) -> T:
        """Read on, and take what is wanted in a thread. To wait for our turn is our doing, and not its time."""
        left = max(deadline.left(), 0.001)
        deadline.lift()
        async with self._large:
            try:
                async with asyncio.timeout(left):
                    size = await self._read(response, some, self._most)
            except TimeoutError as error:
                raise AnswerError(f"no answer within {self._timeout:g} s", again=True) from error
            if size > self._most:
                raise self._too_large(response.status)
            data = b"".join(some)
            some.clear()
            made: T = await self._context.hop(self._taken, data, response)
            return made

    def _taken(self, data: bytes, response: Any) -> T:
        return self._take(_decoded(data, response), response.status, response.headers)

    async def _read(self, response: Any, some: list[bytes], most: int) -> int:
        """Read on to the end of the answer, or until there are more than `most` bytes; how many there are."""
        content, size = response.content, sum(map(len, some))
        while size <= most and not content.at_eof():
            data = await content.readany()
            some.append(data)
            size += len(data)
        return size

    def _too_large(self, status: int, size: int | None = None) -> AnswerError:
        has = f"{size:,} bytes, more than {self._most:,}" if size else f"more than {self._most:,} bytes"
        return AnswerError(f"HTTP {status}: the answer has {has} (--max-response)", again=False)

    def _failure(self, response: Any, text: str) -> AnswerError:
        status = response.status
        piece = self._secrets.hidden(" ".join(text[: 4 * _PIECE].split()))[:_PIECE]
        reason = f"HTTP {status} {response.reason or ''}".rstrip() + (f": {piece}" if piece else "")
        again = status in AGAIN or (status >= 500 and status not in _NEVER)
        return AnswerError(
            self._secrets.hidden(reason),
            again=again,
            status=status,
            retry_after=retry_after(response.headers.get("Retry-After")) if again else None,
        )


def _decoded(data: bytes, response: Any) -> str:
    """The text of an answer, in the encoding that it tells; as UTF-8 with gaps where that is wrong."""
    kind = response.headers.get("Content-Type", "")
    charset = (response.charset or "utf-8") if "charset" in kind.lower() else "utf-8"
    try:
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
