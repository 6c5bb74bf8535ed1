"""The command line in this process (quick) and in a process of its own (signals, pipes, imports)."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aiopipe import stages
from aiopipe.cli import main

ROWS = b"id,name,amount\n1,ann,50\n2,bob,150\n3,cy,250.5\n"
OTHERS = b'id,name,amount\n4,dee,NA\n5,"e, e",500\n'


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of its own with in/a.csv and in/b.csv; what a test imports or registers is forgotten after it."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_bytes(ROWS)
    (tmp_path / "in/b.csv").write_bytes(OTHERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(stages, "_registered", dict(stages._registered))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if not name.startswith(("aiopipe", "_")) and str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run a command line, split as a shell would, in this process."""

    def run(line: str) -> Done:
        capsys.readouterr()
        try:
            code = main(shlex.split(line))
        except SystemExit as error:  # click ends so after --help when it is asked inside a chain
            code = int(error.code or 0)
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return run


def environment() -> dict[str, str]:
    """The environment of a child: 80 columns, no colours, no warnings of other packages."""
    return {**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "PYTHONWARNINGS": "default"}


@pytest.fixture
def shell() -> Callable[..., Done]:
    """Run a command line, split as a shell would, in a process of its own."""

    def run(line: str, stdin: bytes | None = None, **more: Any) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "aiopipe", *shlex.split(line)],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=120,
            env=environment(),
            **more,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run
