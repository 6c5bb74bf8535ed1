"""Names as file systems have them: line feeds, bytes that are no text, cases, ways out of the destination."""

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from aiopipe import Filter, Map, OutputError, Read, Write
from aiopipe.model import FileRef
from aiopipe.options import option
from aiopipe.stage import Source
from aiopipe.storage.write import folds_case
from tests.faults.functions import same
from tests.support import failure, rejects, write

ODD = [
    *(
        "line\nfeed.csv",
        " blank .csv",
        "'quotes\".csv",
        "-dash.csv",
        "caf\u00e9.csv",
        "cafe\u0301.csv",
        "\udcff\udcfe.csv",
    ),
    *("Case.csv", "case.csv", "CASE.CSV.csv", "a" * 240 + ".csv", "*.csv", "[x].csv", "sub\n/x.csv", "~/x.csv"),
]
DATA = b"id,text\n1,a\n2,b\n"


@pytest.fixture
def place(tmp_path):
    for name in ODD:
        path = os.fsencode(tmp_path / "in" / name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(DATA)
    return tmp_path


def outputs(root):
    return {os.path.relpath(os.path.join(d, n), root) for d, _, names in os.walk(root) for n in names
            if not os.path.relpath(d, root).startswith(".aiopipe")}  # fmt: skip


@pytest.mark.parametrize("block", [1 << 20, 8])
@pytest.mark.parametrize("stages", [[], [Filter("id > 0"), Map(same)]], ids=["nothing", "stages"])
def test_files_of_any_name_are_mirrored_under_it(block, stages, place):
    pipeline = Read(place / "in", block=block)
    for stage in stages:
        pipeline = pipeline | stage
    report = (pipeline | Write(f"{place}/out/")).run_sync()
    assert report.outputs == len(ODD)
    assert outputs(place / "out") == set(ODD)
    again = (pipeline | Write(f"{place}/out/")).run_sync()
    assert outputs(place / "out") == set(ODD)
    assert again.read in (0, report.read)


def test_records_of_such_files_are_set_aside_and_told_on_any_terminal(place):
    for name in ODD:
        with open(os.fsencode(place / "in" / name), "ab") as file:
            file.write(b"bad\n")
    command = [sys.executable, "-m", "aiopipe", "pipe", "--rejects", f"{place}/rejects.csv", "read", f"{place}/in"]
    done = subprocess.run(
        [*command, "then", "write", f"{place}/out/"], capture_output=True, env=os.environ | {"LC_ALL": "C"}, timeout=60
    )
    assert done.returncode == 3, done.stderr
    assert len(rejects(place / "rejects.csv")) == len(ODD)
    assert {r["path"].rpartition("/")[2] for r in rejects(place / "rejects.csv")} >= {
        "\\xff\\xfe.csv",
        "line\nfeed.csv",
    }
    for name in ("\udcff\udcfe.csv", "line\nfeed.csv"):
        command = [sys.executable, "-m", "aiopipe", "pipe", "read", os.fsencode(place / "in" / name)]
        done = subprocess.run(
            [*command, "then", "write", "-"], capture_output=True, env=os.environ | {"LC_ALL": "C"}, timeout=60
        )
        assert done.returncode == 1
        assert b"(record 3, byte 16)" in done.stderr


@dataclass(frozen=True, repr=False)
class Hostile(Source):
    """A source whose listing was written by somebody else."""

    word: ClassVar[str] = "hostile"
    name: str = option(positional="one", help="where the file says it belongs")
    path: str = option("", help="what is read")

    async def open(self, context: Any) -> Any:
        inner = Read(self.path)
        async for chunk in inner.open(context):
            ref = FileRef(self.path, self.name, 0, len(DATA))
            yield type(chunk)(
                chunk.data, chunk.header, chunk.dialect, tuple(type(s)(ref, *_rest(s)) for s in chunk.segments)
            )


def _rest(segment):
    return [getattr(segment, n) for n in ("part", "last", "offset", "byte", "records", "lines", "head_lines")]


@pytest.mark.parametrize("name", ["../evil.csv", "a/../../evil.csv", "..", "/tmp/evil.csv", "a/..", "./../evil.csv"])
def test_a_listing_that_leads_out_of_the_destination_is_refused(name, tmp_path):
    path = write(tmp_path / "in/x.csv", DATA)
    write(tmp_path / "evil.csv", "old")
    error = failure(Hostile(name, path=path) | Write(f"{tmp_path}/out/"))
    assert isinstance(error, OutputError)
    assert "would leave" in str(error)
    assert (tmp_path / "evil.csv").read_text() == "old"
    assert not os.path.exists("/tmp/evil.csv")
    assert outputs(tmp_path / "out") == set()


def test_a_link_that_stands_where_an_output_goes_is_replaced_and_not_followed(tmp_path):
    path = write(tmp_path / "in/x.csv", DATA)
    write(tmp_path / "precious.csv", "mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/x.csv").symlink_to(tmp_path / "precious.csv")
    (Read(tmp_path / "in") | Write(f"{tmp_path}/out/")).run_sync()
    assert (tmp_path / "precious.csv").read_text() == "mine"
    assert not (tmp_path / "out/x.csv").is_symlink()
    assert (tmp_path / "out/x.csv").read_bytes() == DATA
    assert path


def test_names_that_a_disk_takes_for_one_are_refused_and_no_output_replaces_another(tmp_path, monkeypatch):
    """Seen from a disk that heeds no case; this one is asked first."""
    for name in ("a.csv", "A.csv", "b.csv"):
        write(tmp_path / "in" / name, DATA + name.encode() + b",\n")
    pipeline = Read(tmp_path / "in", block=8) | Write(f"{tmp_path}/out/")
    if not folds_case(str(tmp_path)):
        assert pipeline.run_sync().outputs == 3
        assert outputs(tmp_path / "out") == {"a.csv", "A.csv", "b.csv"}
    monkeypatch.setattr("aiopipe.stages._mirror.folds_case", lambda directory: True)
    error = failure(pipeline, ledger=False)
    assert isinstance(error, OutputError)
    assert "A.csv" in str(error)
    assert "one name on this disk" in str(error)
    for name in ("caf\u00e9", "cafe\u0301"):
        write(tmp_path / "in2" / f"{name}.csv", DATA)
    assert "one name" in str(failure(Read(tmp_path / "in2") | Write(f"{tmp_path}/out2/"), ledger=False))
