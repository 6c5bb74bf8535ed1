"""From the text of an expression to its tree and the columns it names; everything else is refused here."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from aiopipe.errors import ExpressionError
from aiopipe.sql.caret import char_of_byte, expression_error
from aiopipe.sql.plain import plain
from aiopipe.sql.refuse import CLOCKS, refusal
from aiopipe.sql.session import ask
from aiopipe.sql.tree import Node, arguments, children, keyword_lambda, lambda_names, name, start
from aiopipe.tuples import NamedTuple

__all__ = ["BEFORE", "Parsed", "Reference", "parse", "remember", "wrap"]

BEFORE = "SELECT ("
# The newline ends a comment that would otherwise swallow the parenthesis.
AFTER = "\n) FROM batch"
_STATEMENT_KEYS = {"type", "cte_map", "select_list", "from_table", "aggregate_handling"}
_LAMBDA_TAKERS = {
    prefix + verb for prefix in ("", "list_", "array_") for verb in ("transform", "apply", "filter", "reduce", "invoke")
}


class Reference(NamedTuple):
    """A column named in an expression, and the character where its name stands."""

    name: str
    at: int | None


class Parsed(NamedTuple):
    """An expression that may be evaluated record by record.

    columns: the names as written (without quotes), each once, in order; the case is the writer's. plain: so plain that
    DuckDB was not asked.
    """

    text: str
    columns: tuple[str, ...]
    references: tuple[Reference, ...]
    tree: Node
    plain: bool = False


def wrap(text: str) -> str:
    """The statement that evaluates an expression over the table `batch`."""
    return f"{BEFORE}{text}{AFTER}"


_KEPT = 512  # expressions, for whoever asks again
_sent: dict[str, Parsed] = {}


@lru_cache(maxsize=_KEPT)
def parse(text: str) -> Parsed:
    """The columns that an SQL expression names; ExpressionError, with a caret, for what cannot be evaluated.

    >>> parse("amount > 100 AND status = 'ok'").columns
    ('amount', 'status')
    """
    try:
        return _sent.get(text) or _parse(text)
    except RecursionError:
        raise expression_error(
            "the expression is nested too deeply", text, None, "split it over several columns"
        ) from None


def remember(parsed: Parsed) -> None:
    """Take what another process has parsed: this one need not import duckdb for it."""
    if len(_sent) >= _KEPT:
        _sent.clear()
    _sent[parsed.text] = parsed


def _parse(text: str) -> Parsed:
    _check_text(text)
    known = plain(text, len(BEFORE))
    tree = _only_expression(text) if known is None else known
    references: list[Reference] = []
    for node in _walk(tree, frozenset()):
        if node["class"] == "COLUMN_REF":
            references.append(_reference(text, node))
        elif found := refusal(node):
            raise expression_error(found.message, text, _at(text, node), found.hint)
    names = tuple(dict.fromkeys(r.name for r in references))
    return Parsed(text, names, tuple(references), tree, plain=known is not None)


def _check_text(text: str) -> None:
    if not text.strip():
        raise ExpressionError("the expression is empty", hint="write a condition such as amount > 100")
    for bad in (c for c in text if c == "\0" or "\ud800" <= c <= "\udfff"):
        raise expression_error(f"{bad!r} cannot stand in an expression", text.replace(bad, "?"), text.index(bad))


def _only_expression(text: str) -> Node:
    """The tree of the text, once it is sure that nothing outside the parentheses was written."""
    tree = ask("syntax", wrap(text))
    if tree["error"]:
        raise _syntax_error(text, tree)
    statement = tree["statements"][0]["node"]
    # `a) + (b` parses within parentheses, `a, b` without: one expression parses in both, to one item.
    bare = ask("syntax", f"SELECT {text}\n FROM batch")
    alone = (
        len(tree["statements"]) == 1
        and set(statement) <= _STATEMENT_KEYS
        and statement["from_table"].get("table_name") == "batch"
        and len(statement["select_list"]) == 1
        and not bare["error"]
        and len(bare["statements"]) == 1
        and len(bare["statements"][0]["node"].get("select_list", ())) == 1
        and not bare["statements"][0]["node"]["select_list"][0].get("alias")
    )
    top: Node = statement["select_list"][0]
    # In 2.0 a trailing comma makes a row of what the parentheses hold: its place is our parenthesis.
    if not alone or top.get("query_location", len(BEFORE)) < len(BEFORE):
        raise expression_error("this is more than one expression", text, None, "write one expression")
    return top


def _syntax_error(text: str, tree: dict[str, object]) -> ExpressionError:
    message = str(tree.get("error_message", "syntax error")).replace(AFTER, "")
    position = str(tree.get("position", ""))
    at: int | None = None
    if position.isdigit():
        at = int(position) - len(BEFORE)
        # 2.0, which also writes "location", counts bytes; 1.4 counts characters.
        at = char_of_byte(text, at) if "location" in tree else at
    if "depth limit" in message or "memory exhausted" in message:
        message, at = "the expression is nested too deeply", None
    if at is not None and at >= len(text):
        message, at = "the expression ends too early", len(text.rstrip())
    return expression_error(
        message, text, at, 'a column name that is no plain word stands in double quotes: "dep time"'
    )


def _at(text: str, node: Node) -> int | None:
    where = start(node)
    return None if where is None else char_of_byte(text, where - len(BEFORE))


def _walk(node: Node, bound: frozenset[str]) -> Iterator[Node]:
    """Every node, in order; the parameters of lambdas left out, they are no columns."""
    if node["class"] == "COLUMN_REF" and node["column_names"][0].lower() in bound:
        return
    yield node
    if node["class"] in ("WINDOW", "SUBQUERY"):
        return
    taker = node["class"] == "FUNCTION" and name(node) in _LAMBDA_TAKERS
    lambdas = [a for a in arguments(node) if a["class"] == "LAMBDA"] if taker else []
    for child in children(node):
        if child["class"] == "LAMBDA" and (keyword_lambda(child) or any(child is one for one in lambdas)):
            inner = bound | {n.lower() for n in lambda_names(child)}
            yield from _walk(child["expr"], inner)
        else:
            yield from _walk(child, bound)


def _reference(text: str, node: Node) -> Reference:
    parts, at = node["column_names"], _at(text, node)
    if len(parts) > 1:
        dotted = ".".join(parts)
        raise expression_error(
            f"{dotted} names a field of a table",
            text,
            at,
            f'a column of that name: "{dotted}"; else only {parts[-1]}',
        )
    quoted = at is not None and text[at : at + 1] == '"'
    if parts[0].lower() in CLOCKS - {"now", "today"} and not quoted:
        raise expression_error(
            f"{parts[0]} varies from run to run",
            text,
            at,
            f'write the value out; a column of that name: "{parts[0]}"',
        )
    return Reference(parts[0], at)
