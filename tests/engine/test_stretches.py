"""Large files as stretches that travel unread: outputs, reports, ledgers and errors as of files read block by block."""

from __future__ import annotations

import asyncio
import os
import pickle
import random
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiopipe import Derive, Filter, Read, Rename, Select, Write
from aiopipe.codec.cut import Cutter, whole
from aiopipe.codec.dialect import Dialect
from aiopipe.engine.remote import Remotes
from aiopipe.engine.serving import _tried
from aiopipe.engine.stretches import run_stretch
from aiopipe.errors import AiopipeError, ChangedError, UnitsFailedError
from aiopipe.job.run import run
from aiopipe.model import FileRef
from aiopipe.stages import _checkpoints
from aiopipe.storage import stretches as module
from aiopipe.storage import version
from aiopipe.storage.opening import Input
from aiopipe.storage.stretches import Stretch, Stretches, parted
from tests.codec.csv_bytes import by_hand, samples
from tests.engine.test_groups import records_of_ledger, temporaries
from tests.support import drive, leaves, rejects, tree, write


class Worker(Remotes):
    """As workers that were forked, in threads: what goes to them and comes from them is pickled as for a process.

    guesses: what they made, in the order they were done. before: is called with each stretch first. dead: they answer
    nothing.
    """

    def __init__(self, *, dead: bool = False) -> None:
        super().__init__(2)
        self.forked, self.dead = True, dead
        self.guesses: list[Any] = []
        self.before: Callable[[Stretch], object] = lambda stretch: None
        self._threads = ThreadPoolExecutor(2)
        self._worker: Any = type("Worker", (), {"load": 0})()

    def start(self) -> None: ...

    def for_stretch(self) -> Any:
        return self._worker

    def submit(self, remote: Any, *arguments: Any) -> Future[Any]:
        return self._threads.submit(self._run, *arguments)

    def _run(self, number: int, blob: bytes, stretch: Stretch) -> Any:
        self.before(stretch)
        sent = pickle.loads(pickle.dumps(stretch))
        made = None if self.dead else pickle.loads(pickle.dumps(_tried(run_stretch, pickle.loads(blob), sent)))
        self.guesses.append(made)
        return made

    def close(self) -> None:
        self._threads.shutdown()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash has blocks of 64 bytes, so that a stretch of small files may begin anywhere."""
    for one in (module, version):
        monkeypatch.setattr(one, "HASHED", 64)


def both(
    tmp_path: Path,
    source: Read,
    *stages: Any,
    to: str = "/",
    aside: bool = False,
    worker: Worker | None = None,
    **job: Any,
) -> Worker:
    """Run a pipeline block by block into `plain`, by stretches into `wide`; all that can be seen must be the same."""
    worker = worker or Worker()
    said: list[Any] = []
    for name, remotes in (("plain", Remotes(0)), ("wide", worker)):
        pipeline = piped(source, *stages, Write(f"{tmp_path}/{name}{to}"))
        if aside:
            job["rejects"] = f"{tmp_path}/{name}-rejects.csv"
        try:
            report = drive(lambda p=pipeline, r=remotes: run(p, remotes=r, **job), within=60)  # type: ignore[misc]
        except (AiopipeError, ExceptionGroup) as error:
            said.append([str(one) for one in leaves(error)])
        else:
            said.append([report.read, report.written, report.filtered, report.rejected, report.files])
    assert said[1] == said[0]
    assert temporaries(tmp_path) == []
    left, right = (tmp_path / f"{name}{to}" for name in ("plain", "wide"))
    if to == "/":
        assert tree(right) == tree(left)
        if (left / ".aiopipe").exists():
            assert finished(right) == finished(left)
    else:
        assert (right.read_bytes() if right.exists() else None) == (left.read_bytes() if left.exists() else None)
    if aside:
        ours, theirs = (tmp_path / f"{name}-rejects.csv" for name in ("wide", "plain"))
        assert (ours.exists() and rejects(ours)) == (theirs.exists() and rejects(theirs))
    return worker


def finished(home: Path) -> list[Any]:
    """What the ledger says of files that are done, and of outputs, but for the files' numbers."""
    return [(*r[:2], *r[3:]) for r in records_of_ledger(home) if r[1] not in ("running", "failed")]


def piped(*stages: Any) -> Any:
    found = stages[0]
    for stage in stages[1:]:
        found = found | stage
    return found


@given(sample=samples(), block=st.integers(1, 60), aside=st.booleans())
def test_any_csv_in_stretches_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, sample: Any, block: int, aside: bool
) -> None:
    place = tmp_path_factory.mktemp("any")
    names = sample.dialect.delimiter.join(f"c{i}" for i in range(sample.columns))
    path = write(place / "x.csv", f"{names}\n".encode() + sample.data)
    source = Read(
        path,
        delimiter=sample.dialect.delimiter,
        quote=sample.dialect.quote or "none",
        block=block,
        types={"c0": "VARCHAR"},
    )
    both(place, source, Filter("c0 <> '007'"), to=".csv", aside=aside, ledger=False)


@given(sample=samples(), at=st.lists(st.integers(0, 80), max_size=4))
def test_whole_says_what_the_cutter_and_a_slow_reader_say(sample: Any, at: list[int]) -> None:
    """Where it says yes, the bytes end with a record; and it says so wherever the cutter would cut at once."""
    for stop in {*at, len(sample.data)}:
        data = sample.data[:stop]
        ends = whole(data, sample.dialect)
        if ends:
            lines = by_hand(data, sample.dialect)
            assert not lines or not lines[-1].unclosed
            rest = by_hand(sample.data[stop:], sample.dialect)
            assert [r.fields for r in by_hand(sample.data, sample.dialect)] == [r.fields for r in (*lines, *rest)]
        cutter = Cutter(sample.dialect)
        cut = cutter.feed(data)
        assert ends <= (cut == data)


@given(data=st.binary(max_size=400), block=st.integers(1, 100), hashed=st.booleans())
def test_stretches_follow_each_other_and_are_all_there_is(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, block: int, hashed: bool
) -> None:
    path = write(tmp_path_factory.mktemp("cut") / "x.csv", b"a,b\n" + data.replace(b",", b"\n"))
    size = os.path.getsize(path)
    found = parted(Input(FileRef(path, "x.csv", 0, size), Dialect()), block, None)
    assert found is not None
    if hashed:
        found.checksum = version.Checksum(quick=True)
    each = found.some(10**6)
    found.close()
    assert [s.part for s in each] == list(range(len(each)))
    assert [s.last for s in each] == [False] * (len(each) - 1) + [True]
    assert [(s.start, s.stop) for s in each] == list(
        zip([4, *(s.stop for s in each[:-1])], [*(s.stop for s in each[:-1]), size], strict=True)
    )
    text = Path(path).read_bytes()
    for one, following in zip(each, each[1:], strict=False):
        ends = text[one.stop - 1 : one.stop] == b"\n"
        assert ends or b"\n" not in text[one.start : one.stop]
        assert following.likely <= ends
    assert b"".join(s.read()[0] for s in each) == text[4:]
    if hashed and block % 64 == 0:
        summed = version.Checksum(quick=True)
        for one in each:
            assert one.hashed is not None
            summed.extend(one.read()[1], one.hashed[1] - one.hashed[0])
        alone = version.Checksum(quick=True)
        alone.update(text)
        assert (summed.digest(), summed.count) == (alone.digest(), size)


def rows(count: int, seed: int = 3, *, broken: float = 0.0) -> str:
    """A CSV of `a,text`; that share of its records has many line ends inside quotes."""
    chance = random.Random(seed)
    lines = ["a,text\n"]
    for n in range(count):
        text = '"' + "x\ny,\n" * chance.randrange(60) + '"' if chance.random() < broken else f"t{n}"
        lines.append(f"{chance.randrange(9)},{text}\n")
    return "".join(lines)


STAGES: dict[str, tuple[Any, ...]] = {
    "filter": (Filter("a > 4"),),
    "derive": (Filter("a > 4"), Derive(twice="a * 2")),
    "select": (Select("text"),),
    "rename": (Rename(text="words"),),
}


@pytest.mark.parametrize("stages", STAGES)
@pytest.mark.parametrize("broken", [0.0, 0.01, 0.5])
def test_a_directory_with_its_ledger(tmp_path: Path, stages: str, broken: float):
    for n in range(3):
        write(tmp_path / f"in/{n}.csv", rows(800, n, broken=broken))
    write(tmp_path / "in/small.csv", "a,text\n7,x\n")
    worker = both(tmp_path, Read(f"{tmp_path}/in", block=700), *STAGES[stages])
    right = [g for g in worker.guesses if g.made is not None]
    assert right or broken == 0.5, "none was guessed rightly"
    if not broken:
        assert len(right) == len(worker.guesses) >= 12
    else:
        assert len(right) < len(worker.guesses)
    pipeline = piped(Read(f"{tmp_path}/in", block=90), *STAGES[stages], Write(f"{tmp_path}/wide/"))
    again = drive(lambda: run(pipeline, remotes=Worker()))
    assert (again.unchanged, again.files) == (4, 0)


def test_this_file_sees_a_stretch_that_is_cut_wrongly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("aiopipe.engine.stretches.whole", lambda data, dialect: True)
    path = write(tmp_path / "x.csv", rows(800, broken=0.05))
    with pytest.raises(AssertionError):
        both(tmp_path, Read(path, block=700), Filter("a > 4"))


def test_stray_quotes_are_soon_not_guessed_about_any_more(tmp_path: Path):
    path = write(tmp_path / "x.csv", "a,b\n" + '5,3" pipe\n' * 3000)
    worker = both(tmp_path, Read(path, block=200), Filter("a > 4"))
    assert 1 <= len(worker.guesses) < 20


def test_nothing_is_lost_with_workers_that_answer_nothing(tmp_path: Path):
    path = write(tmp_path / "x.csv", rows(2000, broken=0.1))
    worker = both(tmp_path, Read(path, block=400), Filter("a > 4"), worker=Worker(dead=True))
    assert set(worker.guesses) == {None}


TROUBLE: dict[str, tuple[str, dict[str, Any]]] = {
    "a ragged record": ("1,2,3\n", {}),
    "a NUL": ("1,\0\n", {}),
    "a quote that is never closed": ('1,"x\n', {}),
    "a record that is too long": ('1,"' + "x\n" * 3000 + '"\n', {"max_record": 2000}),
    "a number that is none": ("x,2\n", {}),
}


@pytest.mark.parametrize("what", TROUBLE)
@pytest.mark.parametrize("aside", [True, False])
@pytest.mark.parametrize("keep_going", [True, False])
def test_errors_are_the_same(tmp_path: Path, what: str, aside: bool, keep_going: bool):
    bad, how = TROUBLE[what]
    write(tmp_path / "in/0.csv", rows(600, 1))
    write(tmp_path / "in/1.csv", rows(300, 2) + bad + rows(300, 3).removeprefix("a,text\n"))
    write(tmp_path / "in/2.csv", rows(600, 4))
    source = Read(f"{tmp_path}/in", block=600, types={"a": "BIGINT"}, **how)
    both(tmp_path, source, Filter("a > 4"), aside=aside, keep_going=keep_going or None)


def test_a_header_is_told_as_of_any_file(tmp_path: Path):
    for n, head in enumerate(('"a', "a,\0", '"a"\n"', "a" * 5000, "\x1f\x8b")):
        write(tmp_path / f"{n}/in/x.csv", head.encode("latin-1") + b"\n1\n2\n" * 2000)
        both(tmp_path / f"{n}", Read(f"{tmp_path}/{n}/in", block=600), Select("a"))


def spoiled(change: Callable[[Path], None], path: Path, times: int = 1) -> Worker:
    """A worker under which a file is changed once its second stretch is to be read."""
    worker, left = Worker(), [times]

    def before(stretch: Stretch) -> None:
        if stretch.part == 1 and left[0]:
            left[0] -= 1
            change(path)

    worker.before = before
    return worker


def _replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    os.replace(other, path)


def _touch(path: Path) -> None:
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))


def _append(path: Path) -> None:
    with path.open("a") as file:
        file.write("8,new\n")


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "appended to": (_append, "changed while it was read"),
    "cut short": (lambda path: os.truncate(path, 900), "changed while it was read"),
    "written to": (_touch, "was written to while it was read"),
    "replaced": (_replace, "was replaced or removed while it was read"),
    "removed": (os.unlink, "was replaced or removed while it was read"),
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("keep_going", [True, None])
def test_a_file_that_changes_is_never_half_old(tmp_path: Path, what: str, keep_going: bool | None):
    change, message = CHANGES[what]
    path = Path(write(tmp_path / "in/x.csv", rows(900)))
    write(tmp_path / "in/y.csv", rows(500, 5))
    pipeline = Read(f"{tmp_path}/in", block=600, types={"a": "BIGINT"}) | Filter("a > 4") | Write(f"{tmp_path}/out/")
    job: Any = {"keep_going": keep_going, "retries": 0}
    with pytest.raises((ExceptionGroup, UnitsFailedError)) as caught:
        drive(lambda: run(pipeline, remotes=spoiled(change, path), **job))
    assert any(isinstance(e, ChangedError) and message in str(e) for e in _all(caught.value)), caught.value
    assert sorted(tree(tmp_path / "out")) == (["y.csv"] if keep_going else [])
    assert temporaries(tmp_path) == []


def _all(error: BaseException) -> list[BaseException]:
    found = [*leaves(error)]
    return [*found, *(e for one in found if isinstance(one, UnitsFailedError) for e in one.errors)]


@pytest.mark.parametrize("what", ["appended to", "cut short", "written to", "replaced"])
def test_a_file_that_changes_once_is_read_again(tmp_path: Path, what: str):
    path = Path(write(tmp_path / "in/x.csv", rows(900)))
    write(tmp_path / "in/y.csv", rows(500, 5))
    source = Read(f"{tmp_path}/in", block=600, types={"a": "BIGINT"})
    report = drive(
        lambda: run(source | Filter("a > 4") | Write(f"{tmp_path}/out/"), remotes=spoiled(CHANGES[what][0], path))
    )
    assert report.reread == 1
    (source | Filter("a > 4") | Write(f"{tmp_path}/clean/")).run_sync()
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")
    assert finished(tmp_path / "out") == finished(tmp_path / "clean")


def test_a_change_of_mode_is_none_of_ours(tmp_path: Path):
    path = Path(write(tmp_path / "in/x.csv", rows(900)))
    pipeline = Read(f"{tmp_path}/in", block=600) | Filter("a > 4") | Write(f"{tmp_path}/out/")
    report = drive(lambda: run(pipeline, remotes=spoiled(lambda p: p.chmod(0o640), path)))
    assert (report.files, report.read) == (1, 900)


@pytest.mark.parametrize("broken", [0.0, 0.05])
def test_a_run_that_is_stopped_goes_on_in_the_middle(tmp_path: Path, broken: float, monkeypatch: pytest.MonkeyPatch):
    """What is on record of a file that was read in stretches holds, however it is read the next time."""
    monkeypatch.setattr(_checkpoints, "EVERY", 2000)
    write(tmp_path / "in/x.csv", rows(4000, broken=broken))
    source = Read(f"{tmp_path}/in", block=500, types={"a": "BIGINT"})
    kept = source | Filter("a > 4")
    worker = Worker()

    async def stopped() -> Any:
        asked, loop = asyncio.Event(), asyncio.get_running_loop()
        worker.before = lambda stretch: stretch.part == 4 and loop.call_soon_threadsafe(asked.set)
        return await run(kept | Write(f"{tmp_path}/out/"), remotes=worker, stop=asked)

    report = drive(stopped)
    assert report.interrupted
    assert 0 < report.read < 4000
    again = drive(lambda: run(kept | Write(f"{tmp_path}/out/"), remotes=Worker()))
    assert again.resumed == 1
    assert again.read_before + again.read == 4000
    (kept | Write(f"{tmp_path}/clean/")).run_sync()
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")
    assert temporaries(tmp_path) == []


def test_cancelled_in_the_middle_nothing_is_left(tmp_path: Path):
    write(tmp_path / "in/x.csv", rows(4000))
    worker = Worker()

    async def cancelled() -> None:
        begun, loop = asyncio.Event(), asyncio.get_running_loop()
        worker.before = lambda stretch: stretch.part == 3 and loop.call_soon_threadsafe(begun.set)
        pipeline = Read(f"{tmp_path}/in", block=500) | Filter("a > 4") | Write(f"{tmp_path}/out/")
        task = asyncio.create_task(run(pipeline, remotes=worker))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    drive(cancelled)
    assert tree(tmp_path / "out") == {}
    assert temporaries(tmp_path) == []


def test_the_reader_does_not_wait_for_stretches_that_nobody_takes() -> None:
    async def waits() -> None:
        stretches = Stretches()
        stretches.leave()
        waiting = asyncio.ensure_future(stretches.settled())
        await asyncio.sleep(0)
        assert not waiting.done()
        stretches.close()
        await waiting
        stretches.leave()
        await stretches.settled()

    drive(waits)
