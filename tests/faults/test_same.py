"""The same bytes, rejects, numbers and errors, however a pipeline is run (promises 2 and 8)."""

import asyncio
import contextlib
import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from aiopipe import Dedupe, Derive, Drop, Filter, Head, Map, Read, Rename, Select, Skip, Write
from aiopipe.fuse import apart, fuse
from aiopipe.job.run import run
from aiopipe.stage import Pipeline
from tests.faults import functions
from tests.support import leaves, rejects, tree, write

FLOWS = (Head, Skip, Dedupe)
TEXTS = ["a", "b", "", "007", '"x,y"', '"two\nlines"', '"a ""b"""', "é", " a ", '"b"']
STAGES = {
    "filter": Filter("v > 2"),
    "filter text": Filter("text <> 'b'"),
    "derive": Derive(w="v * 2"),
    "derive v": Derive(v="v + 1"),
    "select": Select("text", "v"),
    "drop": Drop("text"),
    "rename": Rename({"text": "word"}),
    "head": Head(3),
    "head each": Head(1, per_file=True),
    "skip": Skip(2),
    "skip each": Skip(1, per_file=True),
    "dedupe": Dedupe("v"),
    "dedupe each": Dedupe(per_file=True),
    "shout": Map(functions.shout),
    "ashout": Map(functions.ashout, concurrency=3),
    "picky": Map(functions.picky),
    "apicky": Map(functions.apicky, concurrency=5),
    "threads": Map(functions.picky, concurrency=2),
    "twice": Map(functions.twice),
}
WANT_TEXT = {"filter text", "select", "drop", "rename", "shout", "ashout"}


@st.composite
def chains(draw):
    """One to four stages that fit together."""
    words, text = [], True
    for word in draw(st.lists(st.sampled_from(sorted(STAGES)), min_size=1, max_size=4)):
        if word in WANT_TEXT and not text:
            continue
        text = text and word not in ("drop", "rename")
        words.append(word)
    return words


@st.composite
def files(draw):
    """One file: records in any style, some of them bad, perhaps without the final line end."""
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    row = st.one_of(
        st.builds("{},{}".format, st.integers(0, 6), st.sampled_from(TEXTS)),
        st.builds("{},{}".format, st.integers(0, 6), st.sampled_from(TEXTS)),
        st.builds("{},{}".format, st.integers(0, 6), st.sampled_from(TEXTS)),
        st.sampled_from(["x,a", "1", "1,2,3", "", "4,\0"]),
    )
    rows = draw(st.lists(row, max_size=8))
    head = draw(st.sampled_from(["v,text"] * 8 + ["\ufeffv,text", ""]))
    text = newline.join([head, *rows]) if head else ""
    return (text + newline * draw(st.booleans())).encode()


class Result:
    """What can be seen of a run from outside."""

    def __init__(self, root, stages, block, to, name, **job):
        out, self.rejects = root / name, None
        source = Read(root / "in", block=block, types={"v": "BIGINT"})
        stages = (source, *stages, Write(f"{out}/out{to}"))
        job["rejects"] = f"{out}/rejects.csv" if job.get("rejects") else None
        try:
            self.report = asyncio.run(run(Pipeline(stages), **job))
            self.error = None
        except BaseException as error:
            [leaf] = leaves(error)
            self.report, self.error = None, str(leaf).replace(str(out), "OUT")
        self.files = tree(out) if out.exists() else {}
        if self.files.pop("rejects.csv", None) is not None:
            self.rejects = rejects(f"{out}/rejects.csv")

    def counts(self):
        report = self.report
        return report and [report.read, report.written, report.filtered, report.rejected, report.outputs]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    chains(),
    st.lists(files(), min_size=1, max_size=4),
    st.sampled_from([1, 9, 40, 1 << 20]),
    st.sampled_from(["/", ".csv", ".jsonl"]),
    st.booleans(),
)
def test_workers_fusing_and_blocks_change_nothing_that_can_be_seen(words, inputs, block, to, set_aside):
    stages = [STAGES[w] for w in words]
    note(" | ".join(map(repr, stages)))
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for i, data in enumerate(inputs):
            write(root / f"in/{i}.csv", data)
        first = Result(root, stages, block, to, "first", workers=1, rejects=set_aside)
        for n, (workers, fusing) in enumerate([(4, fuse), (1, apart), (4, apart)]):
            again = Result(root, stages, block, to, f"again{n}", workers=workers, fusing=fusing, rejects=set_aside)
            assert again.error == first.error
            assert again.files == first.files
            if "head" not in words:  # how far ahead of a head was read is nobody's promise
                assert again.rejects == first.rejects
                assert again.counts() == first.counts()
            check(again, words)
        check(first, words)
        whole = Result(root, stages, 1 << 20, to, "whole", rejects=set_aside)
        if first.error is None and whole.error is None:
            assert whole.files == first.files
            if "head" not in words:
                assert whole.rejects == first.rejects
        elif not any(isinstance(s, FLOWS) or s.placement == "loop" for s in stages):
            assert whole.error == first.error


@contextlib.contextmanager
def failing_renames(out, k):
    """From the k-th output that would become visible below `out` on, none does."""
    real, count = os.replace, 0

    def replace(source, target):
        nonlocal count
        count += str(target).startswith(str(out))
        if count >= k:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replace)
        yield


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    chains(),
    st.lists(files(), min_size=1, max_size=5),
    st.sampled_from([9, 40, 1 << 20]),
    st.sampled_from(["/", "/", ".csv", ".jsonl"]),
    st.booleans(),
    st.integers(1, 6),
    st.integers(1, 6),
)
def test_a_ledger_and_a_run_that_was_cut_short_change_nothing_either(words, inputs, block, to, set_aside, k, again):
    """Twice something stops the run; then it comes to its end, and once more, when there is nothing left to do."""
    stages = [STAGES[w] for w in words]
    note(" | ".join(map(repr, stages)))
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for i, data in enumerate(inputs):
            write(root / f"in/{i}.csv", data)
        first = Result(root, stages, block, to, "first", workers=1, rejects=set_aside, ledger=False)
        for stop in (k, again):
            with failing_renames(root / "cut", stop):
                Result(root, stages, block, to, "cut", workers=2, rejects=set_aside)
        for workers in (2, 1):
            resumed = Result(root, stages, block, to, "cut", workers=workers, rejects=set_aside)
            assert resumed.error == first.error
            assert resumed.files == first.files
            if "head" not in words:
                assert resumed.rejects == first.rejects
        assert list(root.rglob(".aiopipe-*")) == []


def check(result, words):
    if result.report is not None and "twice" not in words:
        assert result.report.balanced, result.report
        assert result.report.rejected == len(result.rejects or [])


@pytest.mark.parametrize("fusing", [fuse, apart])
def test_processes_change_nothing_that_can_be_seen(fusing, tmp_path):
    """Functions in worker processes, between other stages, with rows that they refuse."""
    for i in range(6):
        body = "".join(f"{(i + j) % 6},{TEXTS[j % len(TEXTS)]}\n" for j in range(60 * i))
        write(tmp_path / f"in/{i}.csv", "v,text\n" + body)
    results = []
    for placement, workers in (("thread", 1), ("process", 1), ("process", 2)):
        stages = [
            Filter("v < 5"),
            Map(functions.picky, placement=placement),
            Derive(w="v || text"),
            Map(functions.shout, placement=placement),
        ]
        name = f"{placement}{workers}"
        results.append(Result(tmp_path, stages, 500, "/", name, workers=workers, fusing=fusing, rejects=True))
    first = results[0]
    assert first.error is None
    assert first.report.rejected > 50
    assert len(first.files) == 6
    for other in results[1:]:
        assert other.error is None
        assert other.files == first.files
        assert other.rejects == first.rejects
        assert other.counts() == first.counts()
