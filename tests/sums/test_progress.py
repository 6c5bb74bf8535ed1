from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from aiopipe.cli.sums_options import Progress
from aiopipe.sums.audit import diff
from aiopipe.sums.parse import open_manifest


def test_the_line_says_what_is_known_is_drawn_five_times_a_second_and_leaves_nothing(capsys, monkeypatch):
    now = 100.0
    monkeypatch.setattr("aiopipe.cli.sums_options.time.monotonic", lambda: now)
    bar = Progress(True)
    bar.clear()
    assert capsys.readouterr().err == ""  # nothing was drawn, so nothing is taken away
    for _ in range(10):
        now += 0.1
        bar.tick()
    assert capsys.readouterr().err.count("\r") <= 5
    now += 1
    bar.tick()
    assert capsys.readouterr().err.endswith("2 s")  # nothing but the time: a manifest is being read
    bar.files, bar.size = 1200, 4_000_000
    now += 2
    bar.tick()
    assert capsys.readouterr().err.endswith("4 s, 1,200 files, 4.0 MB, 1.0 MB/s")
    bar.clear()
    assert capsys.readouterr().err == "\r\x1b[K"


@pytest.mark.parametrize("wanted", [False, None])
def test_without_a_terminal_there_is_no_line(capsys, monkeypatch, wanted: bool | None):
    bar = Progress(wanted)
    monkeypatch.setattr("aiopipe.cli.sums_options.time.monotonic", lambda: 1e9)
    bar.tick()
    bar.clear()
    assert capsys.readouterr().err == ""


def test_reading_two_manifests_is_told_of_while_it_goes_on(tmp_path: Path):
    manifest = tmp_path / "SUMS"
    manifest.write_text("".join(f"{number:064x}  name {number}\n" for number in range(3000)))
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1

    with closing(open_manifest(str(manifest))) as first, closing(open_manifest(str(manifest))) as second:
        assert {finding.status for finding in diff(first, second, tick)} == {"ok"}
    assert ticks == 8  # of each manifest of 3,000 entries four blocks of lines
