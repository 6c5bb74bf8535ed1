"""Addresses that are no paths: what they are called in reports, and what an output made of them is called."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from aiopipe.errors import UsageError, nearest
from aiopipe.tuples import NamedTuple

if TYPE_CHECKING:
    from urllib.parse import SplitResult

__all__ = ["Socket", "database_of", "is_http", "is_socket", "is_url", "name_of", "shown_url", "socket_of"]

READABLE = ("http", "https", "sqlite", "tcp", "unix")


def _split(url: str) -> SplitResult:
    from urllib.parse import urlsplit  # 3 ms to import, which runs over files need not wait for

    return urlsplit(url)


def is_url(path: str) -> bool:
    """Whether this is an address and not a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path) is not None


def is_http(path: str) -> bool:
    """Whether this is an address of the web."""
    return path[:8].lower().startswith(("http://", "https://"))


def is_socket(path: str) -> bool:
    """Whether this is the address of a socket."""
    return path[:7].lower().startswith(("tcp://", "unix://"))


class Socket(NamedTuple):
    """Where somebody listens: host and port, or a path."""

    host: str = ""
    port: int = 0
    path: str = ""


def socket_of(url: str, stage: str = "read") -> Socket:
    """The address in `tcp://HOST:PORT` or `unix:///PATH`; UsageError where it is none.

    >>> socket_of("tcp://[::1]:9000"), socket_of("unix:///run/rows.sock").path
    (Socket(host='::1', port=9000, path=''), '/run/rows.sock')
    """
    if url[:7].lower() == "unix://":
        if len(url) < 9 or url[7] != "/" or "\0" in url:
            raise UsageError(f"{url!r} names no socket", stage=stage, hint="such as unix:///run/rows.sock")
        return Socket(path=url[7:])
    try:
        parts = _split(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise UsageError(f"{url!r} is no host and port", stage=stage, hint="such as tcp://127.0.0.1:9000")
    return Socket(host, port)


def shown_url(url: str) -> str:
    """The address as messages and reports show it: without a password, and without a query, which may hold a key."""
    if not is_http(url):
        return url
    parts = _split(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def name_of(url: str) -> str:
    """What a file made of it is called: the last part of the path, or that of the database, as .csv."""
    if url.startswith("sqlite:"):
        return os.path.splitext(os.path.basename(database_of(url)[0]))[0] + ".csv"
    if is_socket(url):
        return "stream.csv"
    return os.path.basename(_split(url).path.rstrip("/")) or "download.csv"


def database_of(url: str) -> tuple[str, str]:
    """The file and the query in `sqlite:///FILE#QUERY`; UsageError where one is missing."""
    path, _, query = url.removeprefix("sqlite://").partition("#")
    if not path.startswith("/") or len(path) < 2 or not query.strip():
        raise UsageError(
            f"{url!r} names no query",
            hint="such as 'sqlite:///file.db#SELECT * FROM t' (sqlite://// begins an absolute path), or #t alone",
        )
    return path[1:], query.strip()


def refuse_unreadable(url: str) -> None:
    """UsageError for an address that nothing here can read."""
    scheme = url.partition("://")[0].lower()
    if scheme not in READABLE:
        raise UsageError(f"{scheme}:// cannot be read", hint=nearest(scheme, READABLE))
    if scheme == "sqlite":
        database_of(url)
    elif is_socket(url):
        socket_of(url)
    elif not _split(url).hostname:
        raise UsageError(f"{url!r} names no host", hint="such as https://example.com/file.csv")
