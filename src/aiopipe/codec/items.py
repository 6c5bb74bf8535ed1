"""Python objects as lines: what `find` and users' functions make when it is not CSV records."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from typing import Any

from aiopipe.codec.encode import Encoded
from aiopipe.errors import OutputError
from aiopipe.model import FileRef, display_path

__all__ = ["as_mapping", "encode_items"]


def as_mapping(value: Any) -> dict[str, Any]:
    """An item as column name to value: mappings and dataclasses by their fields, others under `value`."""
    if isinstance(value, FileRef):
        return {"path": display_path(value.path), "relative": display_path(value.relative), "size": value.size}
    if isinstance(value, dict):
        return {str(k): v for k, v in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return {"value": value}


def encode_items(items: Any, style: str) -> Encoded:
    """Items as JSON lines, CSV or TSV; the first one's keys are the columns of CSV."""
    rows = [as_mapping(v) for v in items.values]
    if style == "jsonl":
        text = "".join(json.dumps(r, ensure_ascii=False, default=_plain) + "\n" for r in rows)
        return Encoded((), (text.encode(errors="backslashreplace"),), (len(rows),), b"", (), b"\n")
    names = tuple(rows[0]) if rows else ()
    out, head = io.StringIO(), io.StringIO()
    delimiter = "\t" if style == "tsv" else ","
    csv.writer(head, delimiter=delimiter, lineterminator="\n").writerow(names)
    writer = csv.DictWriter(out, names, delimiter=delimiter, lineterminator="\n")
    try:
        writer.writerows({k: _plain(v) for k, v in r.items()} for r in rows)
    except ValueError as error:
        raise OutputError(
            f"items have different fields: {error}", stage="write", hint="write .jsonl, or give all the same fields"
        ) from None
    return Encoded(
        (), (out.getvalue().encode(errors="backslashreplace"),), (len(rows),), head.getvalue().encode(), names, b"\n"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, (str, int, float, type(None))):
        return value
    if isinstance(value, (bytes, os.PathLike)):
        return display_path(os.fsdecode(value))
    return str(value)
