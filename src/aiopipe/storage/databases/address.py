"""Where a table is: `sqlite:///FILE#TABLE`, `postgresql://USER@HOST/DATABASE#TABLE`; and how it is to be filled."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiopipe.errors import UsageError, nearest
from aiopipe.storage.urls import is_url

__all__ = ["Address", "Filling", "address_of", "unit_name"]

WRITABLE = ("sqlite", "postgresql")
_HINT = "such as 'sqlite:///file.db#table' (sqlite://// begins an absolute path) or 'postgresql://host/database#table'"


@dataclass(frozen=True, slots=True)
class Address:
    """scheme: "sqlite" or "postgresql". database: a path, or what libpq connects to. table: its name, perhaps
    SCHEMA.NAME. shown: what messages say, without a password."""

    scheme: str
    database: str
    table: str
    shown: str


@dataclass(frozen=True, slots=True)
class Filling:
    """How rows go into a table; the options of `write` for databases, see there.

    append: no unit owns the rows, so the table needs no column that says which.
    """

    on_conflict: str = "error"
    empty: str = "null"
    unit_column: str = "_unit"
    types: tuple[tuple[str, str], ...] = ()
    key: tuple[str, ...] = ()
    append: bool = False


def address_of(to: str) -> Address | None:
    """The table that an address names, None for a path; UsageError for one that cannot be written."""
    if not is_url(to):
        return None
    scheme = to.partition("://")[0].lower()
    scheme = "postgresql" if scheme == "postgres" else scheme
    if scheme not in WRITABLE:
        raise UsageError(
            f"{scheme}:// cannot be written to",
            stage="write",
            hint=nearest(scheme, (*WRITABLE, "https", "tcp", "unix")),
        )
    rest, _, table = to.partition("#")
    table = table.strip()
    if not table or re.search(r"[\s;\"'\0]", table):
        raise UsageError(f"{_bare(rest)!r} names no table", stage="write", hint=_HINT)
    if scheme == "postgresql":
        return Address(scheme, rest, table, f"{_bare(rest)}#{table}")
    path = rest[len("sqlite://") :]
    if not path.startswith("/") or len(path) < 2:
        raise UsageError(f"{to!r} names no file", stage="write", hint=_HINT)
    return Address(scheme, path[1:], table, f"{path[1:]}#{table}")


def _bare(url: str) -> str:
    """The address without a password and a query, which may hold one."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return f"{parts.scheme}://{user.partition(':')[0]}{at}{host}{parts.path}"


def unit_name(relative: str) -> str:
    """What the rows of an input file are marked with: its path below the job's root, as text; no two give the same.

    >>> unit_name("2024/a.csv")
    '2024/a.csv'
    """
    raw = os.fsencode(relative).replace(b"\0", b"")
    if os.sep == "\\":
        return relative.replace("\\", "/")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return raw.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    return text.replace("\\", "\\\\")
