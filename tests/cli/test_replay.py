"""`aiopipe replay`: the same from the shell, from a file and in Python; what it says, and how it ends."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from inspect import signature
from pathlib import Path

import pytest

from aiopipe import Map, Read, Write
from aiopipe.stage import Pipeline
from tests.cli.conftest import Done
from tests.support import rejects, tree

Cli = Callable[..., Done]

FUNCTIONS = """\
def strict(row):
    row["amount"] = str(int(row["amount"]) + 1)
    return row

def mended(row):
    row["amount"] = "" if row["amount"] == "NA" else str(int(float(row["amount"])) + 1)
    return row
"""
FILE = """\
[job]
rejects = "bad.csv"
workers = 1

[[stage]]
use = "read"
paths = "in"

[[stage]]
use = "map"
function = "functions.py:strict"

[[stage]]
use = "write"
to = "out/"
"""


@pytest.fixture
def bad(cli: Cli, place: Path) -> Path:
    """Two of five records are set aside: 250.5 of a.csv, NA of b.csv."""
    (place / "functions.py").write_text(FUNCTIONS)
    (place / "job.toml").write_text(FILE)
    done = cli("run job.toml")
    assert done.code == 3
    return place / "bad.csv"


MENDED = {
    "a.csv": b"id,name,amount\n1,ann,51\n2,bob,151\n3,cy,251\n",
    "b.csv": b'id,name,amount\n4,dee,\n5,"e, e",501\n',
}


def test_the_shell_a_file_and_python_replay_alike(cli: Cli, bad: Path, place: Path):
    shutil.copytree(place / "out", place / "kept", copy_function=shutil.copy2)
    shutil.copy(bad, "bad-kept.csv")

    def again() -> None:
        shutil.rmtree("out")
        shutil.copytree("kept", "out")
        shutil.copy("bad-kept.csv", bad)

    for line in (
        "replay bad.csv read in then map functions.py:mended then write out/",
        "replay --set map.function=functions.py:mended bad.csv job.toml",
    ):
        done = cli(line)
        assert (done.code, done.out) == (0, "")
        assert done.err == "2 records replayed = 2 written + 0 filtered + 0 rejected\n2 outputs replaced\n"
        assert tree(place / "out") == MENDED
        assert rejects(bad) == []
        again()
    pipeline = Read("in") | Map("functions.py:mended") | Write("out/")
    made = asyncio.run(pipeline.replay("bad.csv", workers=1))
    assert (made.written, made.left) == (2, 0)
    assert tree(place / "out") == MENDED


def test_some_that_stay_set_aside_are_exit_code_3(cli: Cli, bad: Path, place: Path):
    text = bad.read_text()
    bad.write_text(text.replace("4,dee,NA", "4,dee,7"))  # with an editor
    done = cli("replay bad.csv job.toml")
    assert done.code == 3
    assert done.err == (
        "2 records replayed = 1 written + 0 filtered + 1 rejected\n1 output replaced\n"
        "1 record still set aside in bad.csv\n"
    )
    assert tree(place / "out")["b.csv"] == b'id,name,amount\n4,dee,8\n5,"e, e",501\n'
    assert [row["raw"] for row in rejects(bad)] == [b"3,cy,250.5\n"]
    assert cli("status out/").out.startswith(
        "out/: 2 files done, 0 failed, 0 running, 0 unfinished; 1 record set aside"
    )
    bad.write_text(text)  # as if the replay had been killed before it wrote the file
    done = cli("replay --set map.function=functions.py:mended bad.csv job.toml")
    assert done.code == 0
    assert "1 row passed over: not set aside any more, says the ledger" in done.err


def test_what_cannot_be_replayed_says_what_to_do_instead(cli: Cli, bad: Path, place: Path):
    (place / "in/a.csv").write_text("id,name,amount\n")
    done = cli("replay bad.csv job.toml")
    assert done.code == 1
    assert "aiopipe: in/a.csv: input changed: size" in done.err
    assert "next: run the pipeline itself again, with --rejects: it does such files anew" in done.err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("replay bad.csv", "name the pipeline file behind the rejects file"),
        ("replay --set a.b=1 bad.csv read in then write out/", "--set without a pipeline file"),
        ("replay --rejects left.csv bad.csv job.toml", "leave it out: what is left stays in bad.csv"),
        ("replay bad.csv read in then head 3 then write out/", "run the pipeline again, with --rejects"),
        ("replay bad.csv read in then write 'sqlite:///x.db#t'", "the rows of a table are replaced by file"),
    ],
)
def test_wrong_usage_is_exit_code_2(line: str, words: str, cli: Cli, bad: Path):
    done = cli(line)
    assert done.code == 2
    assert words in done.err


def test_help_shows_what_can_be_typed(cli: Cli, bad: Path, place: Path):
    done = cli("replay --help")
    assert done.code == 0
    shown = [line.strip() for line in done.out.splitlines() if line.strip().startswith("aiopipe ")]
    assert shown
    for line in shown:
        assert cli(line.removeprefix("aiopipe ")).code == (3 if " run " in line else 0)


def test_the_command_has_the_options_of_the_method(cli: Cli):
    from aiopipe.cli.replay import replay

    names = {p.name for p in replay.params} - {"file", "pipeline", "settings", "debug", "import_"}
    assert names == signature(Pipeline.replay).parameters.keys() - {"self", "file"}
