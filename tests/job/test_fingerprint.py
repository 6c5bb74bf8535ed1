"""What a pipeline is made of is the same in any process, and another when it would do something else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aiopipe.job.code import Walker
from aiopipe.job.fingerprint import changes

MODULE = '''
import functools, math, re
import helper_module
from helper_module import clean

WORDS = {"a", "b", "c", "d"}
TABLE = {"x": 1.5, "y": [1, 2, (3,)]}
PATTERN = re.compile("a+", re.I)


class Rule:
    """Says no."""
    limit = 3

    def fits(self, row):
        return len(row) < self.limit and row["v"] in WORDS


RULE = Rule()


def enrich(row, *, extra=frozenset({"p", "q", "r"})):
    """A docstring."""
    # A comment.
    row["v"] = clean(row["v"]) + helper_module.suffix(row)
    if row["v"] in {"one", "two", "three", "four"} or PATTERN.match(row["v"]) or RULE.fits(row):
        row["w"] = str(math.floor(TABLE["x"]))
    return row


def made(factor):
    def scale(row):
        return {k: v * factor for k, v in row.items()}
    return scale


twice = made(2)
bound = RULE.fits
partly = functools.partial(enrich, extra={"k": 1})
'''
HELPER = """
def clean(text):
    return inner(text)


def inner(text):
    return text.strip()


def suffix(row):
    return "!"


def unused(row):
    return 1
"""
SHOW = """
import json, sys
import job_module
from aiopipe.job.code import Walker
out = {}
for name in ("enrich", "twice", "bound", "partly"):
    walker = Walker()
    walker.add("map", getattr(job_module, name))
    out[name] = walker.parts()
print(json.dumps(out, sort_keys=True))
"""


def parts(place: Path, module: str = MODULE, helper: str = HELPER, seed: str = "1") -> dict[str, dict[str, str]]:
    """What another process, with another order of sets, finds the functions to be."""
    import json

    place.mkdir(exist_ok=True)
    (place / "job_module.py").write_text(module)
    (place / "helper_module.py").write_text(helper)
    env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, env=env, check=True)
    found: dict[str, dict[str, str]] = json.loads(done.stdout)
    return found


def test_another_process_finds_the_same(tmp_path: Path) -> None:
    first = parts(tmp_path / "1")
    assert all(parts(tmp_path / f"s{seed}", seed=str(seed)) == first for seed in range(2, 5))
    assert "function job_module:enrich" in first["enrich"]
    assert "function helper_module:inner" in first["enrich"]
    assert "function job_module:made.<locals>.scale" in first["twice"]
    assert "class job_module:Rule" in first["bound"]


def test_the_harness_would_notice_an_order_of_sets(tmp_path: Path) -> None:
    """What is not sorted differs between these processes: else the test above would prove nothing."""
    script = "print({'one', 'two', 'three', 'four', 'five'})"
    shown = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, env={**os.environ, "PYTHONHASHSEED": str(seed)}
        ).stdout
        for seed in range(5)
    }
    assert len(shown) > 1


SAME = [
    ("# A comment.", "# Another comment,\n    # and one more."),
    ('"""A docstring."""', '"""Said otherwise."""'),
    ("\n\nclass Rule:", "\n\n\n\n\nclass Rule:"),
    ('{"a", "b", "c", "d"}', '{"d", "c", "b", "a"}'),
]
OTHER = [
    ("math.floor", "math.ceil", "function job_module:enrich"),
    ('"three", "four"}', '"three", "five"}', "function job_module:enrich"),
    ('frozenset({"p"', 'frozenset({"P"', "function job_module:enrich"),
    ('{"a", "b"', '{"A", "b"', "function job_module:Rule.fits"),
    ('"x": 1.5', '"x": 1.6', "function job_module:enrich"),
    ('"a+"', '"b+"', "function job_module:enrich"),
    ("limit = 3", "limit = 4", "class job_module:Rule"),
    ("len(row) <", "len(row) <=", "function job_module:Rule.fits"),
]


@pytest.mark.parametrize(("old", "new"), SAME)
def test_what_changes_nothing_changes_no_fingerprint(old: str, new: str, tmp_path: Path) -> None:
    assert old in MODULE
    assert parts(tmp_path, MODULE.replace(old, new)) == parts(tmp_path)


@pytest.mark.parametrize(("old", "new", "name"), OTHER)
def test_what_changes_the_function_is_named(old: str, new: str, name: str, tmp_path: Path) -> None:
    assert old in MODULE
    before, after = parts(tmp_path)["enrich"], parts(tmp_path, MODULE.replace(old, new))["enrich"]
    assert changes(before, after) == [f"{name} changed"]


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("text.strip()", "text.lstrip()", ["function helper_module:inner changed"]),
        ('return "!"', 'return "?"', ["function helper_module:suffix changed"]),
        ("return 1", "return 2", []),
    ],
)
def test_a_helper_of_a_helper_counts_and_one_that_nobody_calls_does_not(
    old: str, new: str, found: list[str], tmp_path: Path
) -> None:
    before, after = parts(tmp_path)["enrich"], parts(tmp_path, helper=HELPER.replace(old, new))["enrich"]
    assert changes(before, after) == found


def test_what_a_closure_holds_and_what_a_partial_fixes_counts(tmp_path: Path) -> None:
    before = parts(tmp_path)
    after = parts(tmp_path, MODULE.replace("made(2)", "made(3)").replace('extra={"k": 1}', 'extra={"k": 2}'))
    assert changes(before["twice"], after["twice"]) == ["function job_module:made.<locals>.scale changed"]
    assert changes(before["partly"], after["partly"]) == ["value of map changed"]
    assert before["enrich"] == after["enrich"]


def test_a_distribution_counts_by_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    import click

    from aiopipe.job import code

    def function(row: object) -> object:
        return click.style(row)

    def found() -> dict[str, str]:
        walker = Walker()
        walker.add("map", function)
        return walker.parts()

    before = found()
    monkeypatch.setattr(code, "_version_of", lambda top: "99.0")
    [only] = changes(before, found())
    assert "function changed" in only


def test_objects_that_point_at_each_other_end(tmp_path: Path) -> None:
    class Node:
        def __init__(self) -> None:
            self.me = self

    node = Node()
    loop: list[object] = []
    loop.append(loop)

    def function(row: object) -> object:
        return node, loop

    walker = Walker()
    walker.add("map", function)
    assert walker.parts()


def test_changes_are_told_in_words() -> None:
    before = {"filter.where": "'a > 1'", "function m:f": "1", "head.count": "2"}
    now = {"filter.where": "'a > 2'", "function m:f": "2", "function m:g": "3"}
    assert changes(before, now) == [
        "filter.where 'a > 1' -> 'a > 2'",
        "function m:f changed",
        "function m:g is new",
        "head.count removed: 2",
    ]
    assert changes(now, now) == []
