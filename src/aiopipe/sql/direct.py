"""Plain expressions straight on Arrow's kernels: 20 microseconds instead of DuckDB's thousand.

Only what gives DuckDB's very answer is here: comparisons, AND OR NOT, IS NULL, BETWEEN, IN, + - * /, ||.
Where the two would part for the data at hand (an overflow, NaN or infinity), `Plan.run` gives None and
DuckDB decides. tests/sql/test_direct.py holds the two together over random expressions and columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import reduce
from typing import Any, NamedTuple

import pyarrow as pa

from aiopipe import kernels as pc
from aiopipe.arrays import EMPTY, double, null
from aiopipe.sql.binding import Column
from aiopipe.sql.literals import constant
from aiopipe.sql.tree import Node, arguments, name

__all__ = ["Plan", "plan"]

Env = Mapping[str, Any]


class _Left(Exception):  # noqa: N818 - no error: a turn in the road
    """Left to DuckDB, for this batch or, while planning, for good."""


class _Value(NamedTuple):
    """A planned sub-expression. fixed: its scalar when it is a literal (a Decimal for DECIMAL)."""

    type: str
    run: Callable[[Env], Any]
    fixed: Any = None


class Plan(NamedTuple):
    """How to compute an expression: the type it gives, and a function of the columns."""

    type: str
    value: Callable[[Env], Any]
    doubles: tuple[str, ...]

    def run(self, columns: Env) -> Any:
        """The values, or None: DuckDB has to decide."""
        try:
            for column in self.doubles:
                _finite(columns[column])
            return self.value(columns)
        except (_Left, pa.ArrowInvalid):  # ArrowInvalid: an overflow
            return None


def plan(tree: Node, columns: tuple[Column, ...]) -> Plan | None:
    """How to compute an expression without DuckDB, or None where that is not known to give the same."""
    planner = _Planner({written.lower(): c for c in columns for written in c.written})
    try:
        value = planner.plan(tree)
    except (_Left, RecursionError):
        return None
    if value.fixed is not None:
        return None
    return Plan(value.type, value.run, tuple(c.name for c in columns if c.type == "DOUBLE"))


def _finite(values: Any) -> Any:
    """The values, if none is NaN or infinite: one pass, for a sum with such a value is one itself."""
    total = pc.sum(values).as_py()
    if total is not None and not math.isfinite(total):
        raise _Left
    return values


_COMPARE = {
    "COMPARE_EQUAL": pc.equal,
    "COMPARE_NOTEQUAL": pc.not_equal,
    "COMPARE_LESSTHAN": pc.less,
    "COMPARE_LESSTHANOREQUALTO": pc.less_equal,
    "COMPARE_GREATERTHAN": pc.greater,
    "COMPARE_GREATERTHANOREQUALTO": pc.greater_equal,
}
_ARITHMETIC = {"+": pc.add_checked, "-": pc.subtract_checked, "*": pc.multiply_checked, "/": pc.divide}
_COMPARABLE = {"BIGINT", "DOUBLE", "VARCHAR", "BOOLEAN", "DATE", "TIMESTAMP", "TIMESTAMPTZ"}
_NUMBERS = {"BIGINT", "DOUBLE"}
_UNKNOWN = null(pa.bool_())


class _Planner:
    """Turns a tree into functions of the columns; raises _Left at the first node it is not sure of."""

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self.columns = columns

    def plan(self, node: Node) -> _Value:
        fixed = constant(node)
        if fixed is not None:
            return _Value(fixed[0], lambda env: fixed[1], fixed[1])
        method = getattr(self, "_" + node["class"].lower(), None)
        if method is None:
            raise _Left
        value: _Value = method(node)
        return value

    def _column_ref(self, node: Node) -> _Value:
        column = self.columns.get(node["column_names"][0].lower())
        if column is None or column.type not in _COMPARABLE:
            raise _Left
        key = column.name
        return _Value(column.type, lambda env: env[key])

    def _comparison(self, node: Node) -> _Value:
        kernel = _COMPARE.get(node["type"])
        if kernel is None:
            raise _Left
        return _compare(kernel, self.plan(node["left"]), self.plan(node["right"]))

    def _between(self, node: Node) -> _Value:
        value = self.plan(node["input"])
        low = _compare(pc.greater_equal, value, self.plan(node["lower"]))
        high = _compare(pc.less_equal, value, self.plan(node["upper"]))
        return _logic(pc.and_kleene, [low, high])

    def _conjunction(self, node: Node) -> _Value:
        kernel = pc.and_kleene if node["type"] == "CONJUNCTION_AND" else pc.or_kleene
        return _logic(kernel, [self._condition(part) for part in arguments(node)])

    def _condition(self, node: Node) -> _Value:
        value = self.plan(node)
        if value.type != "BOOLEAN" or value.fixed is not None:
            raise _Left
        return value

    def _operator(self, node: Node) -> _Value:
        parts, kind = arguments(node), node["type"]
        if kind == "OPERATOR_NOT":
            return _apply("BOOLEAN", pc.invert, self._condition(parts[0]))
        if kind == "OPERATOR_IS_NULL":
            return _apply("BOOLEAN", pc.is_null, self._varying(parts[0]))
        if kind == "OPERATOR_IS_NOT_NULL":
            return _apply("BOOLEAN", pc.is_valid, self._varying(parts[0]))
        if kind in ("COMPARE_IN", "COMPARE_NOT_IN"):
            found = _member(self._varying(parts[0]), [self.plan(part) for part in parts[1:]])
            return found if kind == "COMPARE_IN" else _apply("BOOLEAN", pc.invert, found)
        raise _Left

    def _varying(self, node: Node) -> _Value:
        value = self.plan(node)
        if value.fixed is not None:
            raise _Left
        return value

    def _function(self, node: Node) -> _Value:
        called, parts = name(node), [self.plan(part) for part in arguments(node)]
        if all(part.fixed is not None for part in parts):
            raise _Left
        if called == "||" and [p.type for p in parts] == ["VARCHAR", "VARCHAR"]:
            return _apply("VARCHAR", _concat, *parts)
        if called == "-" and len(parts) == 1 and parts[0].type in _NUMBERS:
            return _apply(parts[0].type, pc.negate_checked, parts[0])
        if called not in _ARITHMETIC or len(parts) != 2 or not all(_is_number(p) for p in parts):
            raise _Left
        return _divide(*parts) if called == "/" else _calculate(_ARITHMETIC[called], *parts)


def _is_number(value: _Value) -> bool:
    return value.type in _NUMBERS or (value.type == "DECIMAL" and value.fixed is not None)


def _apply(kind: str, kernel: Callable[..., Any], *parts: _Value) -> _Value:
    if len(parts) == 1:
        only = parts[0].run
        return _Value(kind, lambda env: kernel(only(env)))
    left, right = (part.run for part in parts)
    return _Value(kind, lambda env: kernel(left(env), right(env)))


def _concat(left: Any, right: Any) -> Any:
    return pc.binary_join_element_wise(left, right, EMPTY)


def _logic(kernel: Callable[..., Any], parts: list[_Value]) -> _Value:
    runs = [part.run for part in parts]
    return _Value("BOOLEAN", lambda env: reduce(kernel, (run(env) for run in runs)))


def _compare(kernel: Callable[..., Any], left: _Value, right: _Value) -> _Value:
    left, right = _same_type(left, right)
    if left.type not in _COMPARABLE or (left.fixed is not None and right.fixed is not None):
        raise _Left
    if left.type == "BOOLEAN" and kernel not in (pc.equal, pc.not_equal):
        raise _Left
    return _apply("BOOLEAN", kernel, left, right)


def _member(value: _Value, items: list[_Value]) -> _Value:
    """`value IN (literals)`; NULL when the value is NULL."""
    pairs = [_same_type(value, item) for item in items]
    if any(item.fixed is None or left.type != pairs[0][0].type for left, item in pairs):
        raise _Left
    members = pa.concat_arrays([pa.repeat(item.fixed, 1) for _, item in pairs])
    run = pairs[0][0].run

    def find(env: Env) -> Any:
        values = run(env)
        found = pc.is_in(values, value_set=members)
        return pc.if_else(pc.is_valid(values), found, _UNKNOWN) if values.null_count else found

    return _Value("BOOLEAN", find)


def _calculate(kernel: Callable[..., Any], left: _Value, right: _Value) -> _Value:
    left, right = _same_type(left, right)
    value = _apply(left.type, kernel, left, right)
    return _checked(value) if value.type == "DOUBLE" else value


def _divide(left: _Value, right: _Value) -> _Value:
    """`/` is a division of DOUBLE, even of whole numbers; only by a literal, which is not zero."""
    left, right = _double(left), _double(right)
    if right.fixed is None or right.fixed.as_py() == 0:
        raise _Left
    return _checked(_apply("DOUBLE", pc.divide, left, right))


def _checked(value: _Value) -> _Value:
    run = value.run
    return _Value(value.type, lambda env: _finite(run(env)))


def _same_type(left: _Value, right: _Value) -> tuple[_Value, _Value]:
    """Both sides as the type DuckDB compares or computes them in."""
    if left.type == right.type:
        return left, right
    if {left.type, right.type} <= {"BIGINT", "DOUBLE", "DECIMAL"} and "DOUBLE" in (left.type, right.type):
        return _double(left), _double(right)
    raise _Left


def _double(value: _Value) -> _Value:
    if value.type == "DOUBLE":
        return value
    if value.fixed is not None:
        exact = value.fixed if isinstance(value.fixed, Decimal) else value.fixed.as_py()
        if value.type not in ("BIGINT", "DECIMAL") or abs(exact) > 2**53:
            raise _Left
        scalar = double(float(exact))
        return _Value("DOUBLE", lambda env: scalar, scalar)
    if value.type != "BIGINT":
        raise _Left
    run = value.run
    return _Value("DOUBLE", lambda env: pc.cast(run(env), pa.float64(), safe=False))
