"""Every block of the README and of docs/ runs, and what it shows is what it gives.

A `text` block right behind another one is that one's output, standard error included; a line of it that is or
ends in `...` stands for any text. Lines of `sh` blocks that begin with one of SKIPPED are passed over, and told.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "docs/csv.md",
    "docs/faults.md",
    "docs/fetch.md",
    "docs/jobs.md",
    "docs/library.md",
    "docs/service.md",
    "docs/streams.md",
    "docs/databases.md",
)
# They install things or are themselves about the whole repository; `make demo` and CI run them.
SKIPPED = ("pip ", "make", "git ", "python3 -m venv ", ". .venv/bin/activate")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str
    output: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = list(FENCE.finditer(text))
    made = []
    for i, match in enumerate(found):
        after = found[i + 1] if i + 1 < len(found) else None
        shown = after and after[1] == "text" and not text[match.end() : after.start()].strip()
        output = after[2] if after and shown else None
        made.append(Block(page, text[: match.start()].count("\n") + 1, match[1], match[2], output))
    return made


BLOCKS = [b for page in PAGES for b in blocks(page) if b.language != "text"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with what the documentation takes for granted."""
    shutil.copytree(ROOT / "sample_data", tmp_path / "sample_data")
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run(block: Block, place: Path) -> str:
    """The block's output; AssertionError where it fails."""
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    if block.language == "sh":
        lines = block.text.splitlines(keepends=True)
        for line in lines:
            if line.startswith(SKIPPED):
                print(f"{block}: skipped: {line.strip()}")
        script = "".join(line for line in lines if not line.startswith(SKIPPED))
        command = ["sh", "-euc", script]
    elif block.language == "python":
        (place / "block.py").write_text(block.text, encoding="utf-8")
        command = [sys.executable, "block.py"]
    else:
        assert block.language == "toml", f"{block}: nobody knows how to run {block.language!r}"
        (place / "block.toml").write_text(block.text, encoding="utf-8")
        command = [sys.executable, "-m", "aiopipe", "run", "block.toml"]
    done = subprocess.run(command, cwd=place, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    output = done.stdout.decode()
    assert done.returncode == 0, f"{block} ended with {done.returncode}:\n{output}"
    return output


def matches(shown: str, output: str) -> bool:
    """Whether the output is the one shown, where `...` stands for any text within a line."""
    pattern = re.escape(shown.rstrip("\n")).replace(re.escape("..."), ".*")
    return re.fullmatch(pattern, output.rstrip("\n")) is not None


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_runs_and_shows_what_it_gives(block: Block, place: Path) -> None:
    output = run(block, place)
    if block.output is not None:
        assert matches(block.output, output), f"shown:\n{block.output}\ngiven:\n{output}"


def test_the_three_doors_of_the_readme_write_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for language in ("sh", "python", "toml"):
        block = next(b for b in BLOCKS if b.page == "README.md" and b.language == language)
        place = tmp_path / language
        shutil.copytree(ROOT / "sample_data", place / "sample_data")
        run(block, place)
        made.append({p.name: p.read_bytes() for p in (place / "late").glob("[!.]*")})
    assert len(made[0]) == 7
    assert made[0] == made[1] == made[2]


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = spec_from_file_location("make_docs", ROOT / "docs" / "make.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_stage_table_of_the_readme_is_current(make: ModuleType) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == make.with_table(readme), "run `make docs`"


def test_the_reference_of_the_stages_is_current(make: ModuleType) -> None:
    assert (ROOT / "docs" / "stages.md").read_text(encoding="utf-8") == make.reference(), "run `make docs`"


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in (*PAGES, "docs/stages.md", "sample_data/README.md", "CHANGELOG.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"


def test_an_output_that_differs_is_seen() -> None:
    assert matches("a\nb ...\n", "a\nb 12 MB/s\n")
    assert not matches("a\nb ...\n", "a\nc 12 MB/s\n")
    assert not matches("a\n", "a\nb\n")
