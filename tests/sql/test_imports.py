"""What is loaded, and when: nothing slow before it is needed, nothing said at exit."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

WORK = """
import sys
import pyarrow as pa
import aiopipe.sql as sql
assert "duckdb" not in sys.modules, "duckdb is for the first expression"
T = {"n": "BIGINT", "s": "VARCHAR", "x": "DOUBLE"}
C = {"n": pa.array(range(5)), "s": pa.array(list("abcde")), "x": pa.array([0.5] * 5)}
"""
EVALUATE = """
for text in ("n > 2", "n IN (1, 2)", "x * 0.9", "x", "upper(s)", "s || s", "CAST(s AS BIGINT)", "n * 0.5"):
    e = sql.compile_expression(text, T)
    e.evaluate(C, 5), e.text_values(C, 5)
"""


def run(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, paths), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=env, check=False
    )


def test_duckdb_is_imported_at_the_first_expression_and_leaves_quietly():
    done = run(WORK + EVALUATE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_threads_leave_quietly():
    code = WORK + "import threading\n" + "def work():\n" + EVALUATE.replace("\n", "\n    ")
    code += "\nthreads = [threading.Thread(target=work) for _ in range(3)]\n"
    code += "[t.start() for t in threads]\n[t.join() for t in threads]\n"
    done = run(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(version("duckdb").startswith("1."), reason="DuckDB before 2.0 imports pandas itself")
def test_pandas_is_never_imported_even_where_it_is_installed(tmp_path: Path):
    (tmp_path / "pandas.py").write_text("print('pandas was imported')\n", encoding="utf-8")
    arrays = """
C = {"n": pa.nulls(5, pa.int64()),
     "s": pa.concat_arrays([pa.nulls(3, pa.string()), arrays.text_array(["q", "3"])]),
     "x": pc.cast(arrays.place_array(range(5)), pa.float64())}
"""
    start = WORK[: WORK.index("C = {")] + "import pyarrow.compute as pc\nimport aiopipe.arrays as arrays\n"
    done = run(start + arrays + EVALUATE, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
