"""Worker processes done wrong on purpose: what finds our own workers well must find these out."""

import functools
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from aiopipe import Map, Read, Write
from aiopipe.engine.workers import Workers
from aiopipe.errors import UnitsFailedError
from tests.faults import functions
from tests.support import tree, write

FILES = 12
FATAL = "05.csv"


@pytest.fixture
def place(tmp_path):
    for i in range(FILES):
        write(tmp_path / f"in/{i:02}.csv", "v,text\n" + "".join(f"{j},x\n" for j in range(40)))
    write(tmp_path / "in" / FATAL, "v,text\n1,x\n9999,x\n2,x\n")
    return tmp_path


def survivors(place, ends=UnitsFailedError):
    """The outputs of a run in which one record of one file kills its worker whenever it is met."""
    stage = Map(functools.partial(functions.logs_and_dies, f"{place}/log"), placement="process")
    pipeline = Read(place / "in", block=1000) | stage | Write(f"{place}/out/")
    with pytest.raises(ends):
        pipeline.run_sync(keep_going=True, workers=2)
    return tree(place / "out").keys()


class Shared:
    """The standard library's pool in the place of ours: it is dead when one of its workers is."""

    def __init__(self):
        self.pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("forkserver"))

    def schedule(self, function, args):
        return self.pool.submit(function, *args)

    def stop(self):
        self.pool.shutdown(cancel_futures=True)

    def join(self):
        pass


def shared_pool(workers):
    if workers._processes is None:
        workers._processes = Shared()
    return workers._processes


def test_a_worker_that_is_killed_takes_one_file_with_it(place):
    assert survivors(place) == {f"{i:02}.csv" for i in range(FILES)} - {FATAL}


def test_a_shared_pool_that_dies_is_found_out(place, monkeypatch):
    monkeypatch.setattr(Workers, "_pool", shared_pool)
    assert survivors(place, Exception) < {f"{i:02}.csv" for i in range(FILES)} - {FATAL}


def forks(place, monkeypatch):
    """How often the run would have forked this process, threads and all."""
    count = 0

    def fork():
        nonlocal count
        count += 1
        raise OSError("forked under threads")

    monkeypatch.setattr(os, "fork", fork)
    pipeline = Read(place / "in") | Map(functions.same, placement="process") | Write(f"{place}/out/")
    try:
        pipeline.run_sync(workers=2)
    except Exception as error:
        assert count, error
    return count


def test_workers_are_never_forked_from_a_program_with_threads(place, monkeypatch):
    assert forks(place, monkeypatch) == 0
    assert len(tree(place / "out")) == FILES


def test_workers_that_are_forked_are_found_out(place, monkeypatch):
    real = multiprocessing.get_context
    monkeypatch.setattr(multiprocessing, "get_context", lambda method=None: real("fork"))
    assert forks(place, monkeypatch) > 0
