"""Expressions so plain that their tree is known without DuckDB, which takes a tenth of a second to come up.

Comparisons, + - * /, AND, OR, NOT and IS NULL over names, whole and decimal numbers and strings. What is read here has
the tree that DuckDB makes of it, as far as this package looks at trees (`tree.py`); whatever leaves a doubt is None,
and DuckDB is asked. tests/sql/test_plain.py holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache

from aiopipe.sql.tree import Node
from aiopipe.tuples import NamedTuple

__all__ = ["plain", "wants_duckdb"]

_LONGEST = 256  # tokens: what DuckDB itself would find too deep is left to it

_TOKEN = re.compile(
    r"""[ \t\r\n]*(?:
    (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<quoted>"(?:[^"]|"")+")
    |(?P<string>'(?:[^']|'')*')
    |(?P<number>(?:0|[1-9][0-9]*)(?:\.[0-9]+)?)
    |(?P<sign>[-+*/<>=!~@\#%^&|`?:]+)
    |(?P<bracket>[()])
    |(?P<end>\Z))""",
    re.VERBOSE,
)
_WORDS = ("name", "quoted", "string", "number")  # no two of them stand together without a space

_COMPARISONS = {
    "=": "COMPARE_EQUAL",
    "==": "COMPARE_EQUAL",
    "<>": "COMPARE_NOTEQUAL",
    "!=": "COMPARE_NOTEQUAL",
    "<": "COMPARE_LESSTHAN",
    "<=": "COMPARE_LESSTHANOREQUALTO",
    ">": "COMPARE_GREATERTHAN",
    ">=": "COMPARE_GREATERTHANOREQUALTO",
}
_SUMS, _PRODUCTS = ("+", "-"), ("*", "/")
_BEFORE_MINUS = {f"{sign}-" for sign in _COMPARISONS if sign != "!="}  # x>-1 is two signs, x!=-1 one that is unknown

# Words that DuckDB (1.4 and 2.0) reserves at one place or another, and those that mean a value or a row to it.
_RESERVED = """
    all analyse analyze and anti any array as asc asof asymmetric at authorization between bigint binary bit
    boolean both by case cast char character check coalesce collate collation column columns concurrently
    constraint create cross dec decimal default deferrable desc describe distinct do else end except exists
    extract false fetch float for foreign freeze from full generated glob group grouping grouping_id having
    ilike in initially inner inout int integer intersect interval into is isnull join lambda lateral leading
    left like limit map national natural nchar none not notnull null nullif numeric offset on only or order out
    outer overlaps overlay pivot pivot_longer pivot_wider placing position positional precision primary qualify
    real references returning right row select semi setof show similar smallint some struct substring summarize
    symmetric table tablesample then time timestamp to trailing treat trim true try_cast tuple union unique
    unpack unpivot using values varchar variadic verbose when where window with xmlattributes xmlconcat
    xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable batch rowid user
    session_user current_catalog current_date current_role current_schema current_time current_timestamp
    current_user localtime localtimestamp
"""
_TAKEN = frozenset(_RESERVED.split())


class _Doubt(Exception):  # noqa: N818 - no error: DuckDB knows
    """The text is not plain."""


class _Token(NamedTuple):
    """kind: a group of `_TOKEN`; text: as written; at: the character it begins at."""

    kind: str
    text: str
    at: int


@lru_cache(maxsize=512)
def plain(text: str, before: int) -> Node | None:
    """The tree of an expression that stands `before` bytes into a statement; None where DuckDB has to say."""
    try:
        return _Reader(text, before).whole()
    except _Doubt:
        return None


def wants_duckdb(text: str) -> bool:
    """Whether an expression needs DuckDB, as far as can be told before the types of its columns are known.

    Decimals count: they are computed without it only where they meet DOUBLE.
    """
    found = plain(text, 0)
    return found is None or any(token.kind == "number" and "." in token.text for token in _tokens(text))


def _tokens(text: str) -> Iterator[_Token]:
    at, word = 0, False
    while True:
        found = _TOKEN.match(text, at)
        if found is None:
            raise _Doubt
        kind = str(found.lastgroup)
        start, stop = found.span(kind)
        if word and start == at and kind in _WORDS:
            raise _Doubt
        token = found[kind]
        if kind == "sign" and token in _BEFORE_MINUS:
            yield _Token(kind, token[:-1], start)
            start, token = stop - 1, "-"
        yield _Token(kind, token, start)
        if kind == "end":
            return
        at, word = stop, kind in _WORDS


class _Reader:
    """Reads from the weakest binding to the strongest; raises _Doubt at the first thing it is not sure of."""

    def __init__(self, text: str, before: int) -> None:
        self._text = text
        self._before = before
        self._tokens = list(_tokens(text))
        if len(self._tokens) > _LONGEST:
            raise _Doubt
        self._place = 0

    def whole(self) -> Node:
        """The tree of all of it."""
        tree = self._any_of()
        if self._next.kind != "end":
            raise _Doubt
        return tree

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self) -> _Token:
        token = self._next
        self._place += 1
        return token

    def _word(self, word: str) -> bool:
        """Whether the next token is this word; then it is taken."""
        found = self._next.kind == "name" and self._next.text.upper() == word
        self._place += found
        return found

    def _sign(self, *signs: str) -> str:
        """The next token if it is one of these signs, and then it is taken; else ""."""
        token = self._next
        if token.kind != "sign" or token.text not in signs:
            return ""
        self._place += 1
        return token.text

    def _any_of(self) -> Node:
        return self._joined("OR", self._all_of)

    def _all_of(self) -> Node:
        return self._joined("AND", self._condition)

    def _joined(self, word: str, read: Callable[[], Node]) -> Node:
        """One part, or a conjunction of several; those within brackets are parts of the one around them."""
        kind = f"CONJUNCTION_{word}"
        parts = [read()]
        while self._word(word):
            parts.append(read())
        if len(parts) == 1:
            return parts[0]
        flat = [inner for part in parts for inner in (part["children"] if part["type"] == kind else [part])]
        return {"class": "CONJUNCTION", "type": kind, "children": flat}

    def _condition(self) -> Node:
        if self._word("NOT"):
            return _operator("OPERATOR_NOT", self._comparison())
        return self._comparison()

    def _comparison(self) -> Node:
        left = self._sum()
        if sign := self._sign(*_COMPARISONS):
            return {"class": "COMPARISON", "type": _COMPARISONS[sign], "left": left, "right": self._sum()}
        if left["class"] == "COLUMN_REF" and self._word("IS"):
            kind = "OPERATOR_IS_NOT_NULL" if self._word("NOT") else "OPERATOR_IS_NULL"
            if not self._word("NULL"):
                raise _Doubt
            return _operator(kind, left)
        return left

    def _sum(self) -> Node:
        return self._chain(_SUMS, self._product)

    def _product(self) -> Node:
        return self._chain(_PRODUCTS, self._signed)

    def _chain(self, signs: tuple[str, ...], read: Callable[[], Node]) -> Node:
        left = read()
        while sign := self._sign(*signs):
            left = _function(sign, left, read())
        return left

    def _signed(self) -> Node:
        at = self._next.at
        if not self._sign("-"):
            return self._single()
        token = self._next
        if token.kind == "number" and token.text.strip("0.") != "":
            self._place += 1
            return self._number(f"-{token.text}", at)
        if token.kind in ("name", "quoted"):
            return _function("-", self._single())
        raise _Doubt

    def _single(self) -> Node:
        token = self._take()
        if token.kind == "number":
            return self._number(token.text, token.at)
        if token.kind == "string":
            return self._literal("STRING", token.text[1:-1].replace("''", "'"), token.at)
        if token.kind == "quoted":
            return self._column(token.text[1:-1].replace('""', '"'), token.at)
        if token.kind == "name" and token.text.lower() not in _TAKEN:
            return self._column(token.text, token.at)
        if token.text == "(" and token.kind == "bracket":
            inner = self._any_of()
            if self._take().text == ")":
                return inner
        raise _Doubt

    def _number(self, text: str, at: int) -> Node:
        digits = sum(c.isdigit() for c in text)
        if digits > (15 if "." in text else 18):
            raise _Doubt
        return self._literal("NUMERIC" if "." in text else "INTEGER", text, at)

    def _literal(self, kind: str, text: str, at: int) -> Node:
        value = {"kind": kind, "text": text}
        return {"class": "CONSTANT", "type": "VALUE_CONSTANT", **self._where(at), "literal": value}

    def _column(self, name: str, at: int) -> Node:
        return {"class": "COLUMN_REF", "type": "COLUMN_REF", **self._where(at), "column_names": [name]}

    def _where(self, at: int) -> Node:
        return {"query_location": self._before + len(self._text[:at].encode())}


def _operator(kind: str, *parts: Node) -> Node:
    return {"class": "OPERATOR", "type": kind, "children": list(parts)}


def _function(called: str, *parts: Node) -> Node:
    return {"class": "FUNCTION", "type": "FUNCTION", "function_name": called, "children": list(parts)}
