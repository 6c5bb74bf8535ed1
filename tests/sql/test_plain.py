"""What is read without DuckDB is what DuckDB reads, and has the type that DuckDB gives it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopipe.errors import ExpressionError
from aiopipe.sql import compile_expression, direct, parse, wants_duckdb
from aiopipe.sql.binding import bind, resolve
from aiopipe.sql.expression import _known_type
from aiopipe.sql.literals import constant
from aiopipe.sql.plain import plain
from aiopipe.sql.session import session
from aiopipe.sql.syntax import BEFORE, Parsed, _only_expression, _reference, _walk
from aiopipe.sql.tree import Node, arguments, literal, name

TYPES = {
    "i": "BIGINT", "j": "BIGINT", "x": "DOUBLE", "Y": "DOUBLE", "s": "VARCHAR", "dep time": "VARCHAR", "é": "BIGINT",
    "b": "BOOLEAN", "d": "DATE", "year": "BIGINT", "time": "BIGINT", "user": "VARCHAR", "rowid": "BIGINT",
}  # fmt: skip
OPPOSITE = {
    "COMPARE_EQUAL": "COMPARE_NOTEQUAL",
    "COMPARE_LESSTHAN": "COMPARE_GREATERTHANOREQUALTO",
    "COMPARE_GREATERTHAN": "COMPARE_LESSTHANOREQUALTO",
}
OPPOSITE |= {there: here for here, there in OPPOSITE.items()}


def seen(node: Node) -> object:
    """What this package sees of a tree: places of names and literals, the rest by its kind."""
    kind, at = node["class"], node.get("query_location")
    if kind == "COLUMN_REF":
        return node["column_names"], at
    if kind in ("CONSTANT", "CAST"):
        found = literal(node)
        return repr(constant(node)), found and found[0], at
    if kind == "COMPARISON":
        return node["type"], seen(node["left"]), seen(node["right"])
    if kind == "FUNCTION":
        return name(node), *map(seen, arguments(node))
    if node["type"] == "OPERATOR_NOT" and arguments(node)[0]["class"] == "COMPARISON":
        inner = arguments(node)[0]  # 1.4 writes NOT a = b as a <> b
        return OPPOSITE[inner["type"]], seen(inner["left"]), seen(inner["right"])
    if kind in ("CONJUNCTION", "OPERATOR"):
        return node["type"], *map(seen, arguments(node))
    return kind, node["type"]


def asked(text: str) -> Parsed:
    """What `parse` gave if nothing were plain, as far as that can be told where nothing is refused."""
    tree = _only_expression(text)
    references = tuple(_reference(text, n) for n in _walk(tree, frozenset()) if n["class"] == "COLUMN_REF")
    return Parsed(text, tuple(dict.fromkeys(r.name for r in references)), references, tree)


def check(text: str, types: Mapping[str, str] = TYPES) -> bool:
    """Whether the text is plain; then DuckDB must say the same about it."""
    found = plain(text, len(BEFORE))
    if found is None:
        return False
    with_duckdb = asked(text)  # it must not raise: what is wrong is never plain
    assert seen(found) == seen(with_duckdb.tree)
    parsed = parse(text)
    assert parsed.plain
    assert (parsed.columns, parsed.references) == (with_duckdb.columns, with_duckdb.references)
    check_type(parsed, types)
    return True


def check_type(parsed: Parsed, types: Mapping[str, str]) -> None:
    try:
        bound = resolve(parsed, types)
    except ExpressionError:
        return
    known = _known_type(parsed, bound, direct.plan(parsed.tree, bound))
    if known:
        assert known == bind(parsed, bound)


NAMES = ["i", "j", "x", "y", "X", "s", '"dep time"', '"é"', '"É"', "é", "b", "d", "year", "time", "user", "rowid",
         '"i"', "current_date", "now", "batch", '"a""b"', '""', "i.j", "true", "null"]  # fmt: skip
LITERALS = ["1", "30", "-2", "- 2", "0", "-0", "0.0", "-0.0", "007", "1.5", "-1.5", ".5", "5.", "1e5", "3000000000",
            "9007199254740993", "999999999999999999", "9223372036854775808", "123456789012345.67", "0.000000000000001",
            "'x'", "''", "'it''s'", "'5'", "'é\n'", "'--'", "E'x'", "1_000", "0x1F"]  # fmt: skip
SIGNS = ["=", "==", "<>", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/"]
ODD_SIGNS = ["%", "//", "||", "**", "^", "@", "!", "::", "->", "!=-", "=-", "*-", "--"]
spaces = st.sampled_from([" ", "", "\n", "\t ", " \r\n", "\u00a0", "/**/", "--\n"]) | st.just(" ")


def joined(parts: tuple[str, ...]) -> str:
    return "".join(parts)


def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return (
        st.tuples(inner, spaces, st.sampled_from(SIGNS), spaces, inner).map(joined)
        | st.tuples(inner, spaces, st.sampled_from(ODD_SIGNS), spaces, inner).map(joined)
        | st.tuples(inner, st.sampled_from([" AND ", " or ", " And ", "\nOR\n"]), inner).map(joined)
        | st.tuples(st.sampled_from(["(", "( ", "-", "- ", "+", "NOT ", "not("]), inner).map(
            lambda p: joined(p) + ")" * p[0].count("(")
        )
        | st.tuples(inner, st.sampled_from([" IS NULL", " is not null", " ISNULL", " IS TRUE", " IN (1)"])).map(joined)
    )


written = st.recursive(st.sampled_from(NAMES) | st.sampled_from(LITERALS), grown, max_leaves=8)
USUAL = [" + ", "-", "*", " / ", " < ", ">", "=", " <> ", " AND ", " OR "]
sane = st.recursive(
    st.sampled_from(["i", "j", "x", "Y", "s", '"dep time"', "year", "1", "2.5", "-3", "'x'"]),
    lambda inner: (
        st.tuples(
            inner, st.sampled_from([" + ", "-", "*", " / ", " < ", ">", "=", " <> ", " AND ", " OR "]), inner
        ).map(joined)
        | st.tuples(st.sampled_from(["", "-", "NOT "]), inner).map(lambda p: f"{p[0]}({p[1]})")
        | inner.map(lambda text: f"{text} IS NULL")
    ),
    max_leaves=8,
)
scattered = st.lists(
    st.tuples(
        st.sampled_from(NAMES + LITERALS + SIGNS + ODD_SIGNS + ["(", ")", "AND", "NOT", "IS", ",", ";", "'", '"']),
        spaces,
    ),
    max_size=7,
).map(lambda pairs: "".join(word + space for word, space in pairs))


@settings(max_examples=3000, deadline=None)
@given(written | sane | scattered)
def test_what_is_plain_is_what_duckdb_reads(text: str):
    check(text)


@settings(max_examples=1000, deadline=None)
@given(st.text(st.sampled_from("ab1.5 '\"()<>=!-+*/é\n\\$?@#%^&|~;,:[]{}_eEx"), max_size=9))
def test_of_any_text_duckdb_reads_what_is_plain_alike(text: str):
    check(text)


WITH_WORD = [
    "{} > 1",
    "1 < {}",
    "{0} + {0} = {0}",
    "NOT {} = 1",
    "{} IS NULL",
    "({}) * 2",
    "-{0} < 3 AND i > {0}",
    "{}",
]


def keywords() -> Iterator[str]:
    for (word,) in session().connection.execute("SELECT keyword_name FROM duckdb_keywords()").fetchall():
        yield word


def test_a_column_may_be_called_like_any_keyword():
    words = [*keywords(), "now", "today", "localtime", "current_timestamp", "batch", "rowid", "e", "x", "b", "u", "n"]
    assert len(words) > 400
    for word in words:
        for text in WITH_WORD:
            check(text.format(word), {"i": "BIGINT", word: "BIGINT"})
        check(f"{word.title()} < 0.5 OR i = {word}", {"i": "BIGINT", word: "DOUBLE"})
        assert check(f"\"{word}\" = 'x'", {word: "VARCHAR"})


@pytest.mark.parametrize(
    "text",
    [
        "arr_delay > 30", '"arr delay" >= -1.5', "a>-1", "a - -1 < b", "a + b*2 - -c / 3 > 0", "s = 'it''s' OR s <> ''",
        "NOT a = 1 AND (b > 2 OR c IS NOT NULL)", "a IS NULL", "year >= 2012 and month<>1", "dep_delay - arr_delay",
        "a", "1", " \n( ( a ) )\n", "\"größe\" > 3", "price * 0.9",
    ],
)  # fmt: skip
def test_what_people_write_is_plain(text: str):
    assert check(text)


@pytest.mark.parametrize(
    "text",
    [
        "a > b > c", "a = b = c", "a b", "a(b)", "a.b > 1", "a > 1 -- note", "a /* note */ > 1", "a > 1;", "a > 1, b",
        "a) + (b", "count > 1 OR count(*) > 1", "current_date > d", "date '2013-01-01' < d", "x'ff' = a", "E'a' = s",
        "'a' 'b' = s", "a > 5and b", "5a > 3", "a > 007", "a > 1_000", "a > 1e5", "a > NULL", "true", "a != -1 != b",
        "a!=-1", "a IS TRUE", "a NOT NULL", "a ISNULL", "a BETWEEN 1 AND 2", "a IN (1)", "a::INT > 1", "a % 2 = 0",
        "a || b", "größe > 1", "-(a)", "NOT NOT a", "a + 1 IS NULL", "(a", "a)", "", " ", "()", '"" > 1', "'open",
        '"open', "?", "$1", "#1", "*", "a > *", "a > 9223372036854775808", "a > 1234567890123456.5", "\u00a0a > 1",
        "a\\b", "case", "a\0", "+a", "- - 1", "--1", " AND ".join(["a > 1"] * 100), "(" * 300 + "a" + ")" * 300,
    ],
)  # fmt: skip
def test_what_leaves_a_doubt_is_for_duckdb(text: str):
    assert plain(text, len(BEFORE)) is None
    assert wants_duckdb(text)


def test_decimals_are_for_duckdb_until_it_is_known_what_they_meet():
    assert wants_duckdb("x * 0.9")
    assert not wants_duckdb("x * 9")
    assert compile_expression("x * 0.9", TYPES).direct
    assert compile_expression("i * 0.9", TYPES).type.startswith("DECIMAL")


@pytest.mark.parametrize("text", ["a > 1 AND nothing > 2", 'a > 1 AND "é" < nothing', "a\n  > 1 OR\n nothing = 'x'"])
def test_carets_are_where_duckdb_has_them(text: str):
    def complaint(parsed: Parsed) -> str:
        with pytest.raises(ExpressionError) as caught:
            resolve(parsed, {"a": "BIGINT", "é": "BIGINT"})
        return caught.value.message

    assert parse(text).plain
    assert complaint(parse(text)) == complaint(asked(text))


NOTHING = """
import sys
class Nowhere:
    def find_spec(self, name, path=None, target=None):
        assert name.partition(".")[0].strip("_") != "duckdb", name
sys.meta_path.insert(0, Nowhere())
import pyarrow as pa
from aiopipe.sql import compile_expression, compile_predicate
made = compile_predicate("n > 2 AND NOT x < 0.25", {"n": "BIGINT", "x": "DOUBLE"})
assert made.mask({"n": pa.array(range(5)), "x": pa.array([0.5] * 5)}, 5).values.to_pylist() == [0, 0, 0, 1, 1]
assert compile_expression("x * 0.5 - n", {"n": "BIGINT", "x": "DOUBLE"}).type == "DOUBLE"
"""


def test_a_plain_expression_takes_no_duckdb_from_its_text_to_its_values():
    done = subprocess.run([sys.executable, "-c", NOTHING], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_types_that_do_not_fit_are_told_by_duckdb():
    told: Any
    with pytest.raises(ExpressionError, match="VARCHAR") as told:
        compile_expression("s + 1 > i", TYPES)
    assert "DOUBLE" in told.value.hint
