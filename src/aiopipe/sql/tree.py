"""DuckDB's syntax tree read alike from DuckDB 1.4 and 2.0, whose JSON differs in names.

A node is a mapping with a "class"; anything else below it is only on the way to the next node.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["Node", "arguments", "children", "keyword_lambda", "lambda_names", "literal", "name", "start"]

Node = dict[str, Any]

_NOWHERE = 2**63  # DuckDB writes 2**64 - 1 for "no position"


def children(node: Node) -> Iterator[Node]:
    """The nodes directly below a node, in the order they are written."""
    for value in node.values():
        yield from _nodes(value)


def _nodes(value: Any) -> Iterator[Node]:
    if isinstance(value, list):
        for item in value:
            yield from _nodes(item)
    elif isinstance(value, dict):
        if "class" in value:
            yield value
        else:
            yield from children(value)


def arguments(node: Node) -> list[Node]:
    """The arguments of a function or operator, or the parts of a conjunction."""
    if "arguments" in node:  # 2.0 wraps each argument of a function with its name
        return [argument["expression"] for argument in node["arguments"]]
    found: list[Node] = node.get("children", [])
    return found


def name(node: Node) -> str:
    """The lower-case name of the function a node calls."""
    return str(node["function_name"]).lower()


def start(node: Node) -> int | None:
    """The byte where a node begins in the statement, or None where DuckDB does not know."""
    own = node.get("query_location", _NOWHERE)
    if own < _NOWHERE:
        return int(own)
    below = [at for at in map(start, children(node)) if at is not None]
    return min(below, default=None)


def lambda_names(node: Node) -> list[str]:
    """The parameter names of a lambda."""
    left = node["lhs"]
    named = arguments(left) if left["class"] == "FUNCTION" else [left]
    return [n["column_names"][0] for n in named if n["class"] == "COLUMN_REF"]


def keyword_lambda(node: Node) -> bool:
    """True for `lambda x: ...`, False for an arrow, which may also be JSON's `->`."""
    return node.get("syntax_type") == "LAMBDA_KEYWORD"


def literal(node: Node) -> tuple[str, str] | None:
    """A literal as (INTEGER | NUMERIC | STRING | BOOLEAN, its text); None for NULL and anything else."""
    if node["class"] == "CAST":  # 1.4 writes true as CAST('t' AS BOOLEAN)
        child = literal(node["child"])
        known = {("STRING", "t"): "true", ("STRING", "f"): "false"}
        boolean = node.get("cast_type", {}).get("id") == "BOOLEAN" and start_is_missing(node)
        return ("BOOLEAN", known[child]) if boolean and child in known else None
    if node["class"] != "CONSTANT":
        return None
    if "literal" in node:
        # What is empty is left out of the JSON: '' has no text.
        kind, text = node["literal"]["kind"], node["literal"].get("text", "")
        return (kind, text) if kind in ("INTEGER", "NUMERIC", "STRING", "BOOLEAN") else None
    return _literal_14(node["value"])


def start_is_missing(node: Node) -> bool:
    """True when DuckDB put the node there itself."""
    return bool(node.get("query_location", _NOWHERE) >= _NOWHERE)


def _literal_14(value: Node) -> tuple[str, str] | None:
    if value["is_null"]:
        return None
    kind = value["type"]["id"]
    if kind in ("INTEGER", "BIGINT"):
        return "INTEGER", str(value["value"])
    if kind == "VARCHAR":
        return "STRING", value.get("value", "")
    if kind == "DOUBLE":
        return "NUMERIC", repr(float(value["value"]))
    if kind == "DECIMAL" and isinstance(value["value"], int):
        return "NUMERIC", _decimal_text(value["value"], value["type"]["type_info"]["scale"])
    return None


def _decimal_text(unscaled: int, scale: int) -> str:
    digits = str(abs(unscaled)).rjust(scale + 1, "0")
    sign = "-" if unscaled < 0 else ""
    return f"{sign}{digits[: len(digits) - scale]}.{digits[len(digits) - scale :]}"
