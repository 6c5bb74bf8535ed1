"""The example in every stage's help runs, and shows something; and so does every program in examples/."""

import ast
import asyncio
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aiopipe.cli import main
from aiopipe.options import options_of
from aiopipe.stages import TABLE, find_stage
from tests.hostile import Server, ok

ROOT = Path(__file__).parents[1]
SHELL = [word for word in TABLE if word != "collect"]  # collect's rows are for programs


@pytest.mark.parametrize("word", SHELL)
def test_the_example_of_a_stage_runs_and_shows_something(
    word: str, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    program, *words = shlex.split(find_stage(word).example)
    assert program == "aiopipe" and word in words
    with Server(lambda asked: ok({"city": "Turin"})) as server:  # for the one stage that asks somebody
        assert main([w.replace("https://api.example.com", server.url) for w in words]) == 0
    assert capfdbinary.readouterr().out.count(b"\n") >= 2


@pytest.mark.parametrize("word", TABLE)
def test_a_stage_says_what_it_does_and_what_its_options_are(word: str) -> None:
    stage = find_stage(word)
    assert stage.__doc__ and stage.__doc__.splitlines()[0].rstrip()
    assert [o.name for o in options_of(stage) if not o.help] == []


def test_the_notebook_runs_cell_by_cell_in_a_running_loop(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    cells = Path("examples/notebook.py").read_text().split("# %%")

    async def kernel() -> None:
        for number, cell in enumerate(cells):
            code = compile("# " + cell, f"<cell {number}>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            waiting = eval(code, names)
            if waiting is not None:
                await waiting

    asyncio.run(kernel())
    shown = capsys.readouterr().out
    assert "[('EV', 37), ('UA', 12), ('B6', 11)]\nEnvoy Air\n" in shown and "= 1 written" in shown


def test_the_bot_answers_each_message_also_those_that_cannot_be_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    messages = b"late AA\nlongest JFK\nhelp\nlate x'y\n"
    done = subprocess.run([sys.executable, "examples/bot.py"], input=messages, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    assert sorted(done.stdout.decode().splitlines()) == [
        "help -> ask: late CARRIER, or longest AIRPORT",
        "late AA -> AA: 33 flights more than an hour late",
        "late x'y -> ask: late CARRIER, or longest AIRPORT",
        "longest JFK -> JFK: the longest flight has 4983 miles",
    ]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_the_log_watch_processes_what_arrives_and_ends_on_sigterm(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    logs, errors = tmp_path / "logs", tmp_path / "errors"
    logs.mkdir()
    command = [sys.executable, str(ROOT / "examples/watch_logs.py"), str(logs), str(errors)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            (logs / "a.csv").write_text("path,status\n/,200\n/broken,500\n")
            assert process.stdout.readline() == "1 files: 1 errors in 2 requests\n"
            (logs / "b.csv").write_text("path,status\n/,odd\n")
            assert "problem:" in process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            rest = process.stdout.read()
        finally:
            process.kill()
    assert "watched: 1 file in 1 round" in rest and "1 file failed" in rest
    assert (errors / "a.csv").read_text() == "path,status\n/broken,500\n"
