"""Python objects as lines: what `find`, `hash` and users' functions make when it is not CSV records.

Names of files that are no UTF-8 can be had back, by the rules of `aiopipe hash`: in CSV they are the bytes they are,
in JSON lines the field `path` is then called `path_b64` and holds them in base64.
"""

from __future__ import annotations

import base64
import csv
import dataclasses
import json
import os
import re
from typing import Any

from aiopipe.codec.encode import Encoded
from aiopipe.errors import OutputError
from aiopipe.model import FileRef, display_path

__all__ = ["as_mapping", "encode_items", "json_line"]

# Surrogates that stand for no byte of a file's name: no encoding has a place for them.
_LONE = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def as_mapping(value: Any) -> dict[str, Any]:
    """An item as column name to value: mappings and dataclasses by their fields, others under `value`."""
    if isinstance(value, FileRef):
        return {"path": value.path, "relative": value.relative, "size": value.size}
    if isinstance(value, dict):
        return {str(k): v for k, v in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return {"value": value}


def json_line(row: dict[str, Any]) -> str:
    r"""A mapping as one line of JSON.

    >>> json_line({"path": "a\udcff", "size": 1})
    '{"path_b64": "Yf8=", "size": 1}'
    """
    text = json.dumps(row, ensure_ascii=False, default=_plain)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(dict(_named(k, v) for k, v in row.items()), ensure_ascii=False, default=_plain)
    return text


def _named(key: str, value: Any) -> tuple[str, Any]:
    """A field whose value is a name in bytes that are no UTF-8 says so, and holds them in base64."""
    if not isinstance(value, str):
        return key, value
    value = _LONE.sub(_spelt, value)
    try:
        value.encode()
    except UnicodeEncodeError:
        return f"{key}_b64", base64.b64encode(value.encode("utf-8", "surrogateescape")).decode()
    return key, value


def _spelt(match: re.Match[str]) -> str:
    return match[0].encode("ascii", "backslashreplace").decode()


def encode_items(items: Any, style: str) -> Encoded:
    """Items as JSON lines, CSV or TSV; the first one's keys are the columns of CSV."""
    rows = [as_mapping(v) for v in items.values]
    if style == "jsonl":
        text = "".join(json_line(row) + "\n" for row in rows)
        return Encoded((), (text.encode(errors="backslashreplace"),), (len(rows),), b"", (), b"\n", items.rejects)
    if not rows:  # nobody knows the columns
        return Encoded((), (b"",), (0,), b"", (), b"\n", items.rejects)
    names = tuple(rows[0])
    delimiter = "\t" if style == "tsv" else ","
    head, body = _Lines(), _Lines()
    csv.writer(head, delimiter=delimiter).writerow(names)
    try:
        csv.DictWriter(body, names, delimiter=delimiter).writerows({k: _plain(v) for k, v in r.items()} for r in rows)
    except ValueError as error:
        raise OutputError(
            f"items have different fields: {error}", stage="write", hint="write .jsonl, or give all the same fields"
        ) from None
    return Encoded((), (body.encoded(),), (len(rows),), head.encoded(), names, b"\n", items.rejects)


class _Lines:
    """What csv writes, with line feeds for its line ends: told to use them itself, it would not quote a CR."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def write(self, line: str) -> None:
        """One record with its line end."""
        self._lines.append(line[:-2])

    def encoded(self) -> bytes:
        """All of them."""
        text = "".join(f"{line}\n" for line in self._lines)
        return _LONE.sub(_spelt, text).encode("utf-8", "surrogateescape")


def _plain(value: Any) -> Any:
    if isinstance(value, (str, int, float, type(None))):
        return value
    if isinstance(value, (bytes, os.PathLike)):
        return display_path(os.fsdecode(value))
    return str(value)
