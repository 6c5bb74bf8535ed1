"""Where a table is: `sqlite:///FILE#TABLE`, `postgresql://USER@HOST/DATABASE#TABLE`; and how it is to be filled."""

from __future__ import annotations

import os
import re

from aiopipe.errors import UsageError, nearest
from aiopipe.storage.urls import is_url
from aiopipe.tuples import NamedTuple

__all__ = ["Address", "Filling", "address_of", "unit_name"]

WRITABLE = ("sqlite", "postgresql")
_HINT = "such as 'sqlite:///file.db#table' (sqlite://// begins an absolute path) or 'postgresql://host/database#table'"


class Address(NamedTuple):
    """scheme: "sqlite" or "postgresql". database: a path, or what libpq connects to. table: its name, perhaps
    SCHEMA.NAME. shown: what messages say, without a password."""

    scheme: str
    database: str
    table: str
    shown: str

    @property
    def secrets(self) -> tuple[str, ...]:
        """The password in the address, as it is written, as it is meant, and the pieces a parser may take it for."""
        if self.scheme == "sqlite":
            return ()
        from urllib.parse import parse_qsl, unquote, urlsplit

        user, _, _ = self.database.partition("://")[2].rpartition("@")
        asked = [value for name, value in parse_qsl(urlsplit(self.database).query) if "password" in name]
        whole = [secret for secret in (user.partition(":")[2], *asked) if secret]
        pieces = [piece for secret in whole for piece in re.split(r"[/:?#@]", secret) if len(piece) > 2]
        return tuple(dict.fromkeys(form for secret in (*whole, *pieces) for form in (secret, unquote(secret))))


class Filling(NamedTuple):
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
    if "@" in table and scheme == "postgresql":  # a # in a password
        rest, _, table = to.rpartition("#")
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
    scheme, _, rest = url.partition("://")
    user, at, host = rest.rpartition("@")  # the last one: a password may hold one, and a slash, as people write them
    return f"{scheme}://{re.split('[:/?]', user)[0]}{at}{host.partition('?')[0]}"


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
