"""Commands that are declared as data run without click, and mean what click would have made of the same words."""

from __future__ import annotations

import importlib
import subprocess
import sys

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiopipe.cli import COMMANDS, QUICK
from aiopipe.cli.declared import Command, Option


def declared(name: str) -> Command:
    module, attribute, _ = COMMANDS[name]
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, Command)
    return command


def by_click(command: Command, words: list[str]) -> dict[str, object] | None:
    try:
        with command.as_click().make_context(command.name, list(words)) as context:
            return context.params
    except (click.ClickException, click.exceptions.Exit):
        return None


def words_of(command: Command) -> st.SearchStrategy[list[str]]:
    """Lists of what might be typed: every spelling of every option, values for them, and mistakes."""
    words = [
        "a",
        "b",
        "-",
        "--",
        "3",
        "-3",
        "x=y",
        "",
        "---",
        "-q",
        "--nonsense",
        "--help",
        "-h",
        "\udcff",
        "-z-",
        "-vz",
    ]
    for param in command.params:
        if isinstance(param, Option):
            for spelling in param.spellings:
                words += [spelling, spelling[:4], spelling + "=4", spelling + "4", spelling + "="]
            words += [*param.choices, *(f"{spelling}={c}" for spelling in param.spellings for c in param.choices)]
    return st.lists(st.sampled_from(words), max_size=6)


@pytest.mark.parametrize("name", QUICK)
def test_what_is_understood_without_click_is_what_click_understands(name: str):
    command = declared(name)

    @given(words_of(command))
    def same(words: list[str]) -> None:
        ours, theirs = command.parse(words), by_click(command, words)
        # What is not understood is left to click, so that it is said in one way only.
        assert ours is None or ours == theirs, words

    same()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hash", ["-a", "md5,blake3", "--format=jsonl", "-o", "sums", "-xz", "-j4", "--no-hidden", "p", "--", "-q"]),
        ("hash", ["--include", "*.a", "--include", "*.b", "--cache", "c.db", "--rehash-older", "3d", "p", "-v"]),
        ("check", ["--quiet", "-w", "SUMS", "-"]),
        ("dupes", ["--min-size", "10", "--action", "hardlink", "--keep=shortest", "--apply", "d"]),
        ("audit", ["SUMS", "--update"]),
        ("diff", ["a", "b", "-v"]),
    ],
)
def test_ordinary_lines_need_no_click(name: str, words: list[str]):
    command = declared(name)
    assert command.parse(words) == by_click(command, words) is not None


def test_hashing_a_file_imports_neither_click_nor_what_only_classes_and_types_need(tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    code = "import sys; from aiopipe.cli import main; main(['hash', sys.argv[1]]); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}", tmp_path],
                          capture_output=True, text=True, check=True)  # fmt: skip
    modules = done.stderr.split()
    assert not {"click", "typing", "dataclasses", "inspect", "re", "asyncio", "sqlite3"} & set(modules)
