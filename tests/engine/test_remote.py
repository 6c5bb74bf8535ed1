"""Worker processes of hops: the same bytes, the same errors, and nobody missed who dies."""

from __future__ import annotations

import io
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aiopipe import Derive, Filter, Map, Mask, Read, Select, Write
from aiopipe.batch import Header, Segment
from aiopipe.codec.chunk import Chunk
from aiopipe.codec.dialect import Dialect
from aiopipe.engine import remote as remote_module
from aiopipe.engine.process import run_in_worker
from aiopipe.engine.remote import Remotes, receive, send
from aiopipe.errors import RecordError
from aiopipe.job.ahead import begun
from aiopipe.job.run import run
from aiopipe.model import FileRef
from aiopipe.storage.again import loaded
from aiopipe.storage.version import Version
from tests.support import drive, failure, tree, write

BLOCK = 64 << 10


@contextmanager
def ready(count: int = 1) -> Iterator[Remotes]:
    """Worker processes that have come up."""
    remotes = Remotes(count)
    remotes.start()
    try:
        until = time.monotonic() + 30
        while sum(r.ready for r in remotes._each) < count:
            assert time.monotonic() < until, "no worker came up"
            time.sleep(0.01)
        yield remotes
    finally:
        remotes.close()


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What workers gave, None where they failed: without it a test could pass with all work done here."""
    given: list[Any] = []
    real = remote_module.Remote.run

    def noted(self: Any, *arguments: Any) -> Any:
        given.append(real(self, *arguments))
        return given[-1]

    monkeypatch.setattr(remote_module.Remote, "run", noted)
    return given


def lines(count: int, seed: int = 7, quotes: bool = False) -> str:
    chance = random.Random(seed)
    texts = ["x", "0070", '"a,b"', '"two\nlines"', '"a ""q"""'] if quotes else ["x", "007", " y", "1.10"]
    return "".join(f"{i},{chance.randrange(1000)},{chance.choice(texts)}\n" for i in range(count))


def files(root: Path, quotes: bool = False) -> str:
    for name, count, seed in (("a", 20_000, 1), ("b", 40_000, 2), ("sub/c", 9_000, 3), ("d", 0, 4), ("e", 3, 5)):
        write(root / f"{name}.csv", "id,amount,text\n" + lines(count, seed, quotes))
    return str(root)


PIPELINES: list[Callable[[Any], Any]] = [
    lambda source: source | Filter("amount > 700"),
    lambda source: source | Filter("amount > 300") | Derive(net="amount * 0.5", text="text || '!'"),
    lambda source: source | Select("text", "id"),
    lambda source: source | Mask("id", key="env:AIOPIPE_TEST_KEY"),
    lambda source: source | Filter("text LIKE '%0%'"),  # left to DuckDB
]


@pytest.mark.parametrize("number", range(len(PIPELINES)))
@pytest.mark.parametrize("quotes", [False, True])
def test_workers_write_the_bytes_that_one_process_writes(
    tmp_path: Path, answers: list[Any], monkeypatch: pytest.MonkeyPatch, number: int, quotes: bool
):
    monkeypatch.setenv("AIOPIPE_TEST_KEY", "0123456789abcdef0123456789abcdef")
    source = files(tmp_path / "in", quotes)
    piped = PIPELINES[number](Read(source, block=BLOCK))
    alone = (piped | Write(f"{tmp_path}/alone/")).run_sync(workers=1, ledger=False)
    with ready(2) as remotes:
        pipeline = piped | Write(f"{tmp_path}/crowd/")
        report = drive(lambda: run(pipeline, workers=3, ledger=False, remotes=remotes), within=60)
    assert tree(tmp_path / "crowd") == tree(tmp_path / "alone")
    assert (report.read, report.written, report.filtered) == (alone.read, alone.written, alone.filtered)
    assert sum(a is not None for a in answers) >= 5


def test_an_input_that_is_no_file_travels_to_the_workers(tmp_path: Path, answers: list[Any]):
    text = ("id,amount,text\n" + lines(50_000)).encode()
    pipeline = Read(io.BytesIO(text), block=BLOCK) | Filter("amount > 500") | Write(f"{tmp_path}/out.csv")
    with ready() as remotes:
        drive(lambda: run(pipeline, workers=2, remotes=remotes), within=60)
    kept = [line for line in text.splitlines(keepends=True)[1:] if int(line.split(b",")[1]) > 500]
    assert (tmp_path / "out.csv").read_bytes() == b"id,amount,text\n" + b"".join(kept)
    assert any(a is not None for a in answers)


def test_a_bad_record_in_a_workers_chunk_is_the_error_of_a_run_without_workers(tmp_path: Path, answers: list[Any]):
    text = "id,amount,text\n" + lines(30_000) + "1,2\n" + lines(30_000)
    source = write(tmp_path / "in.csv", text)
    pipeline = Read(source, block=BLOCK) | Filter("amount > 500") | Write(f"{tmp_path}/out/")
    alone = failure(pipeline, workers=1, ledger=False)
    with ready() as remotes, pytest.raises(ExceptionGroup) as caught:
        drive(lambda: run(pipeline, workers=2, ledger=False, remotes=remotes), within=60)
    (error,) = caught.value.exceptions
    assert isinstance(error, RecordError)
    assert str(error) == str(alone)
    assert "in.csv:30002 (record 30001, byte" in str(error)


def test_rejects_of_workers_are_those_of_a_run_without_workers(tmp_path: Path, answers: list[Any]):
    text = "id,amount,text\n" + "".join(lines(3000, n) + "1,2\nx,y,z\n" for n in range(20))
    source = write(tmp_path / "in.csv", text)
    pipeline = Read(source, types={"amount": "BIGINT"}, block=BLOCK) | Filter("amount > 500") | Write(f"{tmp_path}/o/")
    (pipeline).run_sync(workers=1, ledger=False, rejects=f"{tmp_path}/alone.csv")
    before = tree(tmp_path / "o")
    with ready(2) as remotes:
        job = {"workers": 3, "ledger": False, "rejects": f"{tmp_path}/crowd.csv", "remotes": remotes}
        report = drive(lambda: run(pipeline, **job), within=60)
    assert report.rejected == 40
    assert (tmp_path / "crowd.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()
    assert tree(tmp_path / "o") == before


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_worker_that_is_killed_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = files(tmp_path / "in")
    piped = Read(source, block=BLOCK) | Filter("amount > 200")
    (piped | Write(f"{tmp_path}/alone/")).run_sync(workers=1, ledger=False)
    real, given, calls = remote_module.Remote.run, list[Any](), list[int]()

    def killed(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            os.kill(self._process.pid, signal.SIGKILL)
        given.append(real(self, *arguments))
        return given[-1]

    monkeypatch.setattr(remote_module.Remote, "run", killed)
    with ready() as remotes:
        pipeline = piped | Write(f"{tmp_path}/crowd/")
        drive(lambda: run(pipeline, workers=2, ledger=False, remotes=remotes), within=60)
    assert None in given and any(made is not None for made in given)
    assert tree(tmp_path / "crowd") == tree(tmp_path / "alone")


def test_a_file_that_is_not_the_one_the_run_reads_gives_no_bytes(tmp_path: Path):
    path = tmp_path / "in.csv"
    write(path, "a,b\n1,2\n")

    origin = (str(path), Version.of(os.stat(path)))
    chunk = Chunk(
        b"", Header(("a", "b"), (b"a", b"b")), Dialect(), (Segment(FileRef(str(path), "in.csv"), 0, True, 0, 4),)
    )
    found = loaded(replace(chunk, origin=origin), 4)
    assert found is not None and found.data == b"1,2\n"
    assert loaded(replace(chunk, origin=origin), 5) is None
    path.unlink()
    write(path, "a,b\n3,4\n")
    assert loaded(replace(chunk, origin=origin), 4) is None


def test_workers_are_gone_when_the_run_is_over_and_when_it_was_cancelled(tmp_path: Path):
    with ready(2) as remotes:
        pids = remotes.processes
        assert len(pids) == 2 and all(Path(f"/proc/{p}").exists() for p in pids if Path("/proc").exists())
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_a_worker_whose_parent_is_gone_ends_by_itself():
    remotes = Remotes(1)
    remotes.start()
    (one,) = remotes._each
    while not one.ready:
        time.sleep(0.01)
    one._to.close()  # as the kernel does it for a parent that was killed
    assert one._process.wait(timeout=10) == 0
    remotes.close()


def test_a_large_run_begins_its_workers_before_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = files(tmp_path / "in")
    monkeypatch.setattr("aiopipe.job.ahead._WORTH", 100_000)
    started = list[Remotes]()
    monkeypatch.setattr(Remotes, "start", lambda self: started.append(self))
    stages = (Read(source) | Filter("amount > 1") | Write(f"{tmp_path}/out/")).stages
    assert begun(stages, 2).count == 1
    assert begun(stages, 100).count == remote_module._MOST
    assert len(started) == 2
    begun(stages, 1)  # nobody but this process is wanted
    mapped = (Read(source) | Map(len) | Write(f"{tmp_path}/out/")).stages
    begun(mapped, 2)  # a user's function stays here
    (tmp_path / "out/.aiopipe").mkdir(parents=True)
    begun(stages, 2)  # who knows what is left to do
    monkeypatch.setattr("aiopipe.job.ahead._WORTH", 1 << 40)
    begun((Read(source) | Write(f"{tmp_path}/other/")).stages, 2)
    begun((Read(f"{tmp_path}/nothing/*.csv") | Write(f"{tmp_path}/other/")).stages, 2)
    assert len(started) == 2


def test_to_declare_a_pipeline_takes_no_numpy():
    code = (
        "import sys\n"
        "from aiopipe import Derive, Filter, Read, Select, Write\n"
        "Read('in/', null='NA') | Filter('a > 1') | Derive(b='a * 2') | Select('a', 'b') | Write('out/')\n"
        "import aiopipe.cli.pipe, aiopipe.cli.run\n"
        "print([m for m in ('numpy', 'pyarrow', 'duckdb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_frames_carry_large_buffers_beside_the_pickle():
    pipe = io.BytesIO()
    big = pickle.PickleBuffer(b"x" * 100_000)
    send(pipe, (1, big), b"data")
    send(pipe, None)
    pipe.seek(0)
    (one, view), data = receive(pipe)
    assert (one, bytes(view), data) == (1, b"x" * 100_000, b"data")
    assert receive(pipe) == (None, b"")
    with pytest.raises(EOFError):
        receive(pipe)


def test_a_worker_of_a_pool_that_cannot_read_its_chunk_again_asks_for_the_bytes(tmp_path: Path):
    path = tmp_path / "in.csv"
    write(path, "a,b\n1,2\n")
    segment = Segment(FileRef(str(path), "in.csv"), 0, True, 0, 4)
    chunk = Chunk(b"", Header(("a", "b"), (b"a", b"b")), Dialect(), (segment,), (str(path), Version.of(os.stat(path))))
    path.unlink()
    assert run_in_worker(b"", chunk, 4, None, None, {}) is None
