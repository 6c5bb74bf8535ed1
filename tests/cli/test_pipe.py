"""`aiopipe pipe`: what a chain says, and what is said of a wrong one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Done

Cli = Callable[..., Done]


def test_a_chain_runs_and_its_report_stays_off_standard_output(cli: Cli):
    done = cli("pipe read in --null NA then filter 'amount > 100' then derive 'net=amount * 2' then write -")
    assert done.code == 0
    assert done.out == 'id,name,amount,net\n2,bob,150,300.0\n3,cy,250.5,501.0\n5,"e, e",500,1000.0\n'
    assert "5 records read = 3 written + 2 filtered + 0 rejected" in done.err


def test_standard_input_goes_to_standard_output(shell: Cli):
    done = shell("pipe read - then select name id then write -", stdin=b'id,name\n007,"a"\n')
    assert (done.code, done.out) == (0, 'name,id\n"a",007\n')


def test_a_word_then_is_written_with_a_backslash(cli: Cli, place: Path):
    (place / "t.csv").write_text("then,x\n1,2\n")
    assert cli(r"pipe read t.csv then select '\then' then write -").out == "then\n1\n"


def test_an_argument_that_begins_with_a_dash_follows_two_dashes(cli: Cli):
    assert cli("pipe read in/a.csv then filter -- '-id < -2' then write -").out == "id,name,amount\n3,cy,250.5\n"
    assert "put -- before" in cli("pipe read in/a.csv then filter '-id < -2' then write -").err


def test_collect_prints_what_it_kept_as_json_lines(cli: Cli):
    done = cli("pipe read in/a.csv then head 1 then collect")
    assert json.loads(done.out) == {"id": "1", "name": "ann", "amount": "50"}


WRONG = [
    ("read in/a.csv then fitler x then write -", "no stage 'fitler'", "did you mean filter?"),
    ("read in/a.csv --nul NA then write -", "read: no option --nul", "did you mean --null?"),
    ("read in/a.csv then head --per-fil then write -", "head: no option --per-fil", "did you mean --per-file?"),
    ("read in/a.csv then filter --x then write -", "filter: no option --x", "filter has no options"),
    ("read in/a.csv then head 2 then head --x 3 then write -", "head#3: no option --x", "known: --per-file"),
    ("read in/a.csv then head two then write -", "head: Invalid value for '[COUNT]'", "aiopipe pipe head --help"),
    ("read in/a.csv then head 1 2 then write -", "head: one argument too many: 2", "put `then` between"),
    ("read in/a.csv then skip then write -", "skip: count is missing: how many records", "aiopipe stages skip"),
    ("read in/a.csv then head 1", "ends with a sink, and head is none", "put `then write -` at the end"),
    ("read in/a.csv", "ends with a sink, and read is none", "put `then write -` at the end"),
    ("head 1 then write -", "begins with a source, and head is none", "`read FILE then`"),
    ("read in/a.csv then write - then head 1 then write -", "write#2 stands in the middle, before head", "sink last"),
    ("read in/a.csv then write out/ then head 1", "write stands in the middle, before head", "put the sink last; tee"),
    ("read in/a.csv then tee [ write - then head 1 ] [ write - ]", "write#3 stands in the middle", "the sink last"),
    ("read in '|' head 1 '|' write -", "'|' stands between read and head", "`then`: read ... then head ..."),
    ("read in THEN head 1 then write -", "'THEN' stands between read and head", "joined by `then`"),
    ("in/a.csv then write -", "no stage 'in/a.csv'", "read in/a.csv then ..."),
    ("clean.toml", "no stage 'clean.toml'", "aiopipe run clean.toml"),
    ("'read in then write -'", "no stage 'read in then write -'", "leave the quotes around the whole away"),
    ("workers=2 read in then write -", "no stage 'workers=2'", "two dashes: --workers 2"),
    ("read in then write - workers=2", "one argument too many: workers=2", "before the first stage: --workers 2"),
    ("read in delimiter=tab then write - format=csv", "one argument too many: format=csv", "write --format csv"),
    ("read in then head n=3 then write -", "'n=3' is not a valid integer", "write the number alone: head 3"),
    ("read in then head -3 then write -", "head: no option -3", "write the number alone: head 3"),
    ("read in then skip -n 3 then write -", "skip: no option -n", "write the number alone: skip 3"),
    ("--delimiter tab read in then write -", "no job option --delimiter", "it belongs to read: put it behind its word"),
    ("read in then --format csv write -", "--format stands where a stage", "--format belongs to write: put it behind"),
    ("read in then --workers 2 write -", "--workers stands where a stage", "put it before the first stage"),
    ("read in then select id,name then write -", "no column 'id,name'", "name each by itself: id name"),
    ("read in then write '~/out/'", "to is ~/out/, and nobody has put your home", "without quotes: write /"),
    ("--rejects=~/r.csv read in then write -", "rejects is ~/r.csv, and nobody has put your home", "only a shell"),
    ("read in/a.csv then read in/b.csv then write -", "Read is a source", "put it first"),
    ("read in/a.csv head 1 then write -", "'head' is taken as an argument of read", "put `then` before it"),
    ("read in/a.csv then head 1 write -", "'write' is taken as an argument of head", "put `then` before it"),
    ("read in/a.csv then then write -", "`then` stands twice in a row", "joins two stages"),
    ("read in/a.csv then write - then", "`then` stands at the end", "joins two stages"),
    ("then read in/a.csv", "`then` stands at the beginning", "joins two stages"),
    ("read in/a.csv then --null NA then write -", "--null stands where a stage should be", "read --null ..."),
    ("read in/a.csv then --nill NA then write -", "--nill stands where a stage should be", "the word of a stage"),
    ("read in/a.csv then write - --rejects r.csv", "write: no option --rejects", "before the first stage"),
    ("read in/a.csv then write - --format cvs", "write: Invalid value for '--format'", "aiopipe pipe write --help"),
    ("read in/a.csv --block 3parsecs then write -", "'3parsecs' is no size", "aiopipe pipe read --help"),
    ("read in/a.csv --types id then write -", "'id' is not name=value", "write it as name=value"),
    ("read in/a.csv then select nme then write -", "nme", "did you mean name?"),
    ("find in then filter x then write -", "filter works on records, and gets files", "read gives their records"),
    ("", "no stages", "aiopipe pipe read"),
    ("--memry 3 read in/a.csv then write -", "no job option --memry", "did you mean --memory? see aiopipe pipe --help"),
    ("--zzz 3 read in/a.csv then write -", "No such option '--zzz'", "aiopipe pipe --help"),
    ("--memory 3parsecs read in/a.csv then write -", "'3parsecs' is no size", "aiopipe pipe --help"),
    ("--max-rejects 3 read in/a.csv then write -", "max_rejects without rejects", "--rejects FILE"),
    ("--workers 0 read in/a.csv then write -", "workers is 0", "1 or more"),
    ("--import nowhere read in/a.csv then write -", "cannot import nowhere", "check the name"),
    ("--import nowhere.py read in/a.csv then write -", "no file nowhere.py", "check the path"),
]


@pytest.mark.parametrize(("line", "message", "hint"), WRONG, ids=[w[0] or "nothing" for w in WRONG])
def test_a_wrong_chain_is_refused_with_its_segment_and_a_way_out(cli: Cli, line: str, message: str, hint: str):
    done = cli(f"pipe {line}")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("aiopipe: ")
    assert message in done.err.splitlines()[0]
    assert hint in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("pipe read '~/no/a.csv' then write -", "~/no/a.csv: no such file", "only a shell knows ~"),
        ("pipe read '~/no/*.csv' then write -", "~/no/*.csv", "only a shell knows ~"),
        ("pipe read in/a.csv, in/b.csv then write -", "in/a.csv,: no such file", "leave the comma away"),
        ("read in/a.csv then write -", "read is a stage, and no command", "aiopipe pipe read in/a.csv ..."),
    ],
)
def test_a_slip_that_is_found_elsewhere_has_a_way_out_as_well(cli: Cli, line: str, message: str, hint: str):
    done = cli(line)
    assert done.code in (1, 2)
    assert message in done.err.splitlines()[0]
    assert hint in done.err


def test_signs_that_are_meant_are_left_alone(cli: Cli, place: Path):
    (place / "|").write_bytes(b"id\n1\n")
    (place / "head").write_bytes(b"id\n2\n")
    assert cli("pipe read '|' head then write -").out == "id\n1\n2\n"
    (place / "p.csv").write_bytes(b"a|head\n1|2\n")
    assert cli("pipe read --delimiter '|' p.csv then select a head then write -").out == "a|head\n1|2\n"
    (place / "~").mkdir()
    assert cli("pipe read in/a.csv then head 0 then write './~/x.csv'").code == 0


def test_a_stage_that_is_nearly_an_option_of_python_is_no_traceback(cli: Cli):
    assert cli("pip").code == 2
    assert "did you mean pipe?" in cli("pip").err


def test_rejects_go_to_their_file_and_make_the_exit_code_3(cli: Cli, place: Path):
    (place / "bad.csv").write_text("a,b\n1,2\n1,2,3\n3,4\n")
    done = cli("pipe --rejects r.csv --report report.json read bad.csv then write -")
    assert (done.code, done.out) == (3, "a,b\n1,2\n3,4\n")
    assert "1 record set aside in r.csv" in done.err
    assert "1,2,3" in (place / "r.csv").read_text()
    report = json.loads((place / "report.json").read_text())
    assert (report["read"], report["written"], report["rejected"]) == (3, 2, 1)


def test_a_report_that_cannot_be_written_is_told_before_the_run(cli: Cli, place: Path):
    (place / "report").mkdir()
    done = cli("pipe --report report read in then write out/")
    assert done.code == 1
    assert "cannot write report" in done.err
    assert not list(place.glob("out/[!.]*"))


def test_a_failing_run_leaves_no_report(cli: Cli, place: Path):
    (place / "bad.csv").write_text("a,b\n1,2,3\n")
    done = cli("pipe --report report.json read bad.csv then write out/")
    assert done.code == 1
    assert "bad.csv:2 (record 1, byte 4)" in done.err
    assert not (place / "report.json").exists()
    assert not [p for p in place.iterdir() if p.name.startswith(".aiopipe")]


def test_a_function_that_raises_is_shown_with_the_users_own_frames(cli: Cli, place: Path):
    (place / "mine.py").write_text(
        "def boom(row):\n    return inner(row)\n\n\ndef inner(row):\n    raise KeyError('x')\n"
    )
    done = cli("pipe read in/a.csv then map mine.py:boom then write -")
    assert done.code == 1
    assert "in/a.csv:2 (record 1" in done.err
    assert "in inner" in done.err
    assert "aiopipe/stages" not in done.err.replace("\\", "/")
    full = cli("pipe --debug read in/a.csv then map mine.py:boom then write -")
    assert "ExceptionGroup" in full.err
    assert "aiopipe/stages" in full.err.replace("\\", "/")


def test_a_module_that_raises_when_imported_is_shown_with_its_own_frames(cli: Cli, place: Path):
    (place / "broken.py").write_text("x = 1\ny = x / 0\n")
    done = cli("pipe --import broken read in/a.csv then write -")
    assert done.code == 2
    assert "importing broken raised ZeroDivisionError" in done.err
    assert 'broken.py", line 2' in done.err
    assert "importlib" not in done.err


def test_progress_that_is_asked_for_is_told_in_lines_where_there_is_no_terminal(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("aiopipe.cli.progress._EVERY", 0.0)
    assert "aiopipe: 5 records, " in cli("pipe --progress read in then write out/").err
    assert "aiopipe: " not in cli("pipe --no-progress read in then write out2/").err
    assert "aiopipe: " not in cli("pipe read in then write out3/").err


def test_uvloop_runs_the_same(cli: Cli):
    pytest.importorskip("uvloop")
    done = cli("pipe --uvloop read in/a.csv then head 1 then write -")
    assert (done.code, done.out) == (0, "id,name,amount\n1,ann,50\n")


def test_uvloop_on_windows_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("aiopipe.cli.running.sys.platform", "win32")
    done = cli("pipe --uvloop read in/a.csv then write -")
    assert done.code == 2
    assert "uvloop does not run on Windows" in done.err and "leave it out" in done.err


def test_uvloop_that_is_missing_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "uvloop", None)
    done = cli("pipe --uvloop read in/a.csv then write -")
    assert done.code == 2
    assert "pip install 'aiopipe-csv[uvloop]'" in done.err
