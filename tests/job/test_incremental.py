"""Run it again: what is done and unchanged is passed over, and all else is done as if it had never been run."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import xxhash
from blake3 import blake3

from aiopipe import Dedupe, Derive, Filter, Head, Map, Mask, Read, Report, Select, Skip, UsageError, Write
from aiopipe.job.ledger import Key, open_ledger
from aiopipe.stage import Pipeline
from aiopipe.storage.version import HASHED
from tests.faults.functions import shout, twice
from tests.support import failure, rejects, shown, tree, write

NAMES = ("a.csv", "b.csv", "sub/c.csv")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for i, name in enumerate(NAMES):
        write(tmp_path / "in" / name, "v,text\n" + "".join(f"{j},{i}\n" for j in range(5)))
    settle(tmp_path / "in")
    return tmp_path


def settle(root: Path) -> None:
    """Make every file below look as if it had been written a minute ago, so that its signature is trusted."""
    for path in root.rglob("*"):
        then = time.time() - 60
        os.utime(path, (then, then))


def job(place: Path, *stages: Any, to: str = "out/", **options: Any) -> Pipeline:
    pipeline = Read(place / "in", types={"v": "BIGINT"})
    for stage in stages or (Filter("v > 2"),):
        pipeline = pipeline | stage
    made: Pipeline = pipeline | Write(f"{place}/{to}", **options)
    return made


def reasons(place: Path) -> dict[str, str]:
    ledger = open_ledger(str(place / "out"))
    try:
        return {str(u.key): u.why for u in ledger.units()}
    finally:
        ledger.close()


def done(report: Report) -> tuple[int, int]:
    """Files read, and files passed over."""
    assert report.balanced
    return report.files, report.unchanged


def test_a_second_run_reads_nothing_and_says_so(place: Path) -> None:
    pipeline = job(place)
    first = pipeline.run_sync()
    before = tree(place / "out")
    second = pipeline.run_sync()
    assert done(first) == (3, 0)
    assert done(second) == (0, 3)
    assert (second.read, second.outputs, second.bytes_read) == (0, 0, 0)
    assert "3 files unchanged, skipped" in str(second)
    assert tree(place / "out") == before


def test_finished_files_are_not_even_opened(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = job(place, Select("text"))  # no expression: nobody takes a sample
    pipeline.run_sync()
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest, **named: opened.append(str(path)) or real(path, *rest, **named))
    assert done(pipeline.run_sync()) == (0, 3)
    assert not [p for p in opened if "/in/" in p]


def test_the_ledger_says_what_was_read_and_what_was_written(place: Path) -> None:
    job(place).run_sync()
    ledger = open_ledger(str(place / "out"))
    unit = ledger.unit(Key.of("sub/c.csv"))
    ledger.close()
    assert unit is not None
    assert unit.state == "done"
    data = (place / "in/sub/c.csv").read_bytes()
    assert unit.xxh128 == xxhash.xxh3_128(data).digest()
    assert unit.version is not None
    assert unit.version.size == len(data)
    [output] = unit.outputs
    made = (place / "out/sub/c.csv").read_bytes()
    assert (output.path, output.version.size, output.blake3) == (
        b"sub/c.csv",
        len(made),
        blake3(made).digest(),
    )
    assert (unit.taken, unit.given, unit.rejected) == (5, 2, 0)


def test_a_large_file_is_hashed_while_it_streams(tmp_path: Path) -> None:
    path = write(tmp_path / "in/large.csv", "v,text\n" + "1,abc\n" * 60_000)
    settle(tmp_path / "in")
    (Read(path, block=4000) | Filter("v > 0") | Write(f"{tmp_path}/out/")).run_sync()
    ledger = open_ledger(str(tmp_path / "out"))
    unit = ledger.unit(Key.of("large.csv"))
    ledger.close()
    assert unit is not None
    data = Path(path).read_bytes()
    blocks = b"".join(xxhash.xxh3_128_digest(data[i : i + HASHED]) for i in range(0, len(data), HASHED))
    assert len(blocks) > 16
    assert unit.xxh128 == xxhash.xxh3_128_digest(blocks)
    assert unit.outputs[0].blake3 == blake3((tmp_path / "out/large.csv").read_bytes()).digest()
    assert (unit.taken, unit.given) == (60_000, 60_000)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda p: p.write_text("v,text\n9,9\n"), "input changed: size 27 -> 11"),
        (lambda p: p.write_text(p.read_text().replace("4", "5")), "input changed: other bytes of the same size"),
    ],
)
def test_only_what_changed_is_done_again(change: Any, why: str, place: Path) -> None:
    pipeline = job(place)
    pipeline.run_sync()
    change(place / "in/b.csv")
    assert done(pipeline.run_sync()) == (1, 2)
    assert reasons(place)["b.csv"] == why
    fresh = job(place, to="fresh/")
    fresh.run_sync()
    assert tree(place / "out") == tree(place / "fresh")


def test_a_file_with_other_bytes_but_the_old_size_and_time_is_noticed(place: Path) -> None:
    pipeline = job(place)
    pipeline.run_sync()
    path = place / "in/a.csv"
    status = path.stat()
    other = write(place / "other.csv", path.read_bytes().replace(b"4,0", b"3,0"))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, path)
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert done(pipeline.run_sync()) == (1, 2)


def test_a_file_that_was_touched_or_copied_is_hashed_and_passed_over(place: Path) -> None:
    pipeline = job(place)
    pipeline.run_sync()
    os.utime(place / "in/a.csv")
    shutil.copyfile(place / "in/b.csv", place / "copy")
    os.replace(place / "copy", place / "in/b.csv")
    assert done(pipeline.run_sync()) == (0, 3)
    assert done(pipeline.run_sync()) == (0, 3)


def test_a_file_written_just_before_it_was_read_is_not_trusted_by_its_signature(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a tick of the clock a file may change twice: the hash decides until the ledger row is 2 s younger."""
    from aiopipe.job import units

    (place / "in/a.csv").write_text("v,text\n4,x\n")
    pipeline = job(place)
    pipeline.run_sync()
    hashed = []
    real = units.checksum_of
    monkeypatch.setattr(
        units, "checksum_of", lambda path, *rest, **how: hashed.append(path) or real(path, *rest, **how)
    )
    assert done(pipeline.run_sync()) == (0, 3)
    assert hashed == [str(place / "in/a.csv")]


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda p: p.unlink(), "output missing"),
        (lambda p: p.write_bytes(b"short"), "output damaged"),
        (lambda p: p.write_bytes(p.read_bytes()[::-1]), "holds other bytes"),
    ],
)
def test_a_missing_or_damaged_output_is_made_again(harm: Any, why: str, place: Path) -> None:
    pipeline = job(place)
    pipeline.run_sync()
    before = tree(place / "out")
    harm(place / "out/b.csv")
    assert done(pipeline.run_sync()) == (1, 2)
    assert tree(place / "out") == before
    assert why in reasons(place)["b.csv"]


def test_outputs_that_were_only_copied_or_touched_are_kept(place: Path) -> None:
    pipeline = job(place)
    pipeline.run_sync()
    shutil.copytree(place / "out", place / "copy")
    shutil.rmtree(place / "out")
    (place / "copy").rename(place / "out")
    assert done(pipeline.run_sync()) == (0, 3)


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ((Filter("v > 2"),), (Filter("v > 3"),), "filter.where 'v > 2' -> 'v > 3'"),
        (
            (Filter("v > 2"),),
            (Filter("v > 2"), Derive(w="v")),
            "stages read | filter | write -> read | filter | derive",
        ),
        ((Derive(w="v"), Filter("v > 2")), (Filter("v > 2"), Derive(w="v")), "stages "),
        ((Head(2, per_file=True),), (Head(3, per_file=True),), "head.count 2 -> 3"),
    ],
)
def test_a_changed_pipeline_does_all_again_and_says_what_changed(
    before: Any, after: Any, why: str, place: Path
) -> None:
    job(place, *before).run_sync()
    assert done(job(place, *after).run_sync()) == (3, 0)
    assert all(r.startswith("pipeline changed: ") and why in r for r in reasons(place).values())


def test_options_that_change_no_byte_change_no_fingerprint(place: Path) -> None:
    job(place, Map(shout)).run_sync()
    for stage in (Map(shout, concurrency=3), Map(shout, placement="thread"), Map("tests.faults.functions:shout")):
        assert done(job(place, stage).run_sync(workers=1, memory="8MB")) == (0, 3)
    report = (Read(place / "in", types={"v": "BIGINT"}, block=100) | shout | Write(f"{place}/out/")).run_sync()
    assert done(report) == (0, 3)


def test_another_key_behind_the_same_name_gives_other_tokens_and_is_noticed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = job(place, Mask("text", key="env:KEY"))
    monkeypatch.setenv("KEY", "abcdefgh" * 4)
    pipeline.run_sync()
    assert done(pipeline.run_sync()) == (0, 3)
    monkeypatch.setenv("KEY", "ijklmnop" * 4)
    assert done(pipeline.run_sync()) == (3, 0)
    assert all("mask.key behind it" in r for r in reasons(place).values())
    assert b"abcdefgh" not in (place / "out/.aiopipe/ledger.db").read_bytes()


def test_force_does_all_again(place: Path) -> None:
    pipeline = job(place)
    pipeline.run_sync()
    assert done(pipeline.run_sync(force=True)) == (3, 0)
    assert set(reasons(place).values()) == {"--force"}
    assert done(pipeline.run_sync()) == (0, 3)


def test_another_format_leaves_the_old_outputs_until_prune(place: Path) -> None:
    job(place).run_sync()
    report = job(place, format="jsonl").run_sync()
    assert done(report) == (3, 0)
    assert len(tree(place / "out")) == 6
    assert job(place, format="jsonl").run_sync(prune=True).pruned == 3
    assert sorted(tree(place / "out")) == ["a.jsonl", "b.jsonl", "sub/c.jsonl"]


def test_outputs_whose_input_is_gone_go_only_with_prune(place: Path) -> None:
    pipeline = job(place)
    pipeline.run_sync()
    write(place / "out/mine.txt", "not aiopipe's")
    write(place / "out/sub/mine.csv", "not aiopipe's either")
    (place / "in/sub/c.csv").unlink()
    (place / "in/b.csv").unlink()
    assert done(pipeline.run_sync()) == (0, 1)
    assert sorted(tree(place / "out")) == ["a.csv", "b.csv", "mine.txt", "sub/c.csv", "sub/mine.csv"]
    write(place / "out/b.csv", "changed by somebody: theirs now")
    report = pipeline.run_sync(prune=True)
    assert report.pruned == 1
    assert "1 output removed" in str(report)
    assert sorted(tree(place / "out")) == ["a.csv", "b.csv", "mine.txt", "sub/mine.csv"]
    assert done(pipeline.run_sync(prune=True)) == (0, 1)


def test_empty_directories_go_with_their_last_output(place: Path) -> None:
    pipeline = job(place)
    pipeline.run_sync()
    shutil.rmtree(place / "in/sub")
    pipeline.run_sync(prune=True)
    assert not (place / "out/sub").exists()


TOGETHER = [Head(7), Dedupe("text"), Skip(3)]


@pytest.mark.parametrize("stage", TOGETHER, ids=shown)
def test_a_stage_over_all_files_makes_the_job_one_unit(stage: Any, place: Path) -> None:
    pipeline = job(place, stage)
    pipeline.run_sync()
    assert done(pipeline.run_sync()) == (0, 3)
    (place / "in/a.csv").write_text("v,text\n1,7\n")
    report = pipeline.run_sync()
    assert report.unchanged == 0
    assert report.files >= 2
    fresh = job(place, stage, to="fresh/")
    fresh.run_sync()
    outputs = tree(place / "out")
    assert {n: outputs[n] for n in tree(place / "fresh")} == tree(place / "fresh")
    pipeline.run_sync(prune=True)
    assert tree(place / "out") == tree(place / "fresh")


def test_in_a_job_that_is_one_unit_an_input_that_comes_or_goes_counts(place: Path) -> None:
    pipeline = job(place, Dedupe("text"))
    pipeline.run_sync()
    write(place / "in/d.csv", "v,text\n1,0\n")
    assert done(pipeline.run_sync()) == (4, 0)
    (place / "in/d.csv").unlink()
    assert done(pipeline.run_sync()) == (3, 0)
    assert done(pipeline.run_sync()) == (0, 3)


def test_two_jobs_over_other_files_share_a_directory(place: Path) -> None:
    shutil.copytree(place / "in", place / "more/in2")
    first, second = job(place, Head(7)), Read(place / "more") | Head(7) | Write(f"{place}/out/")
    for _ in range(2):
        first.run_sync()
        second.run_sync()
    assert first.run_sync(prune=True).unchanged == 3
    assert second.run_sync(prune=True).unchanged == 3


@pytest.mark.parametrize(
    "stages", [(Head(7, per_file=True),), (Dedupe("text", per_file=True),), (Map(twice),)], ids=shown
)
def test_the_same_stages_file_by_file_do_not(stages: Any, place: Path) -> None:
    pipeline = job(place, *stages)
    pipeline.run_sync()
    (place / "in/a.csv").write_text("v,text\n1,7\n")
    report = pipeline.run_sync()
    assert (report.files, report.unchanged) == (1, 2)


def test_a_single_file_is_always_written_anew_and_keeps_no_ledger(place: Path) -> None:
    pipeline = job(place, to="all.csv")
    assert done(pipeline.run_sync()) == (3, 0)
    assert done(pipeline.run_sync()) == (3, 0)
    assert not list(place.rglob(".aiopipe"))
    for option in ({"ledger": True}, {"prune": True}):
        assert isinstance(failure(pipeline, **option), UsageError)


def test_without_a_ledger_everything_is_as_before(place: Path) -> None:
    pipeline = job(place)
    for _ in range(2):
        assert done(pipeline.run_sync(ledger=False)) == (3, 0)
    assert not (place / "out/.aiopipe").exists()


def test_the_ledger_is_never_input(place: Path) -> None:
    job(place).run_sync()
    (place / "out/.aiopipe/trap.csv").write_text("v,text\n1,2\n")
    report = (Read(place / "out") | Write(f"{place}/second/")).run_sync()
    assert report.files == 3


def test_standard_input_is_read_anew_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("a\n1\n", "a\n2\n"):
        with open(write(tmp_path / "stdin", text)) as file:
            monkeypatch.setattr("sys.stdin", file)
            report = (Read("-") | Write(f"{tmp_path}/out/")).run_sync(prune=True)
        assert (report.read, report.unchanged, report.pruned) == (1, 0, 0)
        assert (tmp_path / "out/stdin.csv").read_text() == text


def test_names_that_are_no_text_are_kept_as_bytes(tmp_path: Path) -> None:
    names = [b"caf\xe9.csv", b"new\nline.csv"]
    for name in names:
        os.makedirs(tmp_path / "in", exist_ok=True)
        with open(os.path.join(os.fsencode(tmp_path / "in"), name), "wb") as file:
            file.write(b"v\n1\n")
    pipeline = Read(tmp_path / "in") | Write(f"{tmp_path}/out/")
    pipeline.run_sync()
    assert pipeline.run_sync().unchanged == 2
    ledger = open_ledger(str(tmp_path / "out"))
    assert [u.key.path for u in ledger.units()] == names
    ledger.close()


def test_two_inputs_with_one_output_are_refused_also_when_one_of_them_is_done(tmp_path: Path) -> None:
    write(tmp_path / "in/y.csv", "a\n1\n")
    pipeline = Read(tmp_path / "in") | Write(f"{tmp_path}/out/", format="jsonl")
    pipeline.run_sync()
    write(tmp_path / "in/y.tsv", "a\n2\n")
    assert "would both become" in str(failure(pipeline))
    assert (tmp_path / "out/y.jsonl").read_text() == '{"a": "1"}\n'


BAD = "v,text\n1,2\n1,2,3\nx\n5,5\n"


def test_rejects_belong_to_their_unit(place: Path) -> None:
    write(place / "in/b.csv", BAD)
    write(place / "in/sub/c.csv", "v,text\n7\n")
    options = {"rejects": str(place / "rejects.csv")}
    pipeline = job(place)
    first = pipeline.run_sync(**options)
    before = (place / "rejects.csv").read_bytes()
    assert [(os.path.basename(r["path"]), r["line"]) for r in rejects(place / "rejects.csv")] == [
        ("b.csv", "3"),
        ("b.csv", "4"),
        ("c.csv", "2"),
    ]
    assert (first.rejected, first.rejected_before) == (3, 0)
    (place / "rejects.csv").unlink()
    second = pipeline.run_sync(**options)
    assert (second.rejected, second.rejected_before, second.unchanged) == (0, 3, 3)
    assert (place / "rejects.csv").read_bytes() == before
    write(place / "in/sub/c.csv", "v,text\n7\n8\n")
    third = pipeline.run_sync(**options)
    assert (third.rejected, third.rejected_before, third.unchanged) == (2, 2, 2)
    assert [r["raw"] for r in rejects(place / "rejects.csv")] == [b"1,2,3\n", b"x\n", b"7\n", b"8\n"]


def test_a_run_that_allows_no_rejects_fails_at_those_of_an_earlier_one(place: Path) -> None:
    write(place / "in/b.csv", BAD)
    job(place).run_sync(rejects=str(place / "rejects.csv"))
    assert "b.csv:3" in str(failure(job(place)))


def test_rejects_of_a_file_in_many_parts_keep_their_order_and_place(tmp_path: Path) -> None:
    path = write(tmp_path / "in/a.csv", "v,text\n" + "".join(f"{i},x\n{i}\n" for i in range(3000)))
    settle(tmp_path / "in")
    pipeline = Read(path, block=500) | Map(shout, concurrency=3) | Write(f"{tmp_path}/out/")
    report = pipeline.run_sync(rejects=f"{tmp_path}/r.csv", workers=4)
    assert report.rejected == 3000
    assert [int(r["line"]) for r in rejects(tmp_path / "r.csv")] == list(range(3, 6003, 2))
    before = (tmp_path / "r.csv").read_bytes()
    assert pipeline.run_sync(rejects=f"{tmp_path}/r.csv").rejected_before == 3000
    assert (tmp_path / "r.csv").read_bytes() == before


def test_max_rejects_counts_those_of_files_passed_over(place: Path) -> None:
    write(place / "in/a.csv", BAD)
    pipeline = job(place)
    options = {"rejects": str(place / "rejects.csv")}
    pipeline.run_sync(**options)
    write(place / "in/b.csv", BAD)
    assert "more than 3 records" in str(failure(pipeline, max_rejects=3, **options))
    assert pipeline.run_sync(max_rejects=4, **options).rejected_before in (2, 4)


def test_a_failed_run_goes_on_where_it_was(place: Path) -> None:
    write(place / "in/b.csv", "v,text\n" + "4,x\n" * 50_000 + "bad\n")
    write(place / "in/a.csv", "v,text\n" + "4,x\n" * 50_000)
    pipeline = job(place)
    assert "b.csv:50002" in str(failure(pipeline))
    assert reasons(place)["a.csv"] == "new"
    write(place / "in/b.csv", "v,text\n4,x\n")
    assert done(pipeline.run_sync()) == (2, 1)
    assert reasons(place)["b.csv"].startswith(("it failed: ", "the run that began it"))
    fresh = job(place, to="fresh/")
    fresh.run_sync()
    assert tree(place / "out") == tree(place / "fresh")
