"""What an expression may not contain, because it is not an answer about one record that stays the same.

A stage promises the same bytes for any number of workers and any batch size. So: nothing that looks at
other records (aggregates, windows, subqueries), gives several rows (unnest), or changes from run to run
(random, now).
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import NamedTuple

from aiopipe.sql.session import ask
from aiopipe.sql.tree import Node, arguments, children, name

__all__ = ["CLOCKS", "Refusal", "refusal"]


class Refusal(NamedTuple):
    """Why something is refused, and what to do instead."""

    message: str
    hint: str


# Names that SQL reads without parentheses.
CLOCKS = {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "now", "today"}
# They read the clock or the session, though DuckDB does not mark them so in every version.
_VARYING = {
    "current_localtime", "current_localtimestamp", "current_setting", "get_current_time",
    "get_current_timestamp", "getvariable", "stats", "vector_type", "version",
}  # fmt: skip
# Volatile by name only, so that it is not evaluated ahead of time: it always raises its argument.
_HARMLESS = {"error"}
_MANY_ROWS = {"unnest", "unlist"}

_ONE_RECORD = "an expression sees one record at a time; aggregate the output with another tool, or write a function"
_STABLE = "the same input must give the same bytes at every run: write the value out, or add it in a function"

_CLASSES = {
    "STAR": Refusal("* stands for all columns", "name the columns"),
    "WINDOW": Refusal("a window looks at other records", _ONE_RECORD),
    "SUBQUERY": Refusal("a subquery is not evaluated record by record", _ONE_RECORD),
    "PARAMETER": Refusal("a parameter has no value here", "write the value itself"),
    "POSITIONAL_REFERENCE": Refusal("#1 names a column by its place", "name the column"),
    "DEFAULT": Refusal("DEFAULT has no meaning here", "write the value itself"),
}
_KNOWN_CLASSES = {
    "BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION",
    "LAMBDA", "OPERATOR", "TYPE",
}  # fmt: skip


def refusal(node: Node) -> Refusal | None:
    """Why this one node, whatever is below it, may not stand in an expression; None if it may."""
    kind = node["class"]
    if kind == "FUNCTION":
        return _of_function(name(node), len(arguments(node)))
    if node["type"] == "GROUPING_FUNCTION":
        return Refusal("grouping() looks at other records", _ONE_RECORD)
    if kind in _KNOWN_CLASSES:
        return None
    return _CLASSES.get(kind, Refusal(f"{kind.lower()} is not supported", "write it another way"))


def _of_function(called: str, count: int) -> Refusal | None:
    if called in _VARYING or called in CLOCKS or (called == "age" and count == 1):
        return Refusal(f"{called}() varies from run to run", _STABLE)
    if called in _MANY_ROWS:
        return Refusal(f"{called}() makes several records of one", "write a function that yields records")
    return _by_catalogue(called) if called[:1].isalpha() else None


@lru_cache(maxsize=1)
def _catalogue() -> dict[str, list[tuple[str, str | None, str | None]]]:
    """Each function's kinds, stabilities and macro bodies, asked for once: 20 ms.

    From 2.0.1 on DuckDB says of year(), date_trunc() and others that they vary between queries, because what they make
    of an instant depends on the session's time zone. Ours is UTC.
    """
    found = defaultdict(list)
    for called, kind, stability, body, instant in ask("functions"):
        if instant and stability == "CONSISTENT_WITHIN_QUERY":
            stability = "CONSISTENT"
        found[called].append((kind, stability, body))
    return dict(found)


@lru_cache(maxsize=1024)
def _by_catalogue(called: str) -> Refusal | None:
    entries = _catalogue().get(called, [])
    kinds = {kind for kind, _, _ in entries}
    if "scalar" not in kinds and "macro" not in kinds:
        if "aggregate" in kinds:
            return Refusal(f"{called}() is an aggregate: it needs many records at once", _ONE_RECORD)
        if "window" in kinds:
            return Refusal(f"{called}() is a window function: it looks at other records", _ONE_RECORD)
        if kinds:
            return Refusal(f"{called}() is a table function", _ONE_RECORD)
    if called not in _HARMLESS and any(s not in (None, "CONSISTENT") for k, s, _ in entries if k == "scalar"):
        return Refusal(f"{called}() varies from run to run", _STABLE)
    for body in [body for kind, _, body in entries if kind == "macro" and body]:
        inner = _of_macro(body, called)
        if inner:
            return Refusal(f"{called}(): {inner.message}", inner.hint)
    return None


def _of_macro(body: str, called: str) -> Refusal | None:
    tree = ask("syntax", f"SELECT ({body})")
    if tree["error"]:
        return Refusal(f"{called}() cannot be checked", _STABLE)
    return _first(tree["statements"][0]["node"]["select_list"][0], called)


def _first(node: Node, called: str) -> Refusal | None:
    if node["class"] == "COLUMN_REF" and node["column_names"][-1].lower() in CLOCKS:
        return Refusal("reads the clock", _STABLE)
    # A macro may wrap the function of its own name (current_schema): that one is looked at by stability.
    if node["class"] != "FUNCTION" or name(node) != called:
        found = refusal(node)
        if found:
            return found
    return next((found for child in children(node) if (found := _first(child, called))), None)
