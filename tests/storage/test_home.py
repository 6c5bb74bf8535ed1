"""What somebody is told whose path is not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aiopipe.storage.home import path_hint


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "incoming/2013").mkdir(parents=True)
    (tmp_path / "incoming/2013/flights.csv").touch()
    (tmp_path / "odd\nname.csv").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("incomming", "incoming"),
        ("Incoming/", "incoming"),
        ("incoming/2013/flihgts.csv", "incoming/2013/flights.csv"),
        ("incoming/2013/flights.CSV", "incoming/2013/flights.csv"),
        ("imcoming/2013/flights.csv", "incoming/2013/flights.csv"),
    ],
)
def test_a_slip_is_told_what_is_there(place: Path, typed: str, meant: str):
    assert path_hint(typed) == f"did you mean {meant}?"
    assert path_hint(f"{place}/{typed}") == f"did you mean {place}/{meant}?"


@pytest.mark.parametrize(
    "typed", ["else.csv", "incoming/2014x.csv", "imcoming/none.csv", "odd name.csv", "", "/", "*.cvs"]
)
def test_where_nothing_is_alike_nothing_is_made_up(place: Path, typed: str):
    assert path_hint(typed) == "check the path"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may look everywhere")
def test_a_directory_that_is_closed_is_no_matter(place: Path):
    (place / "incoming").chmod(0)
    try:
        assert path_hint("incoming/2014") == "check the path"
    finally:
        (place / "incoming").chmod(0o755)
