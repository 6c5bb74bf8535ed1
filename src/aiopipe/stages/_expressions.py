"""What filter and derive share: typed columns in, results out, records that do not fit set aside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from aiopipe import kernels as pc
from aiopipe.arrays import mask_array, place_array
from aiopipe.batch import Batch, Body
from aiopipe.codec.inplace import IN_PLACE, cast_in_place
from aiopipe.codec.types import cast
from aiopipe.errors import AiopipeError, ExpressionError, UnknownNameError, UsageError, column_hint
from aiopipe.sql import compile_expression, parse
from aiopipe.stage import Scope

__all__ = ["carried", "check", "compiled", "evaluated"]


def compiled(text: str, scope: Scope) -> Any:
    """The expression over the scope's types; a column without a type is text."""
    types = dict(scope.types)
    for name in () if scope.complete else parse(text).columns:
        if name not in types and not any(name.lower() == t.lower() for t in types):
            types[name] = "VARCHAR"
    return compile_expression(text, types)


def carried(texts: Iterable[str], scope: Scope) -> tuple[Any, ...]:
    """The expressions for a process that has not parsed them; none where one is refused, which is told elsewhere."""
    try:
        return tuple(compiled(text, scope) for text in texts)
    except AiopipeError:
        return ()


def check(text: str, scope: Scope, stage: str, *, boolean: bool) -> str:
    """The type of the expression's result; ExpressionError where it cannot be evaluated on such records."""
    names: Sequence[str] = ()
    try:
        names = parse(text).columns
        _refuse_doubts(names, scope)
        expression = compiled(text, scope)
        if boolean:
            expression.require_boolean()
    except ExpressionError as error:
        raise _clearer(error, names, scope, stage) from None
    result: str = expression.type
    return result


def _refuse_doubts(names: Sequence[str], scope: Scope) -> None:
    for name in names:
        if name in scope.doubts:
            token, path = scope.doubts[name]
            raise ExpressionError(
                f"column {name!r} looks like numbers or dates, but holds {token!r} (in {path})",
                hint=f"say --null {token} if that means no value, or --types {name}=VARCHAR to compare text",
            )


def _clearer(error: ExpressionError, names: Sequence[str], scope: Scope, stage: str) -> UsageError:
    """The error with its stage; about a column that no sampled file has, it says just that."""
    known = {t.lower() for t in scope.types}
    missing = [n for n in names if n.lower() not in known]
    if known and missing:  # it was taken for text, as a function may yet make it; that was no help
        hint = f"{column_hint(missing[0], scope.types)} (where a function makes it: CAST({missing[0]} AS DOUBLE))"
        return UnknownNameError(f"no column {missing[0]!r} in the input", stage=stage, hint=hint)
    error.stage = error.stage or stage
    return error


def evaluated(batch: Any, scope: Scope, stage: str, wanted: Sequence[tuple[str, str]]) -> tuple[Any, list[Any]]:
    """Results of expressions on a batch, and the batch without the records on which one of them failed.

    wanted: pairs of expression and "mask" or "text". The typed columns are made once for all of them.
    """
    expressions = [(compiled(text, scope), how) for text, how in wanted]
    names = list(dict.fromkeys(c for e, _ in expressions for c in e.columns))
    columns: dict[str, Any] = {}
    reasons: dict[int, str] = {}
    hint = ""
    for name in names:
        kind = scope.types.get(name, "VARCHAR")
        columns[name] = _in_place(batch, name, kind, scope)
        if columns[name] is not None:
            continue
        values = batch.values(name)
        columns[name], bad = cast(values, kind, scope.nulls)
        if bad is not None:
            for i in np.flatnonzero(bad).tolist():
                text = values[i].as_py()
                reasons.setdefault(i, f"{text!r} in column {name!r} is no {kind}")
                hint = hint or f"say --null {text} if that means no value, or --types {name}=VARCHAR"
    results = []
    for expression, how in expressions:
        call = expression.mask if how == "mask" else expression.text_values
        found = call(columns, len(batch))
        for i, why in found.failed.items():
            reasons.setdefault(i, why)
        results.append(found.values)
    if not reasons:
        return batch, results
    mask = np.zeros(len(batch), np.bool_)
    mask[list(reasons)] = True
    keep = mask_array(~mask)
    left = batch.reject(mask, stage, reasons.__getitem__, hint or "guard the expression, as in CASE or TRY_CAST")
    return left, [pc.filter(r, keep) for r in results]


def _in_place(batch: Batch, name: str, kind: str, scope: Scope) -> Any | None:
    """A typed column made from where its fields stand, if all of them fit: half of the time of making text first.

    One that was made for all records, as a filter does, is there for the stages behind it.
    """
    column, body, rows = batch.column(name), batch.body, batch.rows
    if kind not in IN_PLACE or column.computed or not _legible(body, scope.nulls):
        return None
    key = (column.field, kind, scope.nulls)
    known = body.typed.get(key)
    if known is not None:
        return known if rows is None else pc.take(known, place_array(rows))
    made = cast_in_place(body.buffer, *body.bare(column.field, rows), kind, scope.nulls)
    if rows is None and made is not None:
        body.typed[key] = made
    return made


def _legible(body: Body, nulls: frozenset[str]) -> bool:
    """Whether numbers, times and null tokens are told by bytes between quotes, as by values: so if none has a quote."""
    quote = body.header.quote.decode() if body.quoted else ""
    if quote not in ("", '"', "'"):
        return False
    return all(
        (token.isascii() or body.header.encoding == "utf-8") and not (quote and quote in token) for token in nulls
    )
