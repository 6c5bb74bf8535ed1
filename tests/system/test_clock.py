"""The clock is set back, or was ahead: what changed is done again, what did not is passed over."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system


@pytest.fixture
def faketime():
    found = shutil.which("faketime")
    assert found, "faketime is needed: apt-get install faketime"
    return found


def run(place: Path, faketime: str, when: str) -> dict[str, object]:
    """One run at that time; files keep their true stamps."""
    command = [faketime, when] if when else []
    command += [sys.executable, "-m", "aiopipe", "pipe", "--report", f"{place}/report.json", "read", f"{place}/in"]
    environment = os.environ | {"NO_FAKE_STAT": "1"}
    subprocess.run([*command, "then", "write", f"{place}/out/"], check=True, env=environment, timeout=120)
    found: dict[str, object] = json.loads((place / "report.json").read_text())
    return found


@pytest.mark.parametrize(("then", "now"), [("", "-3 days"), ("+1 year", ""), ("+1 year", "-1 year"), ("-1 year", "")])
def test_what_is_done_is_told_by_the_files_and_not_by_the_clock(then: str, now: str, tmp_path: Path, faketime: str):
    into = tmp_path / "in"
    into.mkdir()
    for i in range(4):
        (into / f"{i}.csv").write_text(f"id\n{i}\n")
    assert run(tmp_path, faketime, then)["outputs"] == 4
    again = run(tmp_path, faketime, now)
    assert (again["outputs"], again["unchanged"]) == (0, 4)
    times = (into / "2.csv").stat()
    (into / "2.csv").write_text("id\nX\n")
    os.utime(into / "2.csv", ns=(times.st_atime_ns, times.st_mtime_ns))
    third = run(tmp_path, faketime, now)
    assert (third["outputs"], third["unchanged"]) == (1, 3)
    assert {p.name: p.read_text() for p in (tmp_path / "out").glob("*.csv")} == {
        p.name: p.read_text() for p in into.iterdir()
    }
