"""Rows of Python values as the bytes of a CSV, for sources that have no text: databases, programs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from aiopipe.codec.dialect import Dialect
from aiopipe.errors import RecordError, UsageError

__all__ = ["check_dialect", "csv_lines", "plain_text"]


def check_dialect(dialect: Dialect, what: str) -> None:
    """UsageError where options say how text is read that there is none of."""
    if dialect.quote != '"' or dialect.encoding != "utf-8" or not dialect.header:
        raise UsageError(
            f"{what} gives rows, not text", stage="read", hint="leave out --quote, --encoding and --no-header"
        )


def csv_lines(rows: Iterable[Sequence[Any]], delimiter: str, names: Sequence[str], first: int) -> bytes:
    """The rows as records; RecordError for a value that is no text or number. first: the number of the first row."""
    special = re.compile(f'[{re.escape(delimiter)}"\\r\\n]').search
    lines = []
    for number, row in enumerate(rows, first):
        fields = []
        for k, value in enumerate(row):
            text = value if isinstance(value, str) else plain_text(value, names[k], number)
            fields.append('"' + text.replace('"', '""') + '"' if special(text) else text)
        lines.append(delimiter.join(fields) if fields != [""] else '""')
    lines.append("")
    try:
        return "\n".join(lines).encode()
    except UnicodeEncodeError as error:
        raise RecordError(
            f"a value holds {error.object[error.start]!r}, which UTF-8 cannot hold (records {first} and on)",
            hint="clean it in the query, or before the rows are handed over",
        ) from None


def plain_text(value: Any, name: str, number: int) -> str:
    """A value as a field: None is empty, numbers as Python writes them, true and false as SQL, dates as ISO 8601."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (bytes, bytearray, memoryview, dict, list, tuple, set, frozenset)):
        raise RecordError(
            f"column {name!r} holds {type(value).__name__} in record {number}, no text or number",
            hint="take hex(column), CAST(column AS TEXT) or json.dumps(value), or leave the column out",
        )
    return str(value)
