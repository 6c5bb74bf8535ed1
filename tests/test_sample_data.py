"""The sample data is what its README says, and its script makes it."""

import csv
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SAMPLES = Path(__file__).parents[1] / "sample_data"


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_samples", SAMPLES / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_makes_the_awkward_files_byte_for_byte(make: ModuleType) -> None:
    made = make.awkward(SAMPLES / "flights")
    root = SAMPLES / "awkward"
    there = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*.*")}
    assert made == there


def test_each_awkward_file_still_has_what_makes_it_awkward() -> None:
    data = {p.stem: p.read_bytes() for p in (SAMPLES / "awkward").rglob("*.?sv")}
    excel = data["bom-crlf"]
    assert excel.startswith(b"\xef\xbb\xbf")
    assert excel.count(b"\r\n") == excel.count(b"\n") > 1
    assert b",007,1.10\n" in data["codes"]
    assert data["empty"] == b""
    assert data["header-only"].count(b"\n") == 1 and data["header-only"].endswith(b"\n")
    assert data["no-final-newline"][-1:] not in b"\r\n"
    assert "東京".encode() in data["non-ascii"]
    assert b'""soon""' in data["quoted"] and b'"diverted:\nfog' in data["quoted"]
    assert b";" in data["semicolons"] and b"\xfc" in data["cp1252"] and b"\t" in data["tabs"]
    widths = [len(r) for r in csv.reader(data["ragged"].decode().splitlines())]
    assert sorted(set(widths)) == [12, 19, 20]


def test_the_flights_are_a_week_of_one_shape_with_na_in_the_delays() -> None:
    days = sorted((SAMPLES / "flights").iterdir())
    assert [d.name for d in days] == [f"2013-01-0{n}.csv" for n in range(1, 8)]
    for day in days:
        with day.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows[0]) == 19
        assert any(r["arr_delay"] == "NA" for r in rows)
