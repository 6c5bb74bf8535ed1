"""Arrow's functions as we ask for them are those of pyarrow.compute, and its wrappers stay where they are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import aiopipe
from aiopipe import kernels

TEXT = pa.array(["a", None, "", 'x "y"', "żółw", "a,b"])
BYTES = TEXT.cast(pa.binary())
INTS = pa.array([3, None, 0, -7, 2**40, 1])
DOUBLES = pa.array([0.5, None, float("inf"), -0.0, 1e300, 2.0])
TRUTHS = pa.array([True, None, False, True, False, True])
NO_NULLS = pa.array([True, False, False, True, False, True])

CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "add_checked": ((INTS, INTS), {}),
    "all": ((TRUTHS,), {}),
    "and_": ((TRUTHS, NO_NULLS), {}),
    "and_kleene": ((TRUTHS, NO_NULLS), {}),
    "any": ((TRUTHS,), {}),
    "binary_join_element_wise": ((TEXT, TEXT, pa.scalar("-")), {}),
    "binary_length": ((BYTES,), {}),
    "binary_replace_slice": ((TEXT, 64, 64, ".0"), {}),
    "binary_slice": ((BYTES, 1, -1), {}),
    "cast": ((INTS, pa.float64()), {"safe": False}),
    "dictionary_encode": ((TEXT,), {}),
    "divide": ((DOUBLES, pa.scalar(2.0)), {}),
    "drop_null": ((TEXT,), {}),
    "ends_with": ((BYTES, b"b"), {}),
    "equal": ((TEXT, pa.scalar("a")), {}),
    "fill_null": ((TEXT, pa.scalar("")), {}),
    "filter": ((TEXT, NO_NULLS), {}),
    "greater": ((INTS, pa.scalar(1)), {}),
    "greater_equal": ((INTS, pa.scalar(1)), {}),
    "if_else": ((NO_NULLS, TEXT, pa.scalar("z")), {}),
    "invert": ((TRUTHS,), {}),
    "is_in": ((TEXT,), {"value_set": pa.array(["a", "z"])}),
    "is_inf": ((DOUBLES,), {}),
    "is_null": ((TEXT,), {}),
    "is_valid": ((TEXT,), {}),
    "less": ((INTS, pa.scalar(1)), {}),
    "less_equal": ((INTS, pa.scalar(1)), {}),
    "match_substring": ((TEXT, '"'), {}),
    "match_substring_regex": ((TEXT, "[a-z]"), {}),
    "multiply_checked": ((INTS, pa.scalar(2)), {}),
    "negate_checked": ((INTS,), {}),
    "not_equal": ((TEXT, pa.scalar("a")), {}),
    "or_": ((TRUTHS, NO_NULLS), {}),
    "or_kleene": ((TRUTHS, NO_NULLS), {}),
    "replace_substring": ((TEXT, '"', '""'), {}),
    "replace_with_mask": ((TEXT, NO_NULLS, pa.array(["1", "2", "3"])), {}),
    "starts_with": ((BYTES, b"a"), {}),
    "string_is_ascii": ((TEXT,), {}),
    "subtract_checked": ((INTS, INTS), {}),
    "sum": ((DOUBLES,), {}),
    "take": ((TEXT, pa.array([1, 0, 5, 5])), {}),
    "unique": ((TEXT,), {}),
}


def test_every_function_that_is_asked_for_is_tried_here() -> None:
    asked: set[str] = set()
    for path in Path(aiopipe.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "import kernels as pc" in text:
            asked.update(re.findall(r"\bpc\.([a-z_]+)", text))
    assert len(asked) > 30
    assert asked - set(CALLS) == set()


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("name", CALLS)
def test_a_function_gives_what_pyarrow_s_own_gives(monkeypatch: pytest.MonkeyPatch, name: str, own: bool) -> None:
    assert kernels._OWN, "the private names have changed: runs start 45 ms later"
    monkeypatch.setattr(kernels, "_OWN", own)
    if name not in ("cast", "take"):
        monkeypatch.delitem(vars(kernels), name, raising=False)
    values, options = CALLS[name]
    made = getattr(kernels, name)(*values, **options)
    assert made.equals(getattr(pc, name)(*values, **options))
    if name not in ("cast", "take"):
        monkeypatch.delitem(vars(kernels), name, raising=False)


def test_errors_are_those_of_pyarrow() -> None:
    with pytest.raises(pa.ArrowInvalid, match=r"Float value 0\.50* was truncated"):
        kernels.cast(DOUBLES.slice(0, 1), pa.int64())
    with pytest.raises(pa.ArrowInvalid, match="overflow"):
        kernels.add_checked(pa.array([2**63 - 1]), pa.array([1]))
    with pytest.raises(IndexError):
        kernels.take(TEXT, pa.array([6]))
    with pytest.raises(AttributeError):
        kernels.no_such_function


def test_a_run_imports_no_wrappers(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a,b\n" + "".join(f"{i},x{i}\n" for i in range(1000)), encoding="utf-8")
    code = """
import sys
from aiopipe import Derive, Filter, Read, Select, Write
pipeline = Read(sys.argv[1]) | Filter("a > 10 AND b <> 'x7'") | Derive(c="a * 2") | Select("b", "c")
report = (pipeline | Write(sys.argv[2])).run_sync()
print(report.written, [n for n in ("pyarrow.compute", "duckdb", "aiocsv") if n in sys.modules])
"""
    words = [sys.executable, "-c", code, str(tmp_path / "in.csv"), str(tmp_path / "out.csv")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "989 []\n"
