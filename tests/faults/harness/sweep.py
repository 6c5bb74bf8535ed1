"""Disturb a real run at its k-th call that changes the disk, look at what is left, run again, look again.

`python -m tests.faults.harness.sweep PLACE --fault kill --job mirror --workers 1` sweeps every k, or a sample of
them with --sample N (which takes each kind of call in turn, see `spread`), and prints what it found as JSON. A
victim is the command line itself, forked from this process when all that it needs is imported. What must hold (the
promises of docs/jobs.md):

- A visible file is the one from before, or the new one, complete; none is there that belongs to neither.
- The ledger names no unit as done whose output is not there, whole.
- An error ends the run with exit code 1 and a message that names a path and what to do, without a traceback.
- Running again, undisturbed, gives the bytes of a run that never was disturbed, and no temporary is left.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import importlib
import json
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from tests.faults.harness import variants
from tests.faults.harness.ledger import lies, ranges
from tests.faults.harness.protocol import Protocol
from tests.faults.harness.seccomp import Call, Decision, Outcome, supervise

__all__ = ["FAULTS", "JOBS", "Job", "sweep"]

_CHANGES = {
    "write", "writev", "pwrite64", "pwritev", "copy_file_range", "fsync", "fdatasync", "syncfs", "open", "openat",
    "creat", "close", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink",
    "unlinkat", "rmdir", "mkdir", "mkdirat", "truncate", "ftruncate", "fallocate", "fchmod", "utimensat",
}  # fmt: skip
_WRITES = {"write", "writev", "pwrite64", "pwritev", "copy_file_range"}
_SYNCS = {"fsync", "fdatasync", "syncfs"}
_OPENS = {"open", "openat", "creat"}
_MAKES = {"mkdir", "mkdirat", "link", "linkat", "symlink", "symlinkat", "rename", "renameat", "renameat2"}
_REMOVES = {"unlink", "unlinkat", "rmdir"}
REJECTS = "set-aside.csv"
_READS = {"read", "pread64"}


@dataclass(frozen=True)
class Fault:
    """What is done to the k-th of these calls. reading: calls on the input count as well."""

    decision: Decision
    names: set[str]
    reading: bool = False


FAULTS = {
    "kill": Fault("kill", _CHANGES),
    "enospc": Fault(errno.ENOSPC, _WRITES | _SYNCS | _OPENS | _MAKES | {"close", "ftruncate", "fallocate"}),
    "eio": Fault(errno.EIO, _CHANGES | _READS, reading=True),
    "eintr": Fault(errno.EINTR, _WRITES | _SYNCS | _OPENS | _READS | {"close", "ftruncate"}, reading=True),
    "emfile": Fault(errno.EMFILE, _OPENS, reading=True),
    "erofs": Fault(errno.EROFS, _OPENS | _MAKES | _REMOVES),
    "short": Fault("short", {"write"}),
}


@dataclass
class Job:
    """A job with its files: `before` is the destination as an earlier run left it, `clean` as it must become.

    every: bytes of a large file after which there is a checkpoint; 0 for what it is in life. forked: it has its workers
    by a fork, however little there is to do.
    """

    root: Path
    to: str
    workers: int
    out: Path = Path()
    before: dict[str, bytes] = field(default_factory=dict)
    clean: dict[str, bytes] = field(default_factory=dict)
    every: int = 0
    forked: bool = False

    def __post_init__(self) -> None:
        if self.out == Path():
            self.out = self.root / "out"

    @property
    def command(self) -> list[str]:
        """The arguments of `aiopipe`."""
        out, into = str(self.out), str(self.root / "in")
        return [
            "pipe", "--workers", str(self.workers), "--rejects", f"{out}/{REJECTS}", "--no-progress",
            "read", into, "--block", "4KB", "then", "filter", "id >= 0", "then", "write", f"{out}/{self.to}",
        ]  # fmt: skip

    def reset(self) -> None:
        """The destination as the earlier run left it."""
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.copytree(self.root / "before", self.out, symlinks=True)

    def prepare(self) -> None:
        """Write the input, run yesterday's job, change the input, and run today's once undisturbed."""
        into = self.root / "in"
        for i in range(3):
            _put(into / f"{i}.csv", "id,text\n" + "".join(f"{j},{i}\n" for j in range(10)))
        _put(into / "sub/empty.csv", "")
        _put(into / "sub/large.csv", "id,text\n" + "".join(f"{j},word {j}\n" for j in range(700)))
        _put(into / "unchanged.csv", "id,text\n1,same\n")
        self.out.mkdir()
        assert undisturbed(self) == 0
        shutil.move(self.out, self.root / "before")
        self.before = visible(self.root / "before")
        _put(into / "1.csv", "id,text\n" + "".join(f"{j},today\n" for j in range(12)) + "1,2,3\n")
        _put(into / "sub/large.csv", "id,text\n" + "".join(f"{j},word {j} today\n" for j in range(700)) + "bad\n")
        _put(into / "new/er/4.csv", "id,text\n4,new\n")
        _put(into / "new/large/5.csv", "id,text\n" + "".join(f"{j},word {j} new\n" for j in range(700)))
        self.reset()
        assert undisturbed(self) == 3
        self.clean = visible(self.out)
        assert temporaries(self.out) == []


class Ranged(Job):
    """One large file, redone: with a checkpoint every few blocks."""

    def prepare(self) -> None:
        self.every = 9000
        path = self.root / "in/sub/large.csv"
        _put(path, "id,text\n" + "".join(f"{j},word {j}\n" for j in range(700)))
        self.out.mkdir()
        assert undisturbed(self) == 0
        shutil.move(self.out, self.root / "before")
        self.before = visible(self.root / "before")
        rows = [f"{j},word {j} today\n" if j % 1000 else "bad\n" for j in range(3600)]
        _put(path, "id,text\n" + "".join(rows))
        self.reset()
        assert undisturbed(self) == 3
        self.clean = visible(self.out)
        assert temporaries(self.out) == []


class Resumed(Ranged):
    """The same, after a run that was killed in the midst of the file: this one resumes."""

    def prepare(self) -> None:
        super().prepare()
        for first in range(3, 9):
            self.reset()
            count = iter(range(first))

            def decide(call: Call, count: Iterator[int] = count) -> Decision:
                return "kill" if ".tmp" in call.paths[-1] and next(count, None) is None else None

            supervise(victim(self), {"fsync"}, decide, said=str(self.root / "said"))
            if ranges(self.out):
                shutil.rmtree(self.root / "before")
                shutil.move(self.out, self.root / "before")
                self.reset()
                return
        raise RuntimeError("no range was in the ledger when the run was killed")


JOBS = {"mirror": "", "one": "all.csv", "ranges": "", "resumed": "", "replay": ""}
KINDS: dict[str, type[Job]] = {"ranges": Ranged, "resumed": Resumed}


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def visible(root: Path) -> dict[str, bytes]:
    """Every file a user sees below root, with its bytes."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not any(p.startswith(".aiopipe") for p in name.split("/")):
            found[name] = path.read_bytes()
    return found


def temporaries(root: Path) -> list[str]:
    """What an aborted run left beside the outputs."""
    return sorted(p.relative_to(root).as_posix() for p in root.rglob(".aiopipe-*"))


def unnamed(root: Path) -> list[str]:
    """The same, but for what the ledger names as the output of ranges that are done."""
    known = {os.path.relpath(path, root) for path in ranges(root)}
    return [name for name in temporaries(root) if name not in known]


def _lines(data: bytes | None) -> set[bytes]:
    return set((data or b"").splitlines(keepends=True))


def victim(job: Job, variant: str = "") -> Callable[[], int]:
    """What a forked process runs: the command line."""

    def run() -> int:
        from aiopipe.cli import main

        with variants.VARIANTS[variant]() if variant else contextlib.nullcontext():
            if job.every:
                from aiopipe.stages import _checkpoints

                _checkpoints.EVERY = job.every
            if job.forked:
                from aiopipe.job import ahead

                ahead._WORTH = 1
            sys.argv = ["aiopipe", *job.command]
            code = main()
        sys.stderr.flush()
        return code

    return run


def undisturbed(job: Job) -> int:
    end = supervise(victim(job), {"creat"}, lambda _: None, said=str(job.root / "said"))
    if end.code not in (0, 3):
        raise RuntimeError(f"an undisturbed run ended with {end.code}: {end.said}")
    return end.code


class Nth:
    """Counts the calls that concern the destination, and decides about the k-th."""

    def __init__(self, job: Job, fault: Fault, k: int) -> None:
        self.fault, self.k, self.count = fault, k, 0
        self.out, self.into = str(job.out), str(job.root / "in")
        self.seen: list[str] = []

    def __call__(self, call: Call) -> Decision:
        inside = any(p == self.out or p.startswith(self.out + "/") for p in call.paths)
        reading = self.fault.reading and any(p.startswith(self.into) for p in call.paths)
        if call.name not in self.fault.names or not (inside or reading):
            return None
        if not call.writes and not self.fault.reading and self.fault.decision == "kill":
            return None  # an open for reading changes nothing: the moment before the next call is the same one
        self.count += 1
        self.seen.append(f"{call.name} {os.path.basename(call.paths[-1])}")
        return self.fault.decision if self.count == self.k else None


def problems(job: Job, fault: str, end: Outcome) -> Iterator[str]:
    """What is wrong after a disturbed run."""
    now = visible(job.out)
    for name in now.keys() | job.before.keys():
        if name == REJECTS and _lines(now.get(name)) <= _lines(job.clean[name]) | _lines(job.before[name]):
            continue  # of a run that failed, the rejects of what it finished
        if now.get(name) not in (job.before.get(name), job.clean.get(name)):
            yield f"torn: {name} ({len(now.get(name, b''))} bytes)"
        elif name not in now:
            yield f"gone: {name}"
    yield from (f"the ledger lies: {lie}" for lie in lies(job.out))
    if fault == "kill":
        return
    if end.code in (0, 3):
        if now != job.clean:
            yield f"exit code {end.code}, and the outputs are not complete"
    elif end.code != 1:
        yield f"exit code {end.code}: {end.said[-300:]}"
    elif "Traceback" in end.said or "next:" not in end.said or str(job.root) not in end.said:
        yield f"message: {end.said[-600:]}"
    # Of an earlier run that was killed a temporary may be left where the ledger could not be opened.
    left = [name for name in unnamed(job.out) if name not in temporaries(job.root / "before")]
    if end.hit is not None and end.hit.name not in _REMOVES and left:
        yield f"temporaries after an error: {left}"


def census(job: Job, names: Sequence[str], variant: str = "") -> dict[str, list[str]]:
    """The calls of one undisturbed run that each of these faults could disturb, in order."""
    if not names:
        return {}
    counts = {name: Nth(job, FAULTS[name], 0) for name in names}

    def count(call: Call) -> Decision:
        for one in counts.values():
            one(call)
        return None

    job.reset()
    every = set().union(*(FAULTS[name].names for name in names))
    supervise(victim(job, variant), every, count, said=str(job.root / "said"))
    return {name: one.seen for name, one in counts.items()}


def spread(calls: Sequence[str], count: int, seed: str) -> list[int]:
    """So many places in a list of calls, counted from 1: each kind of call in turn, its first, its last, one between.

    Most calls are writes, and by chance alone a sample would seldom hold the one rename or mkdir. The seed says which
    kinds come first, where there are more of them than places, and which of its places a kind gives first.

    >>> calls = ["openat a", *["write a"] * 96, "fsync a", "rename a", "close a"]
    >>> [calls[k - 1] for k in spread(calls, 5, "any")]
    ['openat a', 'write a', 'fsync a', 'rename a', 'close a']
    """
    dice, kinds = random.Random(seed), dict[str, list[int]]()
    for k, call in enumerate(calls, 1):
        kinds.setdefault(call.split()[0], []).append(k)
    queues = []
    for places in kinds.values():
        some = list(dict.fromkeys([places[0], places[-1], dice.choice(places)]))
        dice.shuffle(some)
        dice.shuffle(places)
        queues.append([*dict.fromkeys([*some, *places])])
    dice.shuffle(queues)
    turns = [k for turn in zip_longest(*queues) for k in turn if k is not None]
    return sorted(turns[:count])


def sweep(
    job: Job, name: str, calls: Sequence[str], *, sample: int = 0, seed: str = "0", variant: str = ""
) -> dict[str, object]:
    """Every k (or a sample of them): what was tried and what was wrong. calls: those of an undisturbed run."""
    fault, wrong, ends, said = FAULTS[name], [], Counter[int](), str(job.root / "said")
    begun = time.monotonic()
    points = list(range(1, len(calls) + 3))  # threads: the count differs a little from run to run
    if sample and sample < len(points):
        points = spread(calls, sample, f"{seed} {name}")
    hits = 0
    for k in points:
        job.reset()
        decide = Nth(job, fault, k)
        try:
            end = supervise(victim(job, variant), fault.names, decide, said=said)
        except TimeoutError as error:
            wrong.append(f"{k}: {decide.seen[k - 1]}: {error}")
            continue
        if end.hit is None:
            continue
        hits += 1
        ends[end.code] += 1
        where = f"{k}: {decide.seen[k - 1]}"
        wrong += [f"{where}: {p}" for p in problems(job, name, end)]
        code = undisturbed(job)
        if code != 3 or visible(job.out) != job.clean:
            wrong.append(f"{where}: not the same after running again (exit code {code})")
        if left := temporaries(job.out):
            wrong.append(f"{where}: temporaries after running again: {left}")
        if ranges(job.out):
            wrong.append(f"{where}: ranges after running again")
        wrong += [f"{where}: after running again, the ledger lies: {lie}" for lie in lies(job.out)]
    seconds = round(time.monotonic() - begun, 1)
    return {"points": hits, "wrong": wrong, "ends": dict(ends), "calls": list(calls), "seconds": seconds}


def follow(job: Job, *, variant: str = "") -> dict[str, object]:
    """One undisturbed run, with every sync held back: what it did in the wrong order."""
    job.reset()
    protocol = Protocol(str(job.out))
    end = supervise(victim(job, variant), protocol.names, protocol, said=str(job.root / "said"))
    wrong = protocol.finish()
    if job.every and not protocol.ranges:
        wrong.append("no range was seen in the ledger")
    return {"points": protocol.renames, "wrong": wrong, "ends": {end.code: 1}}


_IMPORTS = [
    "aiopipe",
    "aiopipe.cli",
    "aiopipe.cli.pipe",
    "aiopipe.cli.replay",
    "aiopipe.cli.running",
    "aiopipe.codec.precise",
    "aiopipe.job.replay",
    "aiopipe.job.run",
    "aiopipe.sql",
    "aiopipe.sql.direct",
    "aiopipe.stages",
    "aiopipe.stages._checkpoints",
    "aiopipe.stages._rebuild",
    "aiopipe.stages.write",
    "aiopipe.storage.read",
    "asgiref.sync",
    "duckdb",
    "sqlite3",
    "uuid",
]


def prepare_to_fork() -> None:
    """Import what victims need, without the threads that libraries start for themselves."""
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
    for module in _IMPORTS:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    assert len(os.listdir("/proc/self/task")) == 1, "threads before a fork"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("place", type=Path)
    parser.add_argument("--fault", choices=[*FAULTS, "slow"], action="append", required=True)
    parser.add_argument("--job", choices=JOBS, default="mirror")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--variant", default="")
    options = parser.parse_args()
    prepare_to_fork()
    kind: type[Job] = KINDS.get(options.job, Job)
    if options.job == "replay":
        from tests.faults.harness.replays import Replay as kind  # noqa: N813 - it is made of what stands here
    job = kind(options.place, JOBS[options.job], options.workers)
    job.prepare()
    result = {}
    calls = census(job, [name for name in options.fault if name != "slow"], options.variant)
    how = {"sample": options.sample, "seed": f"{options.seed} {options.job} {options.workers}"}
    for name in options.fault:
        if name == "slow":
            result[name] = follow(job, variant=options.variant)
        else:
            result[name] = sweep(job, name, calls[name], variant=options.variant, **how)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
