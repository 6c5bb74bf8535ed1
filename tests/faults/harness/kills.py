"""Real runs over random trees through random pipelines, killed at random moments until one comes to its end.

`python -m tests.faults.harness.kills PLACE --seeds 200` makes of each seed a job, its clean result, and a row of
kills; prints the seeds whose last tree is another one. No call is held back here: the threads and workers run as they
do in life. Every fourth job has workers that were forked, and files that travel in groups and in stretches.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import select
import shlex
import shutil
import signal
import time
from pathlib import Path

from tests.faults.harness.ledger import lies
from tests.faults.harness.sweep import REJECTS, Job, prepare_to_fork, temporaries, victim, visible

_HERE = Path(__file__).parents[1] / "functions.py"
_MIDDLES = [
    "filter 'id >= 3'",
    "derive twice='id * 2'",
    f"map {_HERE}:shout_text",
    f"map {_HERE}:async_same --concurrency 4",
    f"map {_HERE}:every_row",
    "dedupe text --per-file",
    "head 200 --per-file",
    "select text id",
]
_PORTABLE = [m for m in _MIDDLES if m.split()[0] in ("filter", "derive", "select")]


class Random(Job):
    """A job made of a seed: files, stages, how it is run."""

    def __init__(self, root: Path, seed: int) -> None:
        super().__init__(root, "", 1)
        self.chance = random.Random(seed)
        some = self.chance
        self.forked, self.every = seed % 4 == 1, 500_000 if seed % 8 == 1 else 0
        self.middle = some.sample(_PORTABLE if self.forked else _MIDDLES, some.randint(1, 3))
        if seed % 20 == 19:  # worker processes start slowly
            self.middle.append(f"map {_HERE}:shout_text --placement process")
        self.workers = some.choice([2, 3, 4] if self.forked else [1, 2, 4])
        self.block = "256KiB" if self.forked else some.choice(["2KB", "16KB", "1MB"])
        self.files = [self._file(i) for i in range(some.randint(3, 30))]

    def _file(self, i: int) -> tuple[str, str]:
        some = self.chance
        name = some.choice(["", "sub/", "sub/deep/", f"d{i}/"]) + f"{i}.csv"
        count = some.choice([0, 1, 10, 100, 1500, 200_000] if self.forked else [0, 1, 10, 100, 1500])
        letters = some.choices("abcdefgh", k=100)
        rows = [f"{j},{letters[j % 97]}{j % 50}" for j in range(count)]
        for j in some.sample(range(count), count // 5000):
            rows[j] = f'{j},"' + "two\nlines " * some.choice([1, 5000]) + '"'
        if some.random() < 0.2:
            rows.insert(some.randint(0, len(rows)), "bad")
        return name, "id,text\n" + "\n".join(rows) + "\n" * some.randint(0, 1)

    @property
    def command(self) -> list[str]:
        """The arguments of `aiopipe`."""
        words = " then ".join([f"read {self.root}/in --block {self.block}", *self.middle, f"write {self.out}/"])
        job = ["--workers", str(self.workers), "--rejects", f"{self.out}/{REJECTS}", "--no-progress"]
        return ["pipe", *job, *shlex.split(words)]

    def prepare(self) -> None:
        """Write the input and run the job once undisturbed."""
        into = self.root / "in"
        for name, text in self.files:
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            (into / name).write_text(text)
        self.reset()
        begun = time.monotonic()
        code = live(self, None)
        self.seconds = time.monotonic() - begun
        if code not in (0, 3):
            raise RuntimeError(f"{self.command}: exit code {code}: {(self.root / 'said').read_text()[-2000:]}")
        self.clean, self.before = visible(self.out), {}

    def reset(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()


def live(job: Job, seconds: float | None) -> int:
    """Run the command line in a forked process, and kill it and its workers after a while, if it lives so long."""
    pid = os.fork()
    if not pid:
        code = 99
        try:
            os.setpgid(0, 0)
            quiet = os.open(os.devnull, os.O_RDWR)
            os.dup2(quiet, 0)
            os.dup2(quiet, 1)
            os.dup2(os.open(job.root / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
            code = victim(job)()
        finally:
            os._exit(code)
    handle = os.pidfd_open(pid)
    select.select([handle], [], [], 120 if seconds is None else seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def wrong_after(root: Path, seed: int) -> tuple[list[str], int]:
    """What was wrong with the job of this seed, and how many of its runs were killed."""
    root.mkdir()
    job = Random(root, seed)
    job.prepare()
    job.reset()
    wrong, killed = [], 0
    for _ in range(job.chance.randint(2, 5)):
        if live(job, job.chance.uniform(0, 0.9 * job.seconds)) != -signal.SIGKILL:
            break
        killed += 1
        now = visible(job.out)
        now.pop(REJECTS, None)
        wrong += [f"torn: {n} ({len(d)} bytes)" for n, d in now.items() if d != job.clean.get(n)]
        wrong += [f"the ledger lies: {lie}" for lie in lies(job.out)]
    code = live(job, None)
    now = visible(job.out)
    if code not in (0, 3):
        wrong.append(f"exit code {code} at last: {(root / 'said').read_text()[-500:]}")
    wrong += [
        f"not the same at last: {n}" for n in sorted(now.keys() | job.clean.keys()) if now.get(n) != job.clean.get(n)
    ]
    if (job.out / ".aiopipe").is_dir() and (left := temporaries(job.out)):
        wrong.append(f"temporaries at last: {left}")
    wrong += [f"the ledger lies at last: {lie}" for lie in lies(job.out)]
    shutil.rmtree(root)
    return [f"seed {seed}: {w}" for w in wrong], killed


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("place", type=Path)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    prepare_to_fork()
    wrong: list[str] = []
    killed = 0
    for seed in range(options.first, options.first + options.seeds):
        some, count = wrong_after(options.place / str(seed), seed)
        wrong += some
        killed += count
    print(json.dumps({"points": killed, "wrong": wrong}))


if __name__ == "__main__":
    main()
