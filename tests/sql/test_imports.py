"""What is loaded, and when: nothing slow before it is needed, nothing said at exit."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from aiopipe import Derive, Filter, Read, Write
from aiopipe.batch import Header, Segment
from aiopipe.codec.chunk import Chunk
from aiopipe.codec.dialect import Dialect
from aiopipe.fuse import fuse
from aiopipe.model import FileRef
from aiopipe.plan import make_plan
from aiopipe.sql import compile_expression
from aiopipe.sql import session as session_module
from aiopipe.stage import Scope

WORK = """
import sys
import pyarrow as pa
import aiopipe.sql as sql
assert "_duckdb" not in sys.modules, "duckdb is for the first expression"
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


TRAVELLED = """
import pickle, sys
node, chunk, other = pickle.load(open(sys.argv[1], "rb"))
encoded, tallies = node.run(chunk)
assert bytes(encoded.bodies[0]) == b"2,x,4\\n3,y,6\\n", encoded
assert [t.given for t in tallies] == [3, 2, 2, 2], tallies
assert "_duckdb" not in sys.modules, "an expression that Arrow computes was parsed before it came here"
again, _ = pickle.loads(pickle.dumps(node)).run(chunk)
assert again.bodies == encoded.bodies and "_duckdb" not in sys.modules
encoded, _ = other.run(chunk)
assert bytes(encoded.bodies[0]) == b"2,X\\n3,Y\\n" and "duckdb" in sys.modules, encoded
"""


def test_a_node_that_came_from_another_process_computes_without_duckdb_what_arrow_can(tmp_path: Path):
    scope = Scope({"a": "BIGINT", "b": "VARCHAR"}, complete=True)
    header = Header(("a", "b"), (b"a", b"b"))
    whole = Segment(FileRef("f.csv", "f.csv", 0), 0, True, 0, 0)
    chunk = Chunk(b"1,w\n2,x\n3,y\n", header, Dialect(), (whole,))
    read, write = Read("f.csv"), Write(str(tmp_path / "out.csv"))
    nodes = []
    for pipeline in (
        read | Filter("a > 1") | Derive(c="a * 2") | write,
        read | Filter("a > 1") | Derive(b="upper(b)") | write,
    ):
        nodes += [n for n in fuse(make_plan(pipeline.stages).typed(scope)) if n.shape == "hop"]
    sent = tmp_path / "sent"
    sent.write_bytes(pickle.dumps((nodes[0], chunk, nodes[1])))
    done = subprocess.run(
        [sys.executable, "-c", TRAVELLED, str(sent)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_step_that_cannot_be_compiled_travels_all_the_same():
    plan = make_plan((Read("f.csv") | Filter("length(a, b) > 1") | Write("out.csv")).stages)
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_what_arrow_computes_takes_duckdb_s_bindings_and_not_the_package():
    code = WORK + 'e = sql.compile_expression("n > 2 AND x BETWEEN 1 AND 3", T)\ne.mask(C, 5)\n'
    done = run(code + 'assert "_duckdb" in sys.modules and "duckdb" not in sys.modules\n')
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("answers", [True, False])
def test_a_session_that_was_lent_is_asked_first(monkeypatch: pytest.MonkeyPatch, answers: bool):
    other, asked = session_module.Session(), []

    def ask(method: str, given: tuple[object, ...]) -> object:
        asked.append(method)
        return getattr(other, method)(*given) if answers else None

    monkeypatch.setattr(session_module, "_lent", None)
    session_module.lend(ask)
    own = []
    monkeypatch.setattr(session_module, "session", lambda: own.append(1) or other)
    expression = compile_expression(f"a * 2 > b + {17 + answers}e0", {"a": "BIGINT", "b": "DOUBLE"})
    assert expression.type == "BOOLEAN"
    assert {"syntax", "bind"} <= set(asked)
    assert len(own) == (0 if answers else len(asked))
    other.close()


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
