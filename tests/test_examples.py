"""The example in every stage's help runs, and shows something."""

import shlex
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
