"""The web as a source: one GET, its body in blocks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aiopipe.errors import InputError, UsageError
from aiopipe.model import Position
from aiopipe.storage.turns import Turns

__all__ = ["HttpBody", "client", "open_http", "words"]

_CONNECT = 30  # seconds
_SILENCE = 60  # seconds without a byte
_BUFFER = 1 << 19  # aiohttp holds up to twice this before it lets the server wait


def client() -> Any:
    """The aiohttp package; UsageError where it is not installed."""
    try:
        import aiohttp
    except ImportError:
        raise UsageError("aiohttp is not installed", hint="pip install 'aiopipe-csv[http]'") from None
    return aiohttp


class HttpBody(Turns):
    """The body of a response, unpacked where the server packed it; positions count unpacked bytes."""

    def __init__(self, name: str, session: Any, response: Any) -> None:
        super().__init__()
        self._shown = name
        self._session = session
        self._response = response
        self._bytes = 0

    async def more(self, size: int) -> bytes:
        """What has come; InputError where the connection broke, with the byte."""
        aiohttp = client()
        try:
            data: bytes = await self._response.content.readany()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise InputError(
                f"the connection failed: {words(error)}",
                position=Position(self._shown, byte=self._bytes),
                stage="read",
                hint="run it again",
            ) from None
        self._bytes += len(data)
        return data

    async def finish(self) -> None:
        """Close the connection; what has not come is not waited for."""
        self._response.close()
        await self._session.close()


async def open_http(url: str, headers: Mapping[str, str], name: str) -> HttpBody:
    """Ask for a URL, which messages call `name`; InputError where no answer comes, or another one than 200."""
    aiohttp = client()
    shown = Position(name)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_SILENCE)
    session = aiohttp.ClientSession(timeout=timeout, read_bufsize=_BUFFER, trust_env=True)
    try:
        response = await session.get(url, headers=dict(headers))
        if response.status != 200:
            response.close()
            raise InputError(
                f"the server answered {response.status} {response.reason or ''}".rstrip(),
                position=shown,
                stage="read",
                hint=_HINTS.get(response.status, "look at the address"),
            )
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        await session.close()
        raise InputError(
            f"no answer: {words(error)}", position=shown, stage="read", hint="check the address and the network"
        ) from None
    except BaseException:
        await session.close()
        raise
    return HttpBody(name, session, response)


_HINTS = {
    401: "say who you are: --headers Authorization=env:NAME",
    403: "the server lets others read it, or other headers: --headers NAME=VALUE",
    404: "check the address",
    429: "run it again later",
}


def words(error: BaseException) -> str:
    """What happened, on one line and without the address, which may hold a key."""
    text = getattr(error, "message", "") or str(error) or type(error).__name__
    return re.sub(r"https?://\S+", "(the address)", " ".join(str(text).split()))
