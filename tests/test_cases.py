"""Golden cases: one folder is one command line and what comes of it.

tests/cases/<verb>/<name>/ holds

- cmd       what follows `aiopipe`, as a shell would split it; lines that begin with # are comments
- stdin     what comes on standard input, if anything
- out, err  what goes to standard output, byte for byte, and to standard error (speeds taken out); err may be
            missing where the command succeeds
- code      the exit code, if it is not 0
- made/     the files that the command makes, byte for byte
- all else  files that lie in the working directory

`pytest tests/test_cases.py --update-cases` writes out, err, code and made/ as they are now: read the diff.
"""

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aiopipe.cli import main

ROOT = Path(__file__).parent / "cases"
CASES = sorted(p.parent for p in ROOT.glob("*/*/cmd"))
VERBS = (
    "read", "find", "merge", "hash", "filter", "derive", "select", "drop", "rename", "mask", "head", "skip", "dedupe",
    "map", "batch", "unbatch", "tee", "route", "write", "replay",
)  # fmt: skip
OURS = {"cmd", "stdin", "out", "err", "code", "made"}
# The line of the report that no two runs share.
SPEED = re.compile(r"^[\d,.]+ MB in .*$", re.MULTILINE)


@dataclass
class Result:
    out: bytes
    err: str
    code: int
    made: dict[str, bytes]


def tree(root: Path) -> dict[str, bytes]:
    """Relative path -> bytes of every file below; not the ledger of a destination."""
    files = (p for p in sorted(root.rglob("*")) if p.is_file() and ".aiopipe" not in p.parts)
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in files}


def words(case: Path) -> list[str]:
    lines = (case / "cmd").read_text().splitlines()
    return shlex.split(" ".join(line for line in lines if not line.startswith("#")))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory; modules that a case imports from it are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def run(case: Path, place: Path, capture: pytest.CaptureFixture[bytes], patch: pytest.MonkeyPatch) -> Result:
    for path in case.iterdir():
        if path.name not in OURS:
            copy = shutil.copytree if path.is_dir() else shutil.copyfile
            copy(path, place / path.name)
    before = tree(place)
    stdin = case / "stdin"
    with stdin.open() if stdin.exists() else open("/dev/null") as file:
        patch.setattr(sys, "stdin", file)
        code = main(words(case))
    captured = capture.readouterr()
    # Worker processes compile a case's functions, unless the environment says that they shall not.
    new = {name: data for name, data in tree(place).items() if before.get(name) != data}
    made = {name: data for name, data in new.items() if "__pycache__" not in name.split("/")}
    err = SPEED.sub("(speed)", captured.err.decode().replace(str(place), "."))
    return Result(captured.out, err, code, made)


def wanted(case: Path) -> Result:
    code = int((case / "code").read_text()) if (case / "code").exists() else 0
    err = (case / "err").read_text() if (case / "err").exists() else ""
    return Result((case / "out").read_bytes(), err, code, tree(case / "made"))


def update(case: Path, got: Result) -> None:
    (case / "out").write_bytes(got.out)
    for name, text in (("code", f"{got.code}\n"), ("err", got.err)):
        if got.code or (name == "err" and (case / name).exists()):
            (case / name).write_text(text)
        else:
            (case / name).unlink(missing_ok=True)
    shutil.rmtree(case / "made", ignore_errors=True)
    for name, data in got.made.items():
        (case / "made" / name).parent.mkdir(parents=True, exist_ok=True)
        (case / "made" / name).write_bytes(data)


@pytest.mark.parametrize("case", CASES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_case_gives_what_it_gave(
    case: Path,
    place: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    got = run(case, place, capfdbinary, monkeypatch)
    if request.config.getoption("--update-cases"):
        update(case, got)
    want = wanted(case)
    assert got.code == want.code, got.err
    assert got.out == want.out
    assert got.made == want.made
    if got.code or want.err:
        assert got.err == want.err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_at_least_two_cases(verb: str) -> None:
    assert sum(case.parent.name == verb for case in CASES) >= 2


def test_every_stage_of_the_shell_has_a_folder_of_cases() -> None:
    from aiopipe.stages import TABLE

    # collect gives rows to programs only; fetch needs a server, whose port no file of a case can know: its tests, in
    # tests/stages/test_fetch.py, compare whole files as well.
    assert set(VERBS) - {"replay"} == set(TABLE) - {"collect", "fetch"}
