"""Records as rows for users' functions, and back: what did not change keeps its bytes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import eq, itemgetter
from typing import Any

import numpy as np
import pyarrow.compute as pc

from aiopipe.arrays import mask_array, pieces, text_array
from aiopipe.batch import Batch, Column, quoted
from aiopipe.stages._calls import Fault

__all__ = ["Rows", "rebuilt", "rows_of"]

_CSV_LIMIT = 131_072  # csv refuses longer fields unless a process-wide setting is changed: we do not


@dataclass(slots=True)
class Rows:
    """The records of a batch as lists of values, and the column names they go with."""

    names: tuple[str, ...]
    fields: list[Any]

    def dicts(self) -> Iterator[dict[str, str]]:
        """A fresh dict for each record."""
        names = self.names
        return (dict(zip(names, f)) for f in self.fields)  # noqa: B905 - lengths are known; strict costs 10%


def rows_of(batch: Batch) -> Rows:
    """The records of a batch as rows; UnknownNameError where two columns share a name."""
    names = batch.names
    if len(set(names)) < len(names):
        for name in names:
            batch.column(name)  # raises for the one that stands twice
    fields = _split_lines(batch)
    if fields is None:
        columns = [["" if v is None else v for v in batch.values(n).to_pylist()] for n in names]
        fields = [list(r) for r in zip(*columns, strict=True)]
    return Rows(names, fields)


def _split_lines(batch: Batch) -> list[list[str]] | None:
    """The quick ways: untouched records split by str.split, or by csv where there are quotes."""
    body = batch.body
    if not batch.untouched() or len(batch) == 0:
        return None
    encoding = body.header.encoding
    if not body.quoted and b"\r" not in body.data:
        lines = body.lines(batch.rows)
        text = _bytes(lines).decode(encoding)
        rows = text.split("\n")
        if not rows[-1]:
            rows.pop()
        if len(rows) != len(batch):  # bundled files without a final line end run together
            return None
        delimiter = body.header.delimiter.decode()
        return [r.split(delimiter) for r in rows]
    longest = int((body.stops - body.starts).max(initial=0))
    if longest >= _CSV_LIMIT:
        return None
    text = _bytes(body.lines(batch.rows)).decode(encoding)
    quote = body.header.quote.decode()
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=body.header.delimiter.decode(),
        quotechar=quote or None,
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
    )
    rows_read = [r for r in reader if r]
    return rows_read if len(rows_read) == len(batch) else None


def _bytes(lines: Any) -> bytes:
    return bytes(pieces(lines, [0, len(lines)])[0])


def rebuilt(
    batch: Batch, rows: Rows, results: list[Any], faults: dict[int, Fault], declared: Sequence[str] = ()
) -> Batch:
    """The batch with what a function made of its rows; rows with a fault become rejects."""
    n = len(rows.names)
    keys = _keys(rows, results, faults, declared)
    expected = list(keys)
    width = len(expected)
    same_lead = expected[:n] == list(rows.names)
    changed = not same_lead
    for i, row in enumerate(results):
        if row is None or not isinstance(row, dict):
            if i not in faults:
                faults[i] = _wrong_type(row)
            continue
        if len(row) != width or list(row) != expected:
            if row.keys() != keys.keys():
                faults[i] = _wrong_columns(row, expected)
                continue
            results[i] = row = {k: row[k] for k in expected}
        if not changed and list(row.values())[:n] != rows.fields[i]:
            changed = True
    if faults:
        batch, rows, results = _without(batch, rows, results, faults)
    columns, odd = _columns(batch, rows, results, expected, changed)
    if odd:
        return rebuilt(batch, rows, results, odd, declared)
    return replace(batch, columns=columns)


def _keys(rows: Rows, results: list[Any], faults: dict[int, Fault], declared: Sequence[str]) -> dict[str, None]:
    """The columns that the rows must have: those declared, or those of the first row that came back."""
    if declared:
        return dict.fromkeys(declared)
    first = next((r for i, r in enumerate(results) if isinstance(r, dict) and i not in faults), None)
    return dict.fromkeys(rows.names if first is None else first)


def _wrong_type(value: Any) -> Fault:
    return Fault(
        f"the function returned {type(value).__name__}, not a row",
        "return the row (a dict); to leave rows out, use filter, or an async generator that yields",
    )


def _wrong_columns(row: dict[str, Any], expected: Sequence[str]) -> Fault:
    missing = [k for k in expected if k not in row]
    extra = [str(k) for k in row if k not in expected]
    parts = [f"lacks {', '.join(missing)}"] if missing else []
    parts += [f"adds {', '.join(extra)}"] if extra else []
    return Fault(
        f"the function returned a row that {' and '.join(parts)}",
        "return the same columns for every row, empty where there is no value",
    )


def _without(batch: Batch, rows: Rows, results: list[Any], faults: dict[int, Fault]) -> tuple[Batch, Rows, list[Any]]:
    """Rejects for the rows with faults, and everything else without them."""
    mask = np.zeros(len(batch), np.bool_)
    mask[list(faults)] = True
    made = []
    for i in sorted(faults):
        row = i if batch.rows is None else int(batch.rows[i])
        segment, position, raw = batch.body.place(row)
        f = faults[i]
        made.append(segment.reject(position, "map", f.reason, raw, f.hint, f.kind, f.trace))
    left = replace(batch.filter(~mask), rejects=batch.rejects + tuple(made))
    return (
        left,
        Rows(rows.names, [f for i, f in enumerate(rows.fields) if i not in faults]),
        [r for i, r in enumerate(results) if i not in faults],
    )


def _columns(
    batch: Batch, rows: Rows, results: list[Any], expected: Sequence[str], changed: bool
) -> tuple[tuple[Column, ...], dict[int, Fault]]:
    """Each column as it was where no value of it changed, computed where one did."""
    old = {c.name: c for c in batch.columns}
    places = {name: i for i, name in enumerate(rows.names)}
    columns: list[Column] = []
    odd: dict[int, Fault] = {}
    for name in expected:
        if name in old and not changed:
            columns.append(old[name])
            continue
        new = list(map(itemgetter(name), results))
        if name in old:
            before = list(map(itemgetter(places[name]), rows.fields))
            if new == before:
                columns.append(old[name])
                continue
        try:
            values = text_array(new)
        except (TypeError, UnicodeEncodeError):
            new = [_text(v, name, i, odd) for i, v in enumerate(new)]
            if odd:
                continue
            values = text_array(new)
        written = None
        if name in old:
            kept = mask_array(np.fromiter(map(eq, new, before), np.bool_, len(new)))
            written = pc.if_else(kept, batch.raw(old[name]), quoted(values, batch.body.header))
        columns.append(Column(name, -1, values, written))
    return tuple(columns), odd


def _text(value: Any, name: str, row: int, odd: dict[int, Fault]) -> str:
    """A value a function gave as text: numbers as Python writes them, None as nothing, true and false as SQL."""
    if value is None:
        return ""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            odd[row] = Fault(
                f"the function gave {name!r} text with a lone surrogate", "return text that UTF-8 can hold"
            )
            return ""
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list, tuple, set, bytes)):
        odd[row] = Fault(
            f"the function gave {name!r} a {type(value).__name__}",
            "return text or numbers; json.dumps makes text of others",
        )
        return ""
    return str(value)
