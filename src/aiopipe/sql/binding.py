"""Names and types: which column of the file each name means, and what type DuckDB gives the expression."""

from __future__ import annotations

from collections.abc import Mapping

from aiopipe.codec.types import parse_type
from aiopipe.errors import ExpressionError, nearest
from aiopipe.sql.caret import char_of_byte, expression_error
from aiopipe.sql.session import ask, describe_error, errors, identifier
from aiopipe.sql.syntax import BEFORE, Parsed, Reference, wrap
from aiopipe.tuples import NamedTuple

__all__ = ["Column", "bind", "quoted", "resolve"]

# DuckDB's own spelling -> ours
_TYPE_NAMES = {"TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ", '"NULL"': "NULL"}


class Column(NamedTuple):
    """A column an expression needs: its name in the file, its type, and the names it is written by."""

    name: str
    type: str
    written: tuple[str, ...]


def resolve(parsed: Parsed, types: Mapping[str, str]) -> tuple[Column, ...]:
    """The columns that an expression's names mean: the exact name, else the only one that differs in case."""
    meant: dict[str, list[str]] = {}
    for reference in parsed.references:
        name = _find(parsed.text, reference, types)
        written = meant.setdefault(name, [])
        if reference.name not in written:
            written.append(reference.name)
    _check_distinct(parsed.text, list(meant))
    return tuple(Column(name, parse_type(types[name]), tuple(written)) for name, written in meant.items())


def _find(text: str, reference: Reference, types: Mapping[str, str]) -> str:
    if reference.name in types:
        return reference.name
    alike = [name for name in types if name.lower() == reference.name.lower()]
    if len(alike) == 1:
        return alike[0]
    if alike:
        message = f"{reference.name} may mean {' or '.join(alike)}"
        raise expression_error(message, text, reference.at, "write the name in the case of the file")
    hint = nearest(reference.name, types)
    close = hint.removeprefix("did you mean ").removesuffix("?")
    if close in types and close != quoted(close):
        hint = f"did you mean {quoted(close)}?"
    raise expression_error(f"no column {reference.name}", text, reference.at, hint)


def _check_distinct(text: str, names: list[str]) -> None:
    """DuckDB does not tell Amount from amount: both in one expression would be one column."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise expression_error(
                f"{other} and {name} differ in case only, SQL takes them for one",
                text,
                None,
                "rename one of them first",
            )


def quoted(name: str) -> str:
    """A column name as it must be written in an expression."""
    plain = name.isascii() and name.isidentifier()
    return name if plain else identifier(name)


def bind(parsed: Parsed, columns: tuple[Column, ...]) -> str:
    """The type of an expression over typed columns; ExpressionError with a caret if the types do not fit."""
    try:
        kind: str = ask("bind", wrap(parsed.text), {c.name: c.type for c in columns} or {"-": "TINYINT"})
    except errors() as error:
        raise _bind_error(parsed, columns, error) from None
    return _TYPE_NAMES.get(kind, kind)


def _bind_error(parsed: Parsed, columns: tuple[Column, ...], error: Exception) -> ExpressionError:
    message, byte = describe_error(error)
    text = parsed.text
    at = None if byte is None else char_of_byte(text, byte - len(BEFORE))
    return expression_error(message, text, at, _advice(parsed, columns, message, at))


def _advice(parsed: Parsed, columns: tuple[Column, ...], message: str, at: int | None) -> str:
    """What to do about types that do not fit: nearly always a column of text that holds numbers."""
    texts = {written: c.name for c in columns if c.type == "VARCHAR" for written in c.written}
    named = [r for r in parsed.references if r.name in texts]
    if "VARCHAR" not in message or not named:
        return "see https://duckdb.org/docs/current/sql/functions/overview"
    near = min(named, key=lambda r: abs((r.at or 0) - (at or 0)))
    name = texts[near.name]
    shown = quoted(name)
    return f"{shown} is text: write CAST({shown} AS DOUBLE), or give its type: --types {name}=DOUBLE"
