"""pandas is the user's affair: no stage imports it, or tries to, where it is installed or not.

pyarrow imports pandas (0.9 s, 60 MB) for many a conversion. Pipelines run here in a program whose first finder
of modules refuses it and notes who asked, in worker processes as well: a failed attempt costs a search of the
path, so attempts count, and the tests need no pandas. pyarrow asks once a process for some conversions and at
each call for others: mend what is named, and run again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WATCH = """
import json, os, sys, traceback

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pandas", "dateutil", "pytz"):
            frames = [f"{f.filename}:{f.lineno}" for f in traceback.extract_stack() if "importlib" not in f.filename]
            # DuckDB before 2.0 looks for pandas itself when it is given or asked for anything: no way around.
            if not frames[-2].rpartition(":")[0].endswith(os.path.join("sql", "session.py")) or not OLD_DUCKDB:
                with open(os.environ["ATTEMPTS"], "a") as file:
                    file.write(json.dumps([os.getpid(), name, frames[-3:-1]]) + "\\n")
            raise ImportError(name)

from importlib.metadata import version
OLD_DUCKDB = version("duckdb").startswith("1.")
sys.meta_path.insert(0, Watch())
"""

PLAIN = "id,name,amount,note,seen\n" + "".join(
    f"{i},n{i % 7},{'' if i % 5 == 0 else i * 1.5},,2024-01-{i % 28 + 1:02d} 10:00:00Z\n" for i in range(900)
)
QUOTED = (
    'id,name,amount,note,seen\r\n1,"a, ""b""",2.5,"two\r\nlines",2024-01-01 10:00:00Z\r\n'
    '2,"x"y,7,"",2024-01-02 10:00:00Z\r\n3,z,x9,"q",2024-01-03 10:00:00Z\r\n4,short\r\n5,"",8,,\r\n'
)

FUNCTIONS = """
def louder(row):
    if row["id"] == "13":
        raise ValueError("thirteen")
    row["name"] += ', "é"' if row["id"] == "14" else "!"
    row["new"] = None if row["id"] == "15" else 1.5
    return row

async def asked(row):
    return {**row, "note": row["name"]}

async def twice(rows):
    async for row in rows:
        yield row
        yield {**row, "note": "again"}

def careless(row):
    import pyarrow
    pyarrow.scalar("text")
    return row
"""

PROGRAM = """
import sys
from aiopipe import Collect, Dedupe, Derive, Drop, Filter, Head, Map, Mask, Read, Rename, Select, Skip, Write
import functions as f

TYPES = {"id": "BIGINT", "name": "VARCHAR", "amount": "DOUBLE", "seen": "TIMESTAMPTZ"}
PIPELINES = {
    "filter": lambda r: r | Filter("amount > 3 AND name <> 'n1' OR id IN (1, 2)") | Write("out/"),
    "functions": lambda r: r | Filter("upper(name) LIKE 'N%' AND seen > '2024-01-03'") | Write("out/"),
    "failing": lambda r: r | Derive(x="CAST(name AS BIGINT) + id", s="seen", day="CAST(seen AS DATE)") | Write("out/"),
    "zoned": lambda r: r | Filter("CASE WHEN id > 5 THEN seen > '2024-01-03' ELSE error(name) END") | Write("out/"),
    "derive": lambda r: r | Derive(x="amount * 0.9", note="name || ','", id="id + 1", b="id > 4") | Write("out/"),
    "columns": lambda r: r | Select("name", "id", "note") | Rename(name="who") | Drop("id") | Write("out.tsv"),
    "alone": lambda r: r | Select("note") | Write("out/"),
    "mask": lambda r: r | Mask("name", "note", key="env:MASK_KEY") | Write("out/"),
    "range": lambda r: r | Skip(2) | Head(700) | Write("out/"),
    "dedupe": lambda r: r | Dedupe("name", "note") | Dedupe("id") | Write("out.jsonl"),
    "disk": lambda r: r | Dedupe("id", memory="1kB") | Write("out/"),
    "thread": lambda r: r | Map(f.louder) | Filter("id > 1") | Write("out/"),
    "waiting": lambda r: r | Map(f.louder, concurrency=2) | Derive(y="CAST(new AS DOUBLE) * 2") | Write("out/"),
    "process": lambda r: r | Filter("amount > 3") | Map(f.louder, placement="process") | Write("out/"),
    "async": lambda r: r | Map(f.asked) | Write("out/", format="tsv"),
    "generator": lambda r: r | Map(f.twice) | Write("out/"),
    "collect": lambda r: r | Derive(x="id") | Collect(),
    "careless": lambda r: r | Map(f.careless, placement="process") | Write("out/"),
}
if __name__ == "__main__":
    chosen, reads = sys.argv[1:]
    read = {
        "plain": lambda: Read("plain.csv", types=TYPES),
        "guessed": lambda: Read(["plain.csv", "more.csv"], null=["n3"]),
        "quoted": lambda: Read("quoted.csv", types=TYPES),
        "latin": lambda: Read("latin.csv", encoding="latin-1", types=TYPES),
        "bare": lambda: Read("plain.csv", quote="none", types=TYPES),
    }[reads]
    for name in PIPELINES if chosen == "all" else [chosen]:
        if name != "careless" or chosen == name:
            report = PIPELINES[name](read()).run_sync(rejects="rejects.csv", workers=2)
            assert report.read > 0, name
            print(name, report.written, report.rejected)
"""


def attempts(place: Path, pipeline: str, read: str) -> list[list[object]]:
    """Run a pipeline in a fresh program; who tried to import pandas: process, module, and the two last frames."""
    (place / "sitecustomize.py").write_text(WATCH)  # on the path of worker processes, too
    (place / "functions.py").write_text(FUNCTIONS, encoding="utf-8")
    (place / "program.py").write_text(PROGRAM)
    (place / "plain.csv").write_bytes(PLAIN.encode())
    (place / "more.csv").write_bytes(PLAIN.encode())
    (place / "quoted.csv").write_bytes(QUOTED.encode())
    (place / "latin.csv").write_bytes(QUOTED.replace("z", "é").encode("latin-1"))
    found = place / "attempts"
    found.touch()
    env = {**os.environ, "PYTHONPATH": str(place), "ATTEMPTS": str(found), "MASK_KEY": "0123456789abcdef"}
    done = subprocess.run(
        [sys.executable, "program.py", pipeline, read], cwd=place, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in found.read_text().splitlines()]


@pytest.mark.parametrize("read", ["plain", "guessed", "quoted", "latin", "bare"])
def test_no_stage_asks_for_pandas(tmp_path: Path, read: str):
    assert attempts(tmp_path, "all", read) == []


def test_the_watch_sees_what_a_worker_process_asks_for(tmp_path: Path):
    found = attempts(tmp_path, "careless", "plain")
    assert found and all("functions.py" in str(frames) for _, _, frames in found)
