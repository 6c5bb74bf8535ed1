"""`fetch` in a job that continues: what has a say in the output, and what has not."""

from __future__ import annotations

from pathlib import Path

from aiopipe import Fetch, Read, Write
from tests.hostile import Server, ok
from tests.support import write


def test_finished_files_are_asked_about_again_only_when_the_output_would_differ(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / f"in/{name}.csv", "id\n1\n2\n")
    asked = []
    with Server(lambda a: ok({"c": 1})) as server:
        for options in (
            {"into": {"c": "$.c"}, "concurrency": 4},
            {"into": {"c": "$.c"}, "concurrency": 8, "retries": 0, "timeout": 3, "rate_limit": "500/s"},
            {"into": {"c": "$.d?"}},
            {"into": {"c": "$.d?"}, "headers": {"X-A": "1"}},
        ):
            stage = Fetch(server.url + "/{id}", **options)
            (Read(tmp_path / "in") | stage | Write(f"{tmp_path}/out/")).run_sync()
            asked.append(len(server.asked))
    assert asked == [4, 4, 8, 12]
