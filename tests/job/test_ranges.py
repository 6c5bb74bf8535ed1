"""Large files are gone on with in their middle: what was done of them is not done again, and no byte is another."""

import asyncio
import csv
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aiopipe import Dedupe, Derive, Filter, Head, Map, Mask, OutputError, Read, Report, Select, Write
from aiopipe.job.destination import Destination
from aiopipe.job.inspect import status, verify, why
from aiopipe.job.ledger import Key, Range, Unit, open_ledger
from aiopipe.job.ranges import Ranges, size_of
from aiopipe.job.rejects import COLUMNS
from aiopipe.model import FileRef
from aiopipe.stage import Apply, Pipeline
from aiopipe.stages import _checkpoints
from aiopipe.stages._mirror import Mirror
from aiopipe.storage.ranges import Reached
from tests.faults.functions import ashout, shout
from tests.support import drive, failure, rejects, shown, tree, write

RECORDS = 20_000
BLOCK = 8192
EVERY = 25_000


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints after 25 kB, and none because of the time."""
    monkeypatch.setattr(_checkpoints, "EVERY", EVERY)
    monkeypatch.setattr(_checkpoints, "SECONDS", 1e9)


def text_of(bad: tuple[int, ...] = ()) -> str:
    return "id,text\n" + "".join(f"{i},word {i % 97}\n" if i not in bad else f"{i}\n" for i in range(RECORDS))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """In memory, where that can be: a checkpoint waits for its disk."""
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="aiopipe-ranges-", dir=memory if memory.is_dir() else tmp_path))
    write(root / "in/large.csv", text_of())
    write(root / "in/small.csv", "id,text\n1,small\n")
    yield root
    known = {  # what the ledger names may lie there, and nothing else
        str(home.parent / os.fsdecode(r.temporary)) for home in root.glob("*/.aiopipe") for r in ledger(home.parent)[1]
    }
    left = {str(p) for p in root.rglob(".aiopipe-*")}
    shutil.rmtree(root)
    assert left <= known


def job(place: Path, *stages: Any, to: str = "out", **options: Any) -> Pipeline:
    pipeline = Read(place / "in", block=BLOCK, types={"id": "BIGINT"})
    for stage in stages or (Filter("id % 3 = 0"),):
        pipeline = pipeline | stage
    made: Pipeline = pipeline | Write(f"{place}/{to}/", **options)
    return made


def stopped(pipeline: Pipeline, after: int = 3, *, act: str = "stop", **options: Any) -> Report | None:
    """Run, and end it at so many checkpoints: asked to stop, or cancelled ("cancel"), as by a second Ctrl-C."""

    async def main() -> Report | None:
        stop, count = asyncio.Event(), 0
        take, append = _checkpoints.Checkpoints.take, Mirror._append

        def counted(self: Any, *rest: Any) -> None:
            nonlocal count
            take(self, *rest)
            count += 1
            if count == after:
                (stop.set if act == "stop" else task.cancel)()

        async def in_turn(self: Any, segment: Any, *rest: Any) -> None:
            """However slow the disk is: it has time for every checkpoint."""
            entry = self.open.get(segment.file.index)
            if entry is not None:
                await entry.checkpoints.wait_landed()
            await append(self, segment, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_checkpoints.Checkpoints, "take", counted)
            patch.setattr(Mirror, "_append", in_turn)
            task = asyncio.ensure_future(pipeline.run(stop=stop, memory="4MB", **options))
            try:
                return await task
            except asyncio.CancelledError:
                return None

    return drive(main)


def ledger(home: Path) -> tuple[dict[str, Unit], list[Range]]:
    with closing(open_ledger(str(home))) as found:
        return {str(u.key): u for u in found.units()}, found.ranges().get(b"large.csv", [])


def outputs(place: Path) -> dict[str, bytes]:
    """What a user sees."""
    return {n: d for n, d in tree(place / "out").items() if ".aiopipe-" not in n}


def temporaries(place: Path) -> list[Path]:
    return list((place / "out").rglob(".aiopipe-*"))


def same_as_undisturbed(place: Path, pipeline: Callable[[str], Pipeline], **options: Any) -> Report:
    """Run it to its end; what is left is what a run into another directory leaves."""
    report = pipeline("out").run_sync(memory="4MB", **options)
    fresh = pipeline("fresh").run_sync(memory="4MB", **options)
    assert tree(place / "out") == tree(place / "fresh")
    assert temporaries(place) == []
    units, ranges = ledger(place / "out")
    assert ranges == []
    for name, unit in ledger(place / "fresh")[0].items():
        for field in ("xxh128", "taken", "given", "rejected"):
            assert getattr(units[name], field) == getattr(unit, field), (name, field)
        assert [o.blake3 for o in units[name].outputs] == [o.blake3 for o in unit.outputs]
    assert report.balanced
    assert fresh.balanced
    return report


@pytest.mark.parametrize("act", ["stop", "cancel"])
def test_a_run_that_was_ended_in_the_midst_of_a_file_is_gone_on_with_there(act: str, place: Path) -> None:
    first = stopped(job(place), act=act)
    assert list(outputs(place)) in ([], ["small.csv"])
    units, ranges = ledger(place / "out")
    assert units["large.csv"].state == "running"
    assert [r.key.start for r in ranges] == [0, *(r.key.stop for r in ranges[:-1])]
    assert len(temporaries(place)) == 1
    done = ranges[-1].reached.taken
    if first is not None:  # asked to stop, it keeps all that it has read
        assert first.interrupted
        assert first.balanced
        assert (first.read, first.paused) == (done, 1)
        assert "1 file will resume in the middle" in str(first)
    report = same_as_undisturbed(place, lambda to: job(place, to=to))
    assert (report.resumed, report.read_before) == (1, done)
    assert report.read == RECORDS + 1 - done
    assert 0 < done < RECORDS
    assert f"1 file resumed, behind {done:,} records done before" in str(report)
    why_ = ledger(place / "out")[0]["large.csv"].why
    assert why_.startswith("the run that began it did not finish it; it resumed at ")
    assert job(place).run_sync().unchanged == 2


def test_no_more_is_done_again_than_what_came_after_the_last_checkpoint(place: Path) -> None:
    """The last record is at fault; mended, only the last stretch is read again."""
    write(place / "in/large.csv", text_of(bad=(RECORDS - 1,)))
    assert "large.csv:20001" in str(failure(job(place), memory="4MB"))
    [*_, last] = ledger(place / "out")[1]
    size = (place / "in/large.csv").stat().st_size
    assert size - last.key.stop < 2 * EVERY + 2 * BLOCK
    write(place / "in/large.csv", text_of())
    report = same_as_undisturbed(place, lambda to: job(place, to=to))
    assert report.read_before == last.reached.taken
    assert report.bytes_read < 2 * EVERY + 3 * BLOCK
    assert report.unchanged + report.files == 2


def test_many_interruptions_come_to_the_same_end(place: Path) -> None:
    seen = 0
    for _ in range(3):
        stopped(job(place), 1, act="cancel")
        [*_, last] = ledger(place / "out")[1]
        assert last.reached.taken > seen
        seen = last.reached.taken
    assert same_as_undisturbed(place, lambda to: job(place, to=to)).read_before == seen


ROWS = [
    (Filter("id > 0"),),
    (Filter("id > 19000"),),  # no column is known at the first checkpoints: no record has come
    (Derive(twice="id * 2"), Select("twice", "text")),
    (Mask("text", key="env:KEY"),),
    (Map(shout),),
    (Map(ashout, concurrency=4), Filter("id % 2 = 0")),
]


@pytest.mark.parametrize("stages", ROWS, ids=shown)
@pytest.mark.parametrize("format", [None, "jsonl"])
def test_whatever_the_stages_that_remember_nothing(
    stages: Any, format: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "abcdefgh" * 4)
    stopped(job(place, *stages, format=format), 2)
    report = same_as_undisturbed(place, lambda to: job(place, *stages, to=to, format=format))
    assert report.resumed == 1


@pytest.mark.parametrize(
    "text",
    [
        "id,text\r\n" + "".join(f'{i},"a ""word"",\r\nand {i}"\r\n' for i in range(20_000)),
        "\ufeffid,text\n" + "".join(f"{i},é{i}\n" for i in range(20_000)) + "9,no end",
        "id,text\n" + "\n\n".join(f"{i},x{'y' * (i % 50)}" for i in range(20_000)),
    ],
)
def test_whatever_the_file(text: str, place: Path) -> None:
    write(place / "in/large.csv", text)
    stopped(job(place), 2)
    assert same_as_undisturbed(place, lambda to: job(place, to=to)).resumed == 1


def test_a_file_without_a_header(place: Path) -> None:
    write(place / "in/large.csv", "".join(f"{i},x\n" for i in range(30_000)))

    def pipeline(to: str) -> Pipeline:
        return Read(place / "in", block=BLOCK, no_header=True) | Filter("column2 = 'x'") | Write(f"{place}/{to}/")

    stopped(pipeline("out"), 2)
    assert same_as_undisturbed(place, pipeline).resumed == 1


async def some(rows: Any) -> Any:
    async for row in rows:
        yield row


MEMORY = [(Head(19000, per_file=True),), (Dedupe("text", per_file=True),), (Map(some),), (Dedupe("text"),)]
MEMORY += [(Map(ashout, ordered=False),)]


@pytest.mark.parametrize("stages", MEMORY, ids=shown)
def test_a_stage_that_remembers_records_or_mixes_them_begins_at_the_beginning(stages: Any, place: Path) -> None:
    report = job(place, *stages).run_sync(memory="4MB")
    assert report.balanced
    write(place / "in/large.csv", text_of(bad=(RECORDS - 1,)))
    if stages[0] != MEMORY[0][0]:
        failure(job(place, *stages), memory="4MB")
        assert ledger(place / "out")[1] == []
        assert temporaries(place) == []


def test_other_encodings_have_no_places_to_go_on_from(place: Path) -> None:
    (place / "in/large.csv").write_bytes(text_of(bad=(RECORDS - 1,)).encode("utf-16"))
    (place / "in/small.csv").unlink()
    failure(Read(place / "in", block=BLOCK, encoding="utf-16") | Write(f"{place}/out/"), memory="4MB")
    assert ledger(place / "out")[1] == []


BAD = (5, 1000, 1001, 3000, 7000, RECORDS - 1)


def test_records_set_aside_are_kept_with_their_places_and_never_doubled(place: Path) -> None:
    write(place / "in/large.csv", text_of(BAD))
    first = stopped(job(place), 4, act="cancel", rejects=f"{place}/bad.csv")
    assert first is None
    done = ledger(place / "out")[1][-1].reached
    assert 0 < done.rejected < len(BAD)

    def pipeline(to: str) -> Pipeline:
        return job(place, to=to)

    report = pipeline("out").run_sync(rejects=f"{place}/bad.csv", memory="4MB")
    pipeline("fresh").run_sync(rejects=f"{place}/fresh.csv", memory="4MB")
    assert (place / "bad.csv").read_bytes() == (place / "fresh.csv").read_bytes()
    assert [int(r["line"]) for r in rejects(place / "bad.csv")] == [n + 2 for n in BAD]
    assert [int(r["record"]) for r in rejects(place / "bad.csv")] == [n + 1 for n in BAD]
    assert (report.rejected, report.rejected_before) == (len(BAD) - done.rejected, done.rejected)
    assert ledger(place / "out")[0]["large.csv"].rejected == len(BAD)
    same_as_undisturbed(place, pipeline, rejects=f"{place}/bad.csv")


def test_a_replay_puts_records_of_a_resumed_file_in_their_places(place: Path) -> None:
    write(place / "in/large.csv", text_of(BAD))
    stopped(job(place), 4, act="cancel", rejects=f"{place}/bad.csv")
    assert job(place).run_sync(rejects=f"{place}/bad.csv", memory="4MB").resumed == 1
    found = rejects(place / "bad.csv")
    with (place / "bad.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for n, row in zip(BAD, found, strict=True):
            writer.writerow({**row, "raw": f"{3 * n},mended\n"})  # 3 n: all of them pass the filter
    made = asyncio.run(job(place).replay(f"{place}/bad.csv"))
    assert (made.written, made.left) == (len(BAD), 0)
    lines = (place / "in/large.csv").read_text().splitlines(keepends=True)
    for n in BAD:
        lines[n + 1] = f"{3 * n},mended\n"
    write(place / "in/large.csv", "".join(lines))
    job(place, to="fresh").run_sync()
    assert tree(place / "out") == tree(place / "fresh")


def test_a_run_that_allows_no_rejects_fails_at_those_of_a_range(place: Path) -> None:
    write(place / "in/large.csv", text_of((5,)))
    stopped(job(place), rejects=f"{place}/bad.csv")
    assert "large.csv:7" in str(failure(job(place)))


def test_max_rejects_counts_those_of_ranges(place: Path) -> None:
    write(place / "in/large.csv", text_of(BAD))
    stopped(job(place), 4, rejects=f"{place}/bad.csv")
    assert "more than 5 records" in str(failure(job(place), rejects=f"{place}/bad.csv", max_rejects=5, memory="4MB"))


def test_the_place_of_a_fault_is_that_of_an_undisturbed_run(place: Path) -> None:
    stopped(job(place))
    data = (place / "in/large.csv").read_text()
    write(place / "in/large.csv", data + '7,"open')
    error = failure(job(place), memory="4MB")
    assert str(error) == str(failure(job(place, to="fresh"), memory="4MB"))
    assert f"large.csv:{RECORDS + 2} (record {RECORDS + 1}" in str(error)


@pytest.mark.parametrize(
    ("change", "resumed"),
    [
        (lambda data, stop: data[: stop + 5] + b"9" + data[stop + 6 :], True),
        (lambda data, stop: data + b"7,more\n", True),
        (lambda data, stop: data[: stop + 300], True),
        (lambda data, stop: b"id,txet" + data[7:], False),
        (lambda data, stop: data[: stop - 3] + b"X" + data[stop - 2 :], None),
        (lambda data, stop: data[: stop // 2] + data[stop // 2 + 9 :], None),
        (lambda data, stop: b"", False),
    ],
    ids=["behind", "grown", "shorter", "header", "before-the-end", "in-the-middle", "emptied"],
)
def test_an_input_that_changed_is_gone_on_with_as_far_as_it_did_not(change: Any, resumed: Any, place: Path) -> None:
    stopped(job(place, Filter("id >= 0")), 4, act="cancel")
    stop = ledger(place / "out")[1][-1].key.stop
    path = place / "in/large.csv"
    data = change(path.read_bytes(), stop + 2 * BLOCK if resumed else stop)
    path.write_bytes(data)
    report = same_as_undisturbed(place, lambda to: job(place, Filter("id >= 0"), to=to), rejects=f"{place}/bad.csv")
    assert report.resumed in ([0, 1] if resumed is None else [resumed])
    assert report.read_before <= data.count(b"\n", 0, stop)


def harmed(path: Path, how: str, ranges: list[Range]) -> None:
    """Do something to a temporary."""
    if how == "removed":
        path.unlink()
    elif how == "emptied":
        path.write_bytes(b"")
    elif how == "cut":
        os.truncate(path, ranges[1].reached.length + 1)
    elif how == "grown":
        with open(path, "ab") as file:
            file.write(b"torn half of a reco")
    else:
        at = {"damaged": ranges[1].reached.length + 1, "damaged early": 3}[how]
        with open(path, "r+b") as file:
            file.seek(at)
            file.write(b"?")


@pytest.mark.parametrize("how", ["removed", "emptied", "cut", "grown", "damaged", "damaged early"])
def test_of_a_temporary_only_what_is_as_it_was_is_gone_on_with(how: str, place: Path) -> None:
    stopped(job(place), 4, act="cancel")
    ranges = ledger(place / "out")[1]
    [path] = temporaries(place)
    harmed(path, how, ranges)
    good = {"cut": ranges[1], "damaged": ranges[1], "grown": ranges[-1]}.get(how)
    report = same_as_undisturbed(place, lambda to: job(place, to=to))
    assert report.read_before == (good.reached.taken if good is not None else 0)


@pytest.mark.parametrize(
    "again",
    [
        lambda place: job(place, Filter("id % 2 = 0")),
        lambda place: job(place, Filter("id % 3 = 0"), Dedupe("text", per_file=True)),
        lambda place: job(place, format="jsonl"),
    ],
)
def test_another_pipeline_begins_at_the_beginning(again: Any, place: Path) -> None:
    stopped(job(place))
    report = again(place).run_sync()
    assert (report.resumed, report.read) == (0, RECORDS + 1)
    assert temporaries(place) == []
    assert ledger(place / "out")[1] == []


def test_force_begins_at_the_beginning(place: Path) -> None:
    stopped(job(place))
    report = same_as_undisturbed(place, lambda to: job(place, to=to), force=True)
    assert (report.resumed, report.read) == (0, RECORDS + 1)


def test_what_was_done_of_a_file_goes_with_the_file(place: Path) -> None:
    stopped(job(place))
    (place / "in/large.csv").unlink()
    job(place).run_sync()
    assert temporaries(place) == []
    assert ledger(place / "out")[1] == []


def test_another_job_into_the_directory_leaves_it_alone(place: Path) -> None:
    stopped(job(place))
    [path] = temporaries(place)
    write(place / "more/other.csv", "id\n1\n")
    (Read(place / "more") | Write(f"{place}/out/")).run_sync(prune=True)
    assert temporaries(place) == [path]
    assert job(place).run_sync().resumed == 1


def test_a_file_that_fails_and_lets_the_others_be_made_is_gone_on_with(place: Path) -> None:
    write(place / "in/large.csv", text_of(bad=(RECORDS - 1,)))
    with pytest.raises(ExceptionGroup) as caught:
        job(place).run_sync(keep_going=True, memory="4MB")
    report = caught.value.report  # type: ignore[attr-defined]
    assert report.balanced
    assert (place / "out/small.csv").exists()
    write(place / "in/large.csv", text_of())
    report = same_as_undisturbed(place, lambda to: job(place, to=to))
    assert (report.resumed, report.unchanged) == (1, 1)


def test_a_worker_process_makes_no_difference(place: Path) -> None:
    stages = (Map("tests.faults.functions:shout", placement="process"),)
    stopped(job(place, *stages), 2)
    assert same_as_undisturbed(place, lambda to: job(place, *stages, to=to), workers=2).resumed == 1


def test_a_slow_pipeline_has_checkpoints_by_the_clock(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_checkpoints, "EVERY", 1 << 40)
    monkeypatch.setattr(_checkpoints, "SECONDS", 0.0)
    stopped(job(place), 5)
    assert len(ledger(place / "out")[1]) >= 5
    assert same_as_undisturbed(place, lambda to: job(place, to=to)).resumed == 1


def test_the_old_output_stays_until_the_new_one_is_complete(place: Path) -> None:
    job(place).run_sync()
    before = tree(place / "out")
    write(place / "in/large.csv", text_of().replace("word", "other"))
    for after in (2, 2):
        stopped(job(place), after)
        assert outputs(place) == before
    assert verify(str(place / "out")).problems == []
    same_as_undisturbed(place, lambda to: job(place, to=to))


def test_status_and_why_say_where_and_verify_is_not_confused(place: Path) -> None:
    stopped(job(place))
    last = ledger(place / "out")[1][-1]
    source, size = place / "in/large.csv", (place / "in/large.csv").stat().st_size
    sentence = f"resumes at {size_of(last.key.stop)} of {size_of(size)}"
    found = status(str(place / "out"))
    assert f"{source}: {sentence}" in str(found)
    assert json.loads(json.dumps(found.as_mapping()))["resumable"] == [
        {"path": str(source), "byte": last.key.stop, "size": size}
    ]
    assert f"did not finish it; it {sentence}" in str(why(str(source), str(place / "out")))
    assert verify(str(place / "out")).problems == []
    temporaries(place)[0].unlink()
    assert "resumes" not in str(why(str(source), str(place / "out"))) + str(status(str(place / "out")))
    job(place).run_sync()
    assert status(str(place / "out")).ranges == []


def test_a_disk_that_does_not_take_a_checkpoint_ends_the_run_in_words_and_keeps_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for code in (errno.ENOSPC, errno.EIO):
        count = iter(range(3))
        real = os.fsync

        def fsync(fd: int, count: Iterator[int] = count, code: int = code, real: Any = real) -> None:
            if ".tmp" in os.readlink(f"/proc/self/fd/{fd}") and next(count, None) is None:
                raise OSError(code, os.strerror(code))
            real(fd)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            error = failure(job(place), memory="4MB")
        assert isinstance(error, OutputError)
        assert os.strerror(code) in str(error)
        assert temporaries(place) == []
    assert same_as_undisturbed(place, lambda to: job(place, to=to)).resumed == 0


def test_a_disk_that_is_full_between_checkpoints_keeps_nothing_either(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = os.write, iter(range(25))

    def full(fd: int, data: Any) -> int:
        if ".tmp" in os.readlink(f"/proc/self/fd/{fd}") and next(count, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        assert "No space left" in str(failure(job(place), memory="4MB"))
    assert temporaries(place) == []
    assert same_as_undisturbed(place, lambda to: job(place, to=to)).resumed == 0


def test_an_input_that_changes_after_it_was_compared_is_no_half_of_each(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(job(place))
    before = Ranges.take_up

    def take_up(self: Ranges, file: Any, key: Key) -> Any:
        found = before(self, file, key)
        if found is not None:
            data = Path(file.path).read_text().replace("word", "WORD")
            Path(file.path).write_text(data)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Ranges, "take_up", take_up)
        assert "changed since its beginning was compared" in str(failure(job(place), memory="4MB", retries=0))
    assert same_as_undisturbed(place, lambda to: job(place, to=to)).resumed == 0


def test_a_resumed_input_that_changes_is_read_again_from_its_beginning(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(job(place))
    before, changed = Ranges.take_up, list[str]()

    def take_up(self: Ranges, file: Any, key: Key) -> Any:
        found = before(self, file, key)
        if found is not None and not changed:
            changed.append(file.path)
            Path(file.path).write_text(Path(file.path).read_text().replace("word", "WORD"))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Ranges, "take_up", take_up)
        report = job(place).run_sync(memory="4MB")
    assert (report.reread, report.resumed, report.read_before, report.paused) == (1, 0, 0, 0)
    assert temporaries(place) == []
    assert same_as_undisturbed(place, lambda to: job(place, to=to)).resumed == 0


def test_a_ledger_from_before_there_were_ranges_gets_them(place: Path) -> None:
    import sqlite3

    job(place).run_sync()
    path = place / "out/.aiopipe/ledger.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE ranges")
        connection.commit()
    assert status(str(place / "out")).ranges == []
    assert job(place).run_sync().unchanged == 2
    shutil.rmtree(place / "out")
    stopped(job(place))
    assert same_as_undisturbed(place, lambda to: job(place, to=to)).resumed == 1


class Own(Apply):
    """A user's own stage: nobody knows what it does with a batch."""

    def apply(self, batch: Any, scope: Any) -> Any:
        return batch


class Apart(Own):
    """One that says so."""

    @property
    def per_record(self) -> bool:
        return True


@pytest.mark.parametrize(("stage", "resumed"), [(Own(), 0), (Apart(), 1)])
def test_a_stage_of_ones_own_says_whether_it_keeps_records_apart(stage: Any, resumed: int, place: Path) -> None:
    write(place / "in/large.csv", text_of(bad=(RECORDS - 1,)))
    failure(job(place, stage), memory="4MB")
    write(place / "in/large.csv", text_of())
    assert same_as_undisturbed(place, lambda to: job(place, stage, to=to)).resumed == resumed


def test_of_two_attempts_at_a_file_only_the_last_one_leaves_something(tmp_path: Path) -> None:
    home = Destination(str(tmp_path))
    assert home.reader is not None
    ranges = Ranges(
        str(tmp_path),
        home.ledger,
        home.reader,
        home.run,
        1,
        able=True,
        tolerant=True,
        rejected=lambda number: 0,
        checksum=lambda number: None,
        stopping=lambda: False,
    )
    paths = [Path(write(tmp_path / f".aiopipe-1-{n * 8}-0.tmp", "id\n")) for n in "ab"]
    reached = [Reached(1, byte, 9, b"", 1, 1, temporary=str(path)) for byte, path in zip((9, 5), paths, strict=True)]
    for number in range(2):
        ranges.keep(FileRef("a.csv", "a.csv", number, 20), reached[number])
    assert [p.exists() for p in paths] == [False, True]
    assert [r.key for r in home.reader.ranges()[b"a.csv"]] == [Key(b"a.csv", 0, 5)]
    ranges.finished([Key(b"a.csv")])
    assert not paths[1].exists()
    home.close("done")
