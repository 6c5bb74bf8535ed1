"""Three doors, one set of stages: what the library, the shell and a file say of each stage is the same thing."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import fields
from inspect import getdoc, signature
from typing import Any

import pytest

import aiopipe
from aiopipe import (
    Batch,
    Breaker,
    Collect,
    Dedupe,
    Derive,
    Drop,
    Fetch,
    Filter,
    Find,
    Hash,
    Head,
    Map,
    Mask,
    Merge,
    Pipeline,
    Read,
    Rename,
    Retry,
    Route,
    Select,
    Skip,
    Tee,
    Unbatch,
    Write,
)  # fmt: skip
from aiopipe.cli.completion import complete_stages
from aiopipe.cli.job import job_given
from aiopipe.cli.params import params_of
from aiopipe.cli.segments import command_of, pipeline_of
from aiopipe.errors import UsageError
from aiopipe.job.options import DOOR, JobOptions
from aiopipe.options import NESTED, options_of
from aiopipe.pipefile import dumps, loads, parse
from aiopipe.stage import Sink, Source, Stage
from aiopipe.stages import TABLE, find_stage, words


def polite(row: dict[str, str]) -> dict[str, str]:
    return row


HERE = f"{__name__}:polite"

# word -> the stage in Python, what follows its word in a shell, and its table in a file. Every option is used.
DOORS: dict[str, tuple[Callable[[], Stage], str, str]] = {
    "read": (
        lambda: Read(
            ["in/*.csv", "more/"], delimiter="tab", quote="'", encoding="cp1252", no_header=True,
            types={"zip": "VARCHAR", "n": "BIGINT"}, null=["NA", "-"], duplicate_columns="number", include="*.txt",
            follow=True, max_record="1MiB", headers={"Accept": "text/csv", "Authorization": "env:TOKEN"}, block=4096,
        ),
        """'in/*.csv' more/ --delimiter tab --quote "'" --encoding cp1252 --no-header --types zip=VARCHAR
        --types n=BIGINT --null NA --null=- --duplicate-columns number --include '*.txt' --follow
        --max-record 1MiB --headers Accept=text/csv --headers Authorization=env:TOKEN --block 4096""",
        """paths = ["in/*.csv", "more/"]
        delimiter = "tab"
        quote = "'"
        encoding = "cp1252"
        no_header = true
        types = { zip = "VARCHAR", n = "BIGINT" }
        null = ["NA", "-"]
        duplicate_columns = "number"
        include = "*.txt"
        follow = true
        max_record = "1MiB"
        headers = { Accept = "text/csv", Authorization = "env:TOKEN" }
        block = 4096""",
    ),
    "find": (
        lambda: Find("a", include=["*.csv", "*.tsv"], follow=True),
        "a --include '*.csv' --include '*.tsv' --follow",
        'paths = "a"\ninclude = ["*.csv", "*.tsv"]\nfollow = true',
    ),
    "merge": (
        lambda: Merge(Read("a"), Read("b") | Rename(x="y"), ordered=False),
        "[ read a ] [ read b then rename x=y ] --no-ordered",
        """ordered = false
        [[stage.source]]
        [[stage.source.stage]]
        use = "read"
        paths = "a"
        [[stage.source]]
        [[stage.source.stage]]
        use = "read"
        paths = "b"
        [[stage.source.stage]]
        use = "rename"
        columns = { x = "y" }""",
    ),
    "hash": (
        lambda: Hash("sha256", "md5", concurrency=2),
        "-a SHA-256,md5 --concurrency 2",
        'algorithms = ["sha256", "md5"]\nconcurrency = 2',
    ),
    "filter": (lambda: Filter("amount > 100"), "'amount > 100'", 'where = "amount > 100"'),
    "derive": (
        lambda: Derive({"net": "amount * 0.9", "a b": "1 = 1"}),
        "'net=amount * 0.9' 'a b=1 = 1'",
        'columns = { net = "amount * 0.9", "a b" = "1 = 1" }',
    ),
    "select": (lambda: Select("id", "a b"), "id 'a b'", 'columns = ["id", "a b"]'),
    "drop": (lambda: Drop("id", "a b"), "id 'a b'", 'columns = ["id", "a b"]'),
    "rename": (lambda: Rename(old="new", b="c"), "old=new b=c", 'columns = { old = "new", b = "c" }'),
    "mask": (
        lambda: Mask("id", "a b", key="env:K", algorithm="blake3", encoding="base32", length=40, mask_empty=True),
        "id 'a b' --key env:K --algorithm blake3 --encoding base32 --length 40 --mask-empty",
        """columns = ["id", "a b"]
        key = "env:K"
        algorithm = "blake3"
        encoding = "base32"
        length = 40
        mask_empty = true""",
    ),
    "head": (lambda: Head(3, per_file=True), "3 --per-file", "count = 3\nper_file = true"),
    "skip": (lambda: Skip(3, per_file=True), "3 --per-file", "count = 3\nper_file = true"),
    "dedupe": (
        lambda: Dedupe("id", "b", per_file=True, memory="1MB"),
        "id b --per-file --memory 1MB",
        'columns = ["id", "b"]\nper_file = true\nmemory = "1MB"',
    ),
    "map": (
        lambda: Map(polite, placement="process", ordered=False, timeout="300ms", columns=["a", "b"]),
        f"{HERE} --placement process --no-ordered --timeout 300ms --columns a --columns b",
        f'function = "{HERE}"\nplacement = "process"\nordered = false\ntimeout = 0.3\ncolumns = ["a", "b"]',
    ),
    "fetch": (
        lambda: Fetch(
            "https://api.example.com/users/{id}?lang={lang}", into={"city": "$.address['city']", "nick": "$.nick?"},
            method="patch", headers={"Authorization": "Bearer {env:TOKEN}", "X-Id": "{id}"},
            body={"text": "To {lang}: {text}", "n": 1}, concurrency=64, ordered=False, timeout="5s",
            retries=Retry(attempts=5, on="429"), rate_limit="50/s", breaker=Breaker(failures=3, wait=5),
            on_error="keep", cache="answers.db", max_age="12h", max_response="1MB", idempotency_key="X-Key",
        ),
        """'https://api.example.com/users/{id}?lang={lang}' --into "city=$.address['city']" --into 'nick=$.nick?'
        --method PATCH --headers 'Authorization=Bearer {env:TOKEN}' --headers 'X-Id={id}'
        --body '{"text": "To {lang}: {text}", "n": 1}' --concurrency 64 --no-ordered --timeout 5
        --retries attempts=5,on=429 --rate-limit 50/s --breaker failures=3,wait=5s --on-error keep --cache answers.db
        --max-age 12h --max-response 1MB --idempotency-key X-Key""",
        """url = "https://api.example.com/users/{id}?lang={lang}"
        into = { city = "$.address['city']", nick = "$.nick?" }
        method = "PATCH"
        headers = { Authorization = "Bearer {env:TOKEN}", X-Id = "{id}" }
        body = { text = "To {lang}: {text}", n = 1 }
        concurrency = 64
        ordered = false
        timeout = 5
        retries = { attempts = 5, on = "429" }
        rate_limit = "50/s"
        breaker = { failures = 3, wait = "5s" }
        on_error = "keep"
        cache = "answers.db"
        max_age = "12h"
        max_response = "1MB"
        idempotency_key = "X-Key\"""",
    ),
    "batch": (
        lambda: Batch(100, bytes="1MB", within="2s"),
        "100 --bytes 1MB --within 2s",
        'count = 100\nbytes = "1MB"\nwithin = 2',
    ),
    "unbatch": (Unbatch, "", ""),
    "tee": (
        lambda: Tee(Filter("x > 1") | Write("a/"), Write("b/")),
        "[ filter 'x > 1' then write a/ ] [ write b/ ]",
        """[[stage.branch]]
        [[stage.branch.stage]]
        use = "filter"
        where = "x > 1"
        [[stage.branch.stage]]
        use = "write"
        to = "a/"
        [[stage.branch]]
        [[stage.branch.stage]]
        use = "write"
        to = "b/\"""",
    ),
    "route": (
        lambda: Route({"x > 1": Head(3) | Write("a/"), "x = 1": Tee(Write("b/"))}, otherwise=Write("c/")),
        "'x > 1' [ head 3 then write a/ ] 'x = 1' [ tee [ write b/ ] ] otherwise [ write c/ ]",
        """[[stage.branch]]
        where = "x > 1"
        [[stage.branch.stage]]
        use = "head"
        count = 3
        [[stage.branch.stage]]
        use = "write"
        to = "a/"
        [[stage.branch]]
        where = "x = 1"
        [[stage.branch.stage]]
        use = "tee"
        [[stage.branch.stage.branch]]
        [[stage.branch.stage.branch.stage]]
        use = "write"
        to = "b/"
        [[stage.branch]]
        [[stage.branch.stage]]
        use = "write"
        to = "c/\"""",
    ),
    "write": (lambda: Write("out/", format="jsonl"), "out/ --format jsonl", 'to = "out/"\nformat = "jsonl"'),
    "collect": (Collect, "", ""),
}  # fmt: skip
# Options that cannot stand beside those above.
ALSO: list[tuple[str, Callable[[], Stage], str, str]] = [
    ("map", lambda: Map(polite, concurrency=4), f"{HERE} --concurrency 4", f'function = "{HERE}"\nconcurrency = 4'),
    (
        "map",
        lambda: Map(polite, thread_sensitive=True),
        f"{HERE} --thread-sensitive",
        f'function = "{HERE}"\nthread_sensitive = true',
    ),
    (
        "map",
        lambda: Map(
            polite,
            concurrency=4,
            retries=Retry(attempts=3, backoff="200ms", on=[TimeoutError, UsageError]),
            rate_limit="50 / s",
            breaker=Breaker(wait="1m"),
            on_error="keep",
        ),
        f"""{HERE} --concurrency 4 --retries 'attempts=3, backoff=200ms, on=TimeoutError, on=aiopipe.errors:UsageError'
        --rate-limit 50/s --breaker wait=60 --on-error keep""",
        f"""function = "{HERE}"
        concurrency = 4
        retries = {{ attempts = 3, backoff = "0.2s", on = ["TimeoutError", "aiopipe.errors:UsageError"] }}
        rate_limit = "50/s"
        breaker = {{ wait = "60s" }}
        on_error = "keep\"""",
    ),
    (
        "map",
        lambda: Map(polite, retries=3, breaker=2),
        f"{HERE} --retries 3 --breaker 2",
        f'function = "{HERE}"\nretries = 3\nbreaker = "failures=2"',
    ),
    (
        "write",
        lambda: Write("https://host/rows", batch=50, headers={"Authorization": "env:TOKEN"}),
        "https://host/rows --batch 50 --headers Authorization=env:TOKEN",
        'to = "https://host/rows"\nbatch = 50\nheaders = { Authorization = "env:TOKEN" }',
    ),
    ("fetch", lambda: Fetch("http://x/", retries=0), "http://x/ --retries 0", 'url = "http://x/"\nretries = 0'),
    ("dedupe", Dedupe, "", ""),
    ("head", Head, "", ""),
    ("hash", lambda: Hash("b3"), "-a blake3", 'algorithms = "blake3"'),
    ("hash", Hash, "", ""),
]
ALL = [(word, *doors) for word, doors in DOORS.items()] + ALSO


NESTED_TABLES = {
    "branches": "[[stage.branch]]",
    "routes": "where =",
    "branch": '[[stage.branch]]\n        [[stage.branch.stage]]\n        use = "write"\n        to = "c/"',
    "sources": "[[stage.source]]",
}  # fmt: skip


# What stands around a stage that is no pipeline by itself.
OTHERS = {"read": ("x", 'paths = "x"'), "write": ("y", 'to = "y"')}


def around(stage: Stage) -> tuple[Stage, ...]:
    """The stages of a whole pipeline with this one in it."""
    before = () if isinstance(stage, Source) else (Read("x"),)
    after = () if isinstance(stage, Sink) else (Write("y"),)
    return (*before, stage, *after)


@pytest.mark.parametrize(("word", "make", "shell", "toml"), ALL, ids=[f"{a[0]} {a[2]}"[:40] for a in ALL])
def test_the_three_doors_make_equal_pipelines(word: str, make: Callable[[], Stage], shell: str, toml: str):
    stage = make()
    stages = around(stage)
    library = Pipeline(stages)
    chain = [f"{word} {shell}" if s is stage else f"{s.word} {OTHERS[s.word][0]}" for s in stages]
    tables = [f'use = "{s.word}"\n{toml if s is stage else OTHERS[s.word][1]}' for s in stages]
    from_shell = pipeline_of(shlex.split(" then ".join(chain)))
    from_file = loads("".join(f"[[stage]]\n{t}\n" for t in tables))
    assert library == from_shell == from_file
    assert hash(library) == hash(from_shell) == hash(from_file)
    assert repr(library) == repr(from_file) or word == "map"  # a function shows itself
    assert loads(dumps(library)) == library


def test_the_three_doors_are_tried_with_every_stage_and_every_option():
    assert list(DOORS) == list(TABLE)
    for word in TABLE:
        tried = "\n".join(toml for w, _, _, toml in ALL if w == word)
        for option in options_of(find_stage(word)):
            # What is made of stages is a table inside the stage's own.
            key = NESTED_TABLES.get(option.kind, f"{option.key} =")
            assert key in tried, f"{word} {option.key}"


@pytest.mark.parametrize("word", TABLE)
def test_a_stage_has_a_word_a_class_and_a_module_of_one_name(word: str):
    stage = find_stage(word)
    assert stage.word == word
    assert stage.__name__ == word.capitalize()
    assert stage.__module__ == f"aiopipe.stages.{word}"
    assert getattr(aiopipe, stage.__name__) is stage
    assert stage.__name__ in aiopipe.__all__


def test_words_are_unique_and_none_of_them_joins_or_is_a_command():
    from aiopipe.cli import COMMANDS

    found = list(words())
    assert len(found) == len(set(found))
    # `aiopipe hash` and the stage do the same, and neither stands where the other could.
    assert not set(found) - {"hash"} & {"then", *COMMANDS}


@pytest.mark.parametrize("word", TABLE)
def test_a_stage_shows_its_docstring_its_options_and_its_example(word: str):
    stage = find_stage(word)
    command = command_of(stage)
    with command.make_context(word, [], resilient_parsing=True) as context:
        text = command.get_help(context)
    flat = " ".join(text.split())
    assert " ".join((getdoc(stage) or "").split("\n\n")[0].split()) in flat
    for option in options_of(stage):
        assert option.argument or (option.key if option.kind in NESTED else option.flag) in flat
        assert " ".join(option.help.split()) in flat
    assert stage.example.split(" then ")[0] in flat
    assert max(map(len, text.splitlines())) <= 80


BRANCHED = """[[stage]]
use = "read"
paths = "x"
[[stage]]
use = "tee"
[[stage.branch]]
[[stage.branch.stage]]
use = "head"
[[stage.branch.stage]]
use = "write"
to = "a"
[[stage.branch]]
[[stage.branch.stage]]
use = "head"
{}
[[stage.branch.stage]]
use = "write"
to = "b"
"""


@pytest.mark.parametrize(
    ("line", "message", "position"),
    [
        ("cuont = 3", "head: no option 'cuont'", "<text>:15"),
        ("count = 3\n[[stage.branch.stage]]\nuse = 'hed'", "no stage 'hed'", "<text>:17"),
        ("[[stage.branch.stage]]", "stage.branch.stage 4 has no `use`", "<text>:15"),
    ],
)
def test_what_is_wrong_in_a_branch_is_told_with_its_line(line: str, message: str, position: str):
    with pytest.raises(UsageError) as caught:
        loads(BRANCHED.format(line))
    assert message in str(caught.value) and str(caught.value.position) == position


def test_settings_reach_stages_in_branches_by_their_number():
    found = parse(BRANCHED.format("count = 3"), settings=["head#5.count=7", "write#4.to=c"]).pipeline
    assert found == Read("x") | Tee(Head() | Write("c"), Head(7) | Write("b"))
    with pytest.raises(UsageError, match="say head#3 or head#5"):
        parse(BRANCHED.format(""), settings=["head.count=7"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("read x then tee [ write a", "a [ is never closed"),
        ("read x then tee write a ]", "a ] without its ["),
        ("read x then tee [ ]", "nothing between [ and ]"),
        ("read x then tee [ then write a ]", "`then` stands at the beginning"),
        ("read x then [ write a ]", "a [ where a stage should be"),
        ("read x then tee", "tee: branches is missing"),
        ("read x then tee [ head 3 ]", "a branch ends with a sink, and head is none"),
        ("read x then tee [ read y then write a ]", "a branch begins with read"),
        ("read x then head [ write a ] then write b", "head takes nothing in brackets"),
        ("read x then route [ write a ]", "a branch without a condition"),
        ("read x then route 'a > 1' [ write a ] [ write b ]", "a branch without a condition"),
        ("read x then route otherwise [ write a ] 'a > 1' [ write b ]", "otherwise stands before a condition"),
        ("read x then route 'a > 1' [ write a ] 'b > 1'", "one argument too many: b > 1"),
        ("merge [ head 3 ] then write a", "an input begins with a source, and head is none"),
        ("merge [ read x then write y ] then write a", "an input ends with write"),
        ("read x then tee [ head --cuont 3 then write a ] [ head then write b ]", "head#3: no option --cuont"),
    ],
)
def test_brackets_that_do_not_fit_are_explained(words: str, message: str):
    with pytest.raises(UsageError) as caught:
        pipeline_of(shlex.split(words))
    assert message in str(caught.value)


def test_a_bracket_can_be_the_name_of_a_column():
    assert pipeline_of(shlex.split(r"read x then select '\[' '\]' then write a")) == (
        Read("x") | Select("[", "]") | Write("a")
    )


@pytest.mark.parametrize(
    ("typed", "word", "offered"),
    [
        ("read x then tee [", "wri", "write"),
        ("read x then tee [ write a ] [ filter y then", "he", "head"),
        ("read x then tee [ head", "--per", "--per-file"),
        ("merge [ read x ]", "--no", "--no-ordered"),
    ],
)
def test_completion_goes_into_brackets_and_out_again(typed: str, word: str, offered: str):
    assert offered in [item.value for item in complete_stages(shlex.split(typed), word)]


def test_job_options_are_arguments_of_a_run_and_of_both_commands():
    from aiopipe.cli.pipe import pipe
    from aiopipe.cli.run import run

    names = {f.name for f in fields(JobOptions)}
    arguments = {n for n, p in signature(Pipeline.run).parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert names - set(DOOR) == arguments - {"progress", "stop"}
    for name in names - set(DOOR):
        default = signature(Pipeline.run).parameters[name].default
        assert getattr(JobOptions.build({name: default}), name) == getattr(JobOptions(), name)
    of_pipe, of_run = ({p.name for p in command.params} for command in (pipe, run))
    assert names <= of_pipe and names <= of_run
    assert of_pipe - names == {"stages"} and of_run - names == {"file", "settings"}


def test_job_options_are_the_same_in_a_shell_and_a_file():
    import click

    line = shlex.split(
        "--rejects r.csv --max-rejects 3 --workers 2 --memory 64MB --report r.json --debug --no-progress"
    )
    command = click.Command("x", params=params_of(JobOptions))
    with command.make_context("x", line) as context:
        typed = job_given(context.params)
    table: dict[str, Any] = {
        "rejects": "r.csv", "max_rejects": 3, "workers": 2, "memory": "64MB", "report": "r.json", "debug": True,
        "progress": False,
    }  # fmt: skip
    assert JobOptions.build(typed) == JobOptions.build(table)
