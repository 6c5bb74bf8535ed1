"""What a function made of rows, as a batch again: what did not change keeps its bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from operator import eq, itemgetter
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aiopipe.arrays import Mask, mask_array, text_array
from aiopipe.batch import Batch, Column, quoted
from aiopipe.stages._calls import Fault
from aiopipe.stages._rows import Rows

__all__ = ["Rebuild", "rebuilt", "text_of", "without"]


def rebuilt(
    batch: Batch,
    rows: Rows,
    results: list[Any],
    faults: dict[int, Fault],
    declared: Sequence[str] = (),
    on_error: str = "reject",
) -> Batch:
    """The batch with what a function made of its rows; rows with a fault become rejects, unless they are kept."""
    whole = Rebuild(batch, declared, on_error)
    whole.add(rows, results, faults)
    return whole.finish()


class _Change(NamedTuple):
    """A column of a slice: its new values, and which of them are the old ones."""

    values: Any
    same: Mask


class Rebuild:
    """Takes the rows of a batch slice by slice, with what a function made of them, and gives the new batch.

    Of each slice only columns that changed in it are kept, as Arrow arrays: its Python objects can go while
    the processor still has them at hand. on_error: "reject" sets rows with a fault aside, "stop" has the first one
    end the run, "keep" leaves them as they were (and columns that they do not have empty).
    """

    def __init__(self, batch: Batch, declared: Sequence[str] = (), on_error: str = "reject") -> None:
        self.batch = batch
        self.on_error = on_error
        self.kept = 0
        self.places = {name: i for i, name in enumerate(batch.names)}
        self.expected: list[str] | None = list(declared) or None  # None: no row has come back yet
        self.faults: dict[int, Fault] = {}
        self.lengths: list[int] = []  # of the slices, without the rows that have a fault
        self.columns: dict[str, list[_Change | None]] = {}  # None: nothing in it changed
        self._rows = 0

    def add(self, rows: Rows, results: list[Any], faults: dict[int, Fault]) -> None:
        """The next rows, their results in the same order, and the faults by place among them."""
        if self.expected is None:
            first = next((r for i, r in enumerate(results) if isinstance(r, dict) and i not in faults), None)
            self.expected = None if first is None else list(first)
        expected = self.expected or []  # none: no row came back, so there is nothing that changed
        good: Sequence[int] = range(len(results))
        values = None if faults else _values(results, expected)
        made = None if values is None else self._changes(rows, values, good, faults)
        if made is None:
            self._in_shape(results, faults, expected)
        while made is None:  # values that cannot be text make more faults, until none is left
            if self.on_error == "keep":
                self._keep(rows, results, faults)
            good = [i for i in range(len(results)) if i not in faults]
            values = list(chain.from_iterable([results[i].values() for i in good]))
            made = self._changes(rows, values, good, faults)
        number = len(self.lengths)
        self.lengths.append(len(good))
        for name, change in made.items():
            self.columns.setdefault(name, [None] * number).append(change)
        self.faults.update({self._rows + i: fault for i, fault in faults.items()})
        self._rows += len(results)

    def _keep(self, rows: Rows, results: list[Any], faults: dict[int, Fault]) -> None:
        """Put rows as they were in the place of those that failed."""
        names, width = rows.names, len(rows.names)
        for i in faults:
            was = dict(zip(names, rows.values[i * width : (i + 1) * width], strict=True))
            results[i] = was if self.expected is None else {name: was.get(name, "") for name in self.expected}
        self.kept += len(faults)
        faults.clear()

    def _in_shape(self, results: list[Any], faults: dict[int, Fault], expected: list[str]) -> None:
        """Every result a dict with the expected columns in the expected order, or a fault."""
        for i, row in enumerate(results):
            if i in faults:
                continue
            if not isinstance(row, dict):
                faults[i] = _wrong_type(row)
            elif len(row) != len(expected) or row.keys() != set(expected):
                faults[i] = _wrong_columns(row, expected)
            else:
                results[i] = {k: row[k] for k in expected}

    def _changes(
        self, rows: Rows, values: list[Any], good: Sequence[int], faults: dict[int, Fault]
    ) -> dict[str, _Change | None] | None:
        """Each column's new values and which of them are the old ones; None where values made new faults.

        values: of the `good` rows, one row after the other.
        """
        expected, whole = self.expected or [], len(good) == len(rows)
        if whole and tuple(expected) == rows.names and values == rows.values:  # the same objects, mostly: quick
            return dict.fromkeys(expected)
        made: dict[str, _Change | None] = {}
        odd: dict[int, Fault] = {}
        for k, name in enumerate(expected):
            new = values[k :: len(expected)]
            if name in self.places:
                old = rows.column(self.places[name])
                old = old if whole else [old[i] for i in good]
                if new == old:
                    made[name] = None
                    continue
                same = np.fromiter(map(eq, new, old), np.bool_, len(new))
            else:
                same = np.zeros(len(good), np.bool_)
            made[name] = _Change(_strings(new, name, odd), same)
        if not odd:
            return made
        faults.update({good[i]: fault for i, fault in odd.items()})
        return None

    def finish(self) -> Batch:
        """The batch of all rows that were added, its columns as the function gave them."""
        batch = without(self.batch, self.faults, final=self.on_error == "stop") if self.faults else self.batch
        names = list(batch.names) if self.expected is None else self.expected
        columns = tuple(self._column(batch, name) for name in names)
        return replace(batch, columns=columns, noted=(("kept", self.kept),) if self.kept else ())

    def _column(self, batch: Batch, name: str) -> Column:
        """As it was where no value of it changed, computed where one did."""
        changes = self.columns.get(name, [])
        old = batch.column(name) if name in self.places else None
        if old is not None and not any(changes):
            return old
        values, same, start = [text_array([])], [np.ones(0, np.bool_)], 0
        was = batch.values(name) if old is not None and not all(changes) else None
        for length, change in zip(self.lengths, changes, strict=True):
            if change is not None:
                values.append(change.values)
                same.append(change.same)
            elif was is not None:  # else the column is new, and no row of this slice came back
                values.append(was.slice(start, length))
                same.append(np.ones(length, np.bool_))
            start += length
        joined = pa.concat_arrays(values)
        written = None
        if old is not None:
            kept = mask_array(np.concatenate(same))
            written = pc.if_else(kept, batch.raw(old), quoted(joined, batch.body.header))
        return Column(name, -1, joined, written)


def _values(results: list[Any], expected: Sequence[str]) -> list[Any] | None:
    """The values of all rows in the expected order, one row after the other; None where one needs a closer look."""
    if set(map(type, results)) != {dict} or set(map(len, results)) != {len(expected)}:
        return None
    try:  # as many keys, and all that are looked for: there are no others
        return list(chain.from_iterable(map(_getter(tuple(expected)), results)))
    except KeyError:
        return None


@lru_cache(64)
def _getter(names: tuple[str, ...]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    """What gives the values of several keys as a tuple; KeyError where one is missing."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda row: tuple([row[name] for name in names])


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


def without(batch: Batch, faults: dict[int, Fault], *, final: bool = False) -> Batch:
    """Rejects for the rows with faults, and everything else without them. final: they end the run."""
    mask = np.zeros(len(batch), np.bool_)
    mask[list(faults)] = True
    made = []
    for i in sorted(faults):
        row = i if batch.rows is None else int(batch.rows[i])
        segment, position, raw = batch.body.place(row)
        f = faults[i]
        reject = segment.reject(position, "map", f.reason, raw, f.hint, f.kind, f.trace)
        made.append(replace(reject, final=True) if final else reject)
    return replace(batch.filter(~mask), rejects=batch.rejects + tuple(made))


def _strings(new: Sequence[Any], name: str, odd: dict[int, Fault]) -> Any:
    """Values as an Array of strings without nulls; faults for those that are no text and cannot become it."""
    try:
        return text_array(new)
    except (TypeError, UnicodeEncodeError):
        return text_array([text_of(v, name, i, odd) for i, v in enumerate(new)])


def text_of(value: Any, name: str, row: int, odd: dict[int, Fault]) -> str:
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
