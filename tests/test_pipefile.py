"""Pipeline files: what is written down comes back, and what is wrong is told with its line."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiopipe import Derive, Filter, Head, Map, Pipeline, Read, Rename, Select, UnknownNameError, UsageError, Write
from aiopipe.job.options import JobOptions
from aiopipe.pipefile import dumps, load, loads, parse

GOOD = """\
[job]
name = "clean sales"
rejects = "rejects.csv"
max_rejects = 5

[[stage]]
use = "read"
paths = ["in/*.csv"]
null = "NA"

[[stage]]
use = "filter"
where = "amount > 100"

[[stage]]
use = "derive"
[stage.columns]
net = "amount * 0.9"

[[stage]]
use = "head"

[[stage]]
use = "head"
count = 3
per_file = true

[[stage]]
use = "write"
to = "clean/"
"""


def shout(row: dict[str, str]) -> dict[str, str]:
    return row


def test_a_file_is_the_pipeline_that_it_describes():
    found = parse(GOOD)
    assert found.pipeline == (
        Read("in/*.csv", null="NA")
        | Filter("amount > 100")
        | Derive(net="amount * 0.9")
        | Head()
        | Head(3, per_file=True)
        | Write("clean/")
    )
    assert found.name == "clean sales"
    assert JobOptions.build(found.job) == JobOptions(rejects="rejects.csv", max_rejects=5)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
names = st.lists(texts, min_size=1, max_size=4, unique=True)
middles = st.one_of(
    st.builds(Filter, texts),
    st.builds(Head, st.integers(0, 1000), per_file=st.booleans()),
    names.map(lambda n: Select(*n)),
    st.dictionaries(texts, texts, min_size=1, max_size=4).map(Derive),
    st.dictionaries(texts, texts, min_size=1, max_size=4).map(Rename),
    st.just(Map(shout)),
    st.builds(lambda p, o: Map(shout, placement=p, ordered=o), st.sampled_from(["thread", "process"]), st.booleans()),
    st.just(Map(shout, thread_sensitive=True)),
)
sources = st.builds(
    lambda paths, null, no_header, block: Read(paths, null=null, no_header=no_header, block=block),
    names,
    st.lists(texts, max_size=3),
    st.booleans(),
    st.integers(1, 10**7),
)
sinks = st.builds(Write, texts, format=st.sampled_from([None, "csv", "jsonl"]))


@given(sources, st.lists(middles, max_size=4), sinks)
def test_every_pipeline_that_is_written_down_comes_back_equal(source: Read, middle: list[Any], sink: Write):
    pipeline = Pipeline((source, *middle, sink))
    text = dumps(pipeline)
    assert loads(text) == pipeline
    assert dumps(loads(text)) == text


@given(st.dictionaries(texts, st.one_of(texts, st.integers(-(2**63), 2**63 - 1), st.booleans(), st.floats())))
def test_what_is_written_is_toml(job: dict[str, Any]):
    from aiopipe.pipefile import _toml

    found = tomllib.loads(f"x = {_toml(job)}")["x"]
    assert repr(found) == repr(job)  # nan is nan


def test_job_options_are_written_down_too():
    job = {"name": 'say "hi"', "rejects": "r.csv", "import": ["a", "b.py"]}
    assert tomllib.loads(dumps(Read("a") | Write("-"), job))["job"] == job


def test_a_pair_that_stands_twice_is_written_as_a_list():
    pipeline = Read("a", types=[("x", "VARCHAR"), ("x", "BIGINT")]) | Write("-")
    assert loads(dumps(pipeline)) == pipeline


def test_a_function_without_a_name_cannot_be_written_down():
    with pytest.raises(UsageError, match="no name that another program could import it by"):
        dumps(Read("a") | (lambda row: row) | Write("-"))


def test_a_path_that_is_no_text_cannot_be_written_down():
    with pytest.raises(UsageError, match="no Unicode text"):
        dumps(Read("a\udcff") | Write("-"))


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


WRONG = [
    ("where =", "wher =", 13, "filter: no option 'wher'", "did you mean where?"),
    ('where = "amount > 100"', "", 12, "filter: where is missing", "aiopipe stages filter"),
    ('"derive"', '"derove"', 16, "no stage 'derove'", "did you mean derive?"),
    ('use = "derive"', "use = 3", 15, "has use = 3", "which stage it is"),
    ('use = "derive"', "", 15, "stage 3 has no `use`", "which stage it is"),
    ("\nrejects =", "\nreject =", 3, "[job] has no option 'reject'", "did you mean rejects?"),
    ("[job]", "[jobs]", 1, "no table 'jobs' is known", "did you mean job?"),
    ('name = "clean sales"', "name = 3", 2, "name is 3, not text", ""),
    ("max_rejects = 5", 'max_rejects = "5"', 4, "max_rejects is '5', not a whole number", ""),
    ("per_file = true", "per_file = 1", 26, "per_file is 1, not true or false", ""),
    ("count = 3", 'count = "3"', 25, "count is '3', not a whole number", ""),
    ('null = "NA"', "null = 3", 9, "null: 3 is neither text nor a list", ""),
    ('null = "NA"', "null = NA", 9, "no TOML", "in quotes"),
    ('net = "amount * 0.9"', "net = 3", 16, "3 is not text", ""),
]


@pytest.mark.parametrize(("old", "new", "line", "message", "hint"), WRONG, ids=[w[3] for w in WRONG])
def test_what_is_wrong_is_told_with_its_line(old: str, new: str, line: int, message: str, hint: str):
    with pytest.raises(UsageError) as caught:
        parse(changed(old, new), "p.toml")
    error = caught.value
    assert message in str(error)
    assert hint in (error.hint or "")
    assert error.position is not None and error.position.path == "p.toml"
    assert error.position.line == line


@pytest.mark.parametrize("text", ["", "[job]\n", 'stage = "read"', "[stage]\nuse = 'read'", "stage = [1]"])
def test_a_file_without_stages_is_refused(text: str):
    with pytest.raises(UsageError) as caught:
        parse(text, "p.toml")
    assert caught.value.hint


def test_a_file_that_does_not_join_is_refused():
    with pytest.raises(UsageError, match="ends with a sink, and head is none"):
        loads("[[stage]]\nuse = 'read'\npaths = 'a'\n[[stage]]\nuse = 'head'\n")


SETTINGS: list[tuple[str, Callable[[Any], Any], Any]] = [
    ("filter.where=x < 5", lambda p: p[1].where, "x < 5"),
    ("filter.where=5", lambda p: p[1].where, "5"),
    ("head#4.count=7", lambda p: p[3].count, 7),
    ("head#5.per_file=false", lambda p: p[4].per_file, False),
    ("read.paths=a.csv", lambda p: p[0].paths, ("a.csv",)),
    ("read.paths=['a.csv', 'b.csv']", lambda p: p[0].paths, ("a.csv", "b.csv")),
    ("read.null=0", lambda p: p[0].null, ("0",)),
    ("read.block=2MiB", lambda p: p[0].block, 2 << 20),
    ("read.types=id=VARCHAR", lambda p: p[0].types, (("id", "VARCHAR"),)),
    ("derive.columns={ a = 'b' }", lambda p: p[2].columns, (("a", "b"),)),
    ("write.to=2024", lambda p: p[5].to, "2024"),
]


@pytest.mark.parametrize(("setting", "get", "value"), SETTINGS, ids=[s[0] for s in SETTINGS])
def test_a_setting_changes_one_option(setting: str, get: Callable[[Any], Any], value: Any):
    assert get(parse(GOOD, settings=[setting]).pipeline.stages) == value


@pytest.mark.parametrize(
    ("setting", "message", "hint"),
    [
        ("filter", "'filter' is not stage.option=value", "such as"),
        ("fliter.where=x", "no stage 'fliter'", "did you mean filter?"),
        ("job.rejects=x", "no stage 'job'", "flags of their own"),
        ("head.count=3", "has 2 stages 'head'", "say head#4 or head#5"),
        ("head#1.count=3", "no stage head#1", "head#4, head#5"),
        ("filter.wher=3", "no option 'wher'", "did you mean where?"),
        ("head#4.count=x", "count is 'x', not a whole number", ""),
    ],
)
def test_a_wrong_setting_is_refused(setting: str, message: str, hint: str):
    with pytest.raises(UsageError) as caught:
        parse(GOOD, settings=[setting])
    assert message in str(caught.value)
    assert hint in (caught.value.hint or "")


def test_modules_of_the_job_are_imported_for_their_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from aiopipe import stages

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(stages, "_registered", dict(stages._registered))
    (tmp_path / "in_a_file.py").write_text(
        "from aiopipe import stage\n@stage\ndef in_a_file(row, *, by: int = 2):\n    return row\n"
    )
    file = tmp_path / "p.toml"
    file.write_text(
        "[job]\nimport = ['in_a_file']\n[[stage]]\nuse='read'\npaths='a'\n"
        "[[stage]]\nuse='in-a-file'\nby=5\n[[stage]]\nuse='write'\nto='-'\n"
    )
    found = load(str(file))
    assert repr(found.pipeline) == "Read('a') | in_a_file(by=5) | Write('-')"
    assert loads(dumps(found.pipeline)) == found.pipeline


def test_a_file_that_is_not_there_or_no_text_is_an_error_with_a_name(tmp_path: Path):
    from aiopipe import InputError

    with pytest.raises(InputError, match="No such file"):
        load(str(tmp_path / "nothing.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        load(str(tmp_path / "bytes.toml"))


def test_an_unknown_option_is_an_unknown_name():
    with pytest.raises(UnknownNameError):
        parse(changed("where =", "wher ="))


def test_a_sink_in_the_middle_is_refused_at_its_line() -> None:
    text = (
        '[[stage]]\nuse = "read"\npaths = "a"\n[[stage]]\nuse = "write"\nto = "b"\n[[stage]]\nuse = "head"\ncount = 1\n'
    )
    with pytest.raises(UsageError, match="write stands in the middle, before head, and ends a pipeline") as caught:
        loads(text)
    assert caught.value.position is not None
    assert caught.value.position.line == 5
    assert "put the sink last" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="Write stands in the middle, before Head"):
        Read("a") | Write("b") | Head(1)
