"""run, explain, stages, help at every level, and completion."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aiopipe.cli import COMMANDS
from aiopipe.stages import TABLE
from tests.cli.conftest import Done, environment

Cli = Callable[..., Done]

FILE = """\
[job]
name = "clean sales"
rejects = "rejects.csv"

[[stage]]
use = "read"
paths = ["in/*.csv"]
null = "NA"

[[stage]]
use = "filter"
where = "amount > 100"

[[stage]]
use = "derive"
columns = { net = "amount * 2" }

[[stage]]
use = "write"
to = "clean/"
"""
CHAIN = "read 'in/*.csv' --null NA then filter 'amount > 100' then derive net='amount * 2' then write"


@pytest.fixture
def file(place: Path) -> Path:
    (place / "p.toml").write_text(FILE)
    return place / "p.toml"


def test_a_file_does_what_the_same_chain_does(cli: Cli, file: Path, place: Path):
    done = cli("run p.toml")
    assert done.code == 0 and done.out == ""
    assert done.err.startswith("clean sales\n2 files: 5 records read = 3 written + 2 filtered")
    assert cli(f"pipe {CHAIN} other/").code == 0
    for name in ("a.csv", "b.csv"):
        assert (place / "clean" / name).read_bytes() == (place / "other" / name).read_bytes()
    assert (place / "rejects.csv").exists()


def test_settings_and_job_options_win_over_the_file(cli: Cli, file: Path, place: Path):
    done = cli("run p.toml --rejects mine.jsonl --report r.json --set write.to=- --set filter.where='id = 1'")
    assert (done.code, done.out) == (0, "id,name,amount,net\n1,ann,50,100.0\n")
    assert (place / "mine.jsonl").exists() and not (place / "rejects.csv").exists()
    assert json.loads((place / "r.json").read_text())["written"] == 1


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("run", "Missing argument 'FILE'", "aiopipe run --help"),
        ("run nothing.toml", "nothing.toml: No such file", "name a pipeline file"),
        ("run p.toml --set filter.wher=3", "p.toml:10: filter: no option 'wher'", "did you mean where?"),
        ("run p.toml --set where=3", "--set: 'where=3' is not stage.option=value", "such as"),
        ("run p.toml --rejets x", "No such option '--rejets'", "aiopipe run --help"),
        ("explain", "nothing to explain", "name a pipeline file"),
        ("explain p.toml q.toml", "'q.toml' is one argument too many", "one pipeline file"),
        ("explain --set a.b=c read in then write -", "--set changes a pipeline file", "write the option itself"),
        ("explain read in then fliter x then write -", "no stage 'fliter'", "did you mean filter?"),
        ("stages fliter", "no stage 'fliter'", "did you mean filter?"),
        ("stagse", "no command 'stagse'", "did you mean stages?"),
    ],
)
def test_a_wrong_command_is_refused_with_a_way_out(cli: Cli, file: Path, line: str, message: str, hint: str):
    done = cli(line)
    assert done.code in (1, 2) and done.out == ""
    assert message in done.err.splitlines()[0]
    assert hint in done.err


def test_explain_shows_the_stages_the_types_and_what_runs_where(cli: Cli, file: Path, place: Path):
    done = cli("explain --workers 3 --memory 64MB p.toml")
    assert (done.code, done.err) == (0, "")
    assert (
        done.out
        == """\
as written
  read#1    Read('in/*.csv', null='NA')
  filter#2  Filter('amount > 100')
            types: amount DOUBLE
  derive#3  Derive({'net': 'amount * 2'})
            types: amount DOUBLE
  write#4   Write('clean/')

as run, with 3 workers and 64 MB in flight
  read#1
      the source, in the event loop
    |  up to 1 parcel or 8 MB
  parse + filter#2 + derive#3 + encode
      one hop off the loop, in threads, of long input in processes too
    |  up to 3 parcels or 8 MB
  write#4
      the sink, in the event loop
"""
    )
    assert cli(f"explain --workers 3 --memory 64MB {CHAIN} clean/").out == done.out
    assert not (place / "clean").exists() and not (place / "rejects.csv").exists()


def test_explain_of_a_long_pipeline_stays_within_80_columns(cli: Cli):
    long = " or ".join(f"amount > {i}00000" for i in range(30))
    out = cli(f"explain read in --null NA then filter '{long}' then map builtins:dict --concurrency 4 then write -").out
    assert max(map(len, out.splitlines())) <= 80
    assert "a flow, in the event loop, 4 calls at once" in out


@pytest.mark.parametrize("line", ["--help", *(f"{c} --help" for c in COMMANDS), "stages", "pipe --help"])
def test_help_and_lists_stay_within_80_columns(cli: Cli, line: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")
    done = cli(line)
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 80
    assert "Traceback" not in done.out


@pytest.mark.parametrize("word", TABLE)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_a_stage_shows_its_help_anywhere_in_a_chain(cli: Cli, word: str, flag: str):
    alone = cli(f"pipe {word} {flag}")
    assert alone.code == 0
    assert alone.out.startswith("Usage: aiopipe pipe ")
    assert cli(f"pipe read nothing.csv --wrong then {word} {flag} then head").out == alone.out or word == "read"
    assert cli(f"stages {word}").out.startswith(alone.out.rstrip("\n"))


def test_the_reference_shows_a_stage_in_three_doors(cli: Cli):
    out = cli("stages derive").out
    assert "In Python:\n  Derive({'km': 'distance * 1.609'})" in out
    assert 'In a pipeline file:\n  [[stage]]\n  use = "derive"\n  columns = { km = "distance * 1.609" }' in out


def test_the_reference_in_markdown_has_every_stage_and_no_broken_table(cli: Cli):
    out = cli("stages --markdown").out
    assert re.findall(r"^## (.*)$", out, re.MULTILINE) == list(TABLE)
    for line in out.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (4, 5)


def test_python_m_aiopipe_and_the_program_are_the_same(shell: Cli):
    import importlib.metadata

    done = shell("--version")
    assert done.out == f"aiopipe, version {importlib.metadata.version('aiopipe-csv')}\n"
    assert shell("").code == 2 and "Commands:" in shell("").err


def complete(line: str, incomplete: str) -> list[str]:
    """What bash would be offered behind `line`."""
    words = shlex.split(line)
    env = {
        **environment(),
        "_AIOPIPE_COMPLETE": "bash_complete",
        "COMP_WORDS": f"{line} {incomplete}",
        "COMP_CWORD": str(len(words)),
    }
    code = "import sys; sys.argv[0] = 'aiopipe'; from aiopipe.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60)
    assert done.stderr == ""
    return [entry.partition(",")[2] for entry in done.stdout.splitlines() if not entry.startswith("file")]


@pytest.mark.parametrize(
    ("line", "incomplete", "offered"),
    [
        ("aiopipe", "st", ["status", "stages"]),
        ("aiopipe pipe", "re", ["read", "rename"]),
        ("aiopipe pipe", "--rej", ["--rejects"]),
        ("aiopipe pipe --rejects r.csv", "fin", ["find"]),
        ("aiopipe pipe read a.csv", "--del", ["--delimiter"]),
        ("aiopipe pipe read a.csv --delimiter tab", "--no-h", ["--no-header"]),
        ("aiopipe pipe read a.csv", "th", ["then"]),
        ("aiopipe pipe read a.csv then", "de", ["derive", "dedupe"]),
        ("aiopipe pipe read a.csv then head 3", "--per", ["--per-file"]),
        ("aiopipe pipe read a.csv then write - --format", "js", ["jsonl"]),
        ("aiopipe explain read a.csv then", "wr", ["write"]),
        ("aiopipe stages", "wr", ["write"]),
    ],
)
def test_completion_offers_words_and_options(line: str, incomplete: str, offered: list[str]):
    assert [o for o in complete(line, incomplete) if o] == offered


def test_a_shell_gets_its_completion_script():
    env = {**environment(), "_AIOPIPE_COMPLETE": "bash_source"}
    code = "import sys; sys.argv = ['aiopipe']; from aiopipe.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60)
    assert "_AIOPIPE_COMPLETE=bash_complete" in done.stdout
