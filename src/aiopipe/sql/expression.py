"""An expression bound to the types of its columns: evaluate it batch by batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pyarrow as pa

from aiopipe import kernels as pc
from aiopipe.arrays import unchunked
from aiopipe.codec.types import TYPES, arrow_type
from aiopipe.errors import ExpressionError
from aiopipe.sql import direct
from aiopipe.sql.binding import Column, bind, resolve
from aiopipe.sql.caret import expression_error
from aiopipe.sql.failures import isolate
from aiopipe.sql.session import evaluation_errors, forget, session
from aiopipe.sql.syntax import Parsed, parse, remember
from aiopipe.sql.text import WRITTEN, as_text
from aiopipe.tuples import NamedTuple

__all__ = ["Evaluated", "Expression", "compile_expression", "compile_predicate"]


class Evaluated(NamedTuple):
    """What an expression gave: a value per record, and why there is none where it could not be computed.

    values: as long as the batch, in its order; NULL at failed records. failed: record -> message.
    """

    values: Any
    failed: dict[int, str]


@dataclass(frozen=True, slots=True)
class Expression:
    """An SQL expression bound to the types of its columns. Safe to use from several threads at once.

    columns: the columns it needs, as the file names them. type: of its result, as DuckDB calls it.
    """

    text: str
    columns: tuple[str, ...]
    type: str
    _bound: tuple[Column, ...] = field(repr=False)
    _direct: direct.Plan | None = field(repr=False, compare=False, hash=False)

    def __reduce__(self) -> tuple[object, ...]:
        # Plans are closures and do not travel; the other process makes its own, once, of the tree that goes along:
        # what it computes by Arrow, it computes without duckdb, whose import takes 0.1 to 0.2 s.
        return (_arrived, (parse(self.text), self._bound, self.type))

    def evaluate(self, columns: Mapping[str, Any], length: int) -> Evaluated:
        """The typed values of the expression for `length` records, whose columns are Arrow arrays by name."""
        values = self._directly(columns, length)
        return Evaluated(values, {}) if values is not None else self._by_duckdb(f"({self.text}\n)", columns, length)

    def mask(self, columns: Mapping[str, Any], length: int) -> Evaluated:
        """The same for a condition: an Arrow boolean array, NULL where SQL does not know."""
        self.require_boolean()
        return self.evaluate(columns, length)

    def text_values(self, columns: Mapping[str, Any], length: int) -> Evaluated:
        """The values as text, as DuckDB's CAST(... AS VARCHAR) writes them; NULL stays NULL."""
        if self.type in WRITTEN:
            found = self.evaluate(columns, length)
            return Evaluated(as_text(found.values), found.failed)
        return self._by_duckdb(f"CAST(({self.text}\n) AS VARCHAR)", columns, length)

    @property
    def direct(self) -> bool:
        """True when Arrow computes it, but for batches whose values are DuckDB's business."""
        return self._direct is not None

    def require_boolean(self) -> None:
        """ExpressionError unless the result is true or false."""
        if self.type != "BOOLEAN":
            hint = f"write a comparison, such as {_shown(self.text)} > 0"
            if self.type == "VARCHAR":
                hint = f"write a comparison, such as {_shown(self.text)} = 'yes'"
            raise expression_error(f"a condition is needed, this is {self.type}", self.text, None, hint)

    def _directly(self, columns: Mapping[str, Any], length: int) -> Any:
        if self._direct is None:
            return None
        values = self._direct.run(columns)
        return None if values is None else _of_length(unchunked(values), length, self.text)

    def _by_duckdb(self, select: str, columns: Mapping[str, Any], length: int) -> Evaluated:
        batch = self._batch(columns, length)
        try:
            return Evaluated(self._values(select, batch), {})
        except evaluation_errors():
            values, failed = isolate(self._values, select, batch)
            return Evaluated(_of_length(values, length, self.text), failed)

    def _values(self, select: str, batch: pa.RecordBatch) -> Any:
        """The only column of SELECT {select}; evaluation_errors() if a value is at fault.

        A BinderException passes as well: the expression itself is bound, but TRY does not take every one.
        """
        import duckdb

        try:
            table = session().run(select, batch)
        except duckdb.BinderException:
            raise
        except evaluation_errors():
            raise
        except duckdb.Error as error:
            forget()
            raise ExpressionError(f"{_shown(self.text)}: {error}") from error
        values = unchunked(table.column(0))
        return _of_length(_canonical(values, self.type if select[0] == "(" else ""), batch.num_rows, self.text)

    def _batch(self, columns: Mapping[str, Any], length: int) -> pa.RecordBatch:
        arrays = [unchunked(columns[c.name]) for c in self._bound]
        # Without a column there would be nothing to count the records by.
        names = [c.name for c in self._bound] or ["-"]
        return pa.RecordBatch.from_arrays(arrays or [pa.nulls(length, pa.int8())], names=names)


def compile_expression(text: str, types: Mapping[str, str]) -> Expression:
    """Bind an expression to the types of columns (DuckDB's names); only the columns it names need be there.

    ExpressionError, with a caret, when it does not parse, names an unknown column, or its types do not fit.

    >>> compile_expression("Amount * 2", {"amount": "BIGINT", "other": "VARCHAR"}).columns
    ('amount',)
    """
    parsed = parse(text)
    return _compile(text, resolve(parsed, types))


def compile_predicate(text: str, types: Mapping[str, str]) -> Expression:
    """The same for a condition: ExpressionError unless its result is BOOLEAN."""
    expression = compile_expression(text, types)
    expression.require_boolean()
    return expression


_KEPT = 512  # expressions, for whoever asks again
_sent: dict[tuple[str, tuple[Column, ...]], str] = {}  # types that another process found


def _arrived(parsed: Parsed, bound: tuple[Column, ...], type_name: str) -> Expression:
    """An expression that another process has compiled, here and for whoever compiles it from now on."""
    remember(parsed)
    if len(_sent) >= _KEPT:
        _sent.clear()
    _sent[parsed.text, bound] = type_name
    return _compile(parsed.text, bound)


@lru_cache(maxsize=_KEPT)
def _compile(text: str, bound: tuple[Column, ...]) -> Expression:
    parsed: Parsed = parse(text)
    plan = direct.plan(parsed.tree, bound)
    type_name = _sent.get((text, bound)) or _known_type(parsed, bound, plan) or bind(parsed, bound)
    if plan is not None and plan.type != type_name:
        plan = None
    return Expression(text, tuple(c.name for c in bound), type_name, bound, plan)


_PLAIN = {"BIGINT", "DOUBLE", "VARCHAR"}


def _known_type(parsed: Parsed, bound: tuple[Column, ...], plan: direct.Plan | None) -> str:
    """The type of a plain expression that Arrow computes; "" where DuckDB has to say."""
    if plan is None or not parsed.plain or not all(c.type in _PLAIN for c in bound):
        return ""
    # Whether letters beyond ASCII are the same in another case is its business.
    sure = all(written == c.name or (written + c.name).isascii() for c in bound for written in c.written)
    return plan.type if sure else ""


def _of_length(values: Any, length: int, text: str) -> Any:
    if len(values) != length:
        raise ExpressionError(f"{_shown(text)}: {len(values)} values for {length} records")
    return values


def _canonical(values: Any, type_name: str) -> Any:
    """Values of one of our types as the Arrow type that goes with it; DuckDB names UTC in its own way."""
    if type_name in TYPES or type_name.startswith("DECIMAL("):
        kind = arrow_type(type_name)
        return values if values.type == kind else pc.cast(values, kind)
    return values


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:57]}..."
