"""What a type checker tells the author of a wrong pipeline; that it is told at all, `make types` checks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

WRONG = Path(__file__).parent / "typing/wrong.py"
TOLD = {
    'Read("a.csv", nul="NA")': 'Unexpected keyword argument "nul" for "Read"; did you mean "null"?',
    "Head(3, per_fil=True)": 'Unexpected keyword argument "per_fil" for "Head"; did you mean "per_file"?',
    'shout(colum="city")': 'Unexpected keyword argument "colum" for "shout"; did you mean "column"?',
    "Filter(3)": 'Argument 1 to "Filter" has incompatible type "int"; expected "str"',
    'Read("a.csv") | Write("b.csv") | Head()': 'Unsupported left operand type for | ("Pipeline")',
    'Read("a.csv") | Read("b.csv")': 'No overload variant of "__or__" of "Source" matches argument type "Read"',
    'Read("a.csv") | Head() | Read("b.csv")': 'No overload variant of "__or__" of "Stream" matches',
    '(Head() | Write("b.csv")).run()': '"Branch" has no attribute "run"',
    "Write(print)": 'Argument 1 to "Write" has incompatible type',
    "Tee(Head())": 'Argument 1 to "Tee" has incompatible type "Head"; expected "Branch | Sink"',
    'Route({"x > 1": Head()})': 'incompatible type "str": "Head"; expected "str": "Branch | Sink"',
    'Merge(Read("a.csv") | Write("b.csv"))': 'incompatible type "Pipeline"; expected "Source | Stream"',
    'Read("a.csv") | Tee(Write("a/")) | Head()': 'Unsupported left operand type for | ("Pipeline")',
    'Tee(Read("a.csv") | Write("b.csv"))': 'incompatible type "Pipeline"; expected "Branch | Sink"',
    'Route({"x > 1": Read("a.csv")})': 'incompatible type "str": "Read"; expected "str": "Branch | Sink"',
    'Read("a.csv") | Route({"x > 1": Write("a/")}) | Write("b/")': 'left operand type for | ("Pipeline")',
    'Read("a.csv") | Merge(Read("b.csv"), Read("c.csv"))': '"__or__" of "Source" matches argument type "Merge"',
    'Batch(100, withn="1s")': 'Unexpected keyword argument "withn" for "Batch"; did you mean "within"?',
    'Batch("many")': 'Argument 1 to "Batch" has incompatible type "str"; expected "int | None"',
    "(From(range(3)) | Batch(2) | Unbatch()).run()": '"Stream" has no attribute "run"',
    "Batch(2) | From(range(3))": 'No overload variant of "__or__" of "Transform" matches argument type "From"',
    "Map(print, concurency=3)": 'Unexpected keyword argument "concurency" for "Map"; did you mean "concurrency"?',
    '(Read("a.csv") | Head()).run()': '"Stream" has no attribute "run"',
}


def test_a_wrong_pipeline_is_refused_with_words_that_help(tmp_path: Path):
    api = pytest.importorskip("mypy.api")
    lines = [re.sub(r"\s+# type: ignore.*", "", line) for line in WRONG.read_text().splitlines()]
    (tmp_path / "wrong_pipelines.py").write_text("\n".join(lines) + "\n")
    config = WRONG.parents[2] / "pyproject.toml"
    out, err, code = api.run(
        ["--strict", "--config-file", str(config), "--cache-dir", str(config.parent / ".mypy_cache"),
         "--no-error-summary", str(tmp_path / "wrong_pipelines.py")]
    )  # fmt: skip
    assert (code, err) == (1, "")
    told = {int(m[1]): m[2] for m in re.finditer(r"wrong_pipelines\.py:(\d+): error: (.*)", out)}
    refused = {i for i, line in enumerate(WRONG.read_text().splitlines(), 1) if "# type: ignore[" in line}
    assert set(told) == refused
    for code_line, message in TOLD.items():
        assert message in told[lines.index(code_line) + 1]
