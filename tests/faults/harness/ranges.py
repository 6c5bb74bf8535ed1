"""Real runs over one large file, killed until one ends: how much was done again, and the bytes.

The first is killed when it has noted a few ranges, the others at random moments.

`python -m tests.faults.harness.ranges PLACE --seeds 100` makes of each seed a file, a pipeline of stages that remember
nothing, and a row of kills. After each kill it looks into the ledger, and the last run must have begun behind the last
range that is there: what it reads and what it passes over add up to the file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shlex
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.harness.kills import live
from tests.faults.harness.ledger import lies, ranges
from tests.faults.harness.sweep import REJECTS, Job, prepare_to_fork, temporaries, visible

_FUNCTIONS = Path(__file__).parents[1] / "functions.py"
_MIDDLES = [
    "filter 'id >= 3'",
    "filter 'id > 20000'",
    "derive twice='id * 2'",
    f"map {_FUNCTIONS}:shout_text",
    f"map {_FUNCTIONS}:async_same --concurrency 4",
    "select text id",
    "rename id=number",
]


class Large(Job):
    """A job made of a seed."""

    def __init__(self, root: Path, seed: int) -> None:
        super().__init__(root, "", 1)
        self.chance = some = random.Random(seed)
        self.middle = some.sample(_MIDDLES, some.randint(1, 3))
        if "rename id=number" in self.middle:  # by its old name nobody finds it behind that
            self.middle.remove("rename id=number")
            self.middle.append("rename id=number")
        self.workers = some.choice([1, 2, 4])
        self.block = some.choice(["2KB", "5KB", "16KB"])
        self.every = some.choice([1, 20_000, 60_000])
        self.records = some.randint(30_000, 100_000)

    @property
    def command(self) -> list[str]:
        """The arguments of `aiopipe`."""
        words = " then ".join([f"read {self.root}/in --block {self.block}", *self.middle, f"write {self.out}/"])
        job = ["--workers", str(self.workers), "--rejects", f"{self.out}/{REJECTS}", "--no-progress"]
        return ["pipe", *job, "--memory", "4MB", "--report", f"{self.root}/report.json", *shlex.split(words)]

    def prepare(self) -> None:
        """Write the input and run the job once undisturbed."""
        some = self.chance
        quoted = some.random() < 0.3
        rows = [
            f'{j},"{some.choice("abcdefgh")}\n{j % 50}"' if quoted else f"{j},x{j % 50}" for j in range(self.records)
        ]
        for _ in range(some.choice([0, 0, 1, 40])):
            rows[some.randrange(len(rows))] = "bad"
        (self.root / "in").mkdir()
        (self.root / "in/large.csv").write_text("id,text\n" + "\n".join(rows) + "\n" * some.randint(0, 1))
        self.reset()
        begun = time.monotonic()
        code = live(self, None)
        self.seconds = time.monotonic() - begun
        if code not in (0, 3):
            raise RuntimeError(f"{self.command}: exit code {code}: {(self.root / 'said').read_text()[-2000:]}")
        self.clean = visible(self.out)

    def reset(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()

    def reached(self) -> tuple[int, int]:
        """Bytes and records that the ledger knows to be done, of a file that is not finished."""
        known = [some[-1] for path, some in ranges(self.out).items() if Path(path).exists()]
        return (known[0].key.stop, known[0].reached.taken) if known else (0, 0)


@contextlib.contextmanager
def ending_itself(after: int) -> Iterator[None]:
    """Runs that are killed when so many ranges are in the ledger: the moment is found on any machine."""
    from aiopipe.job.ranges import Ranges  # not before `prepare_to_fork`

    before, left = Ranges.keep, after

    def keep(self: Ranges, *rest: Any) -> None:
        nonlocal left
        before(self, *rest)
        left -= 1
        if not left:
            os.killpg(0, signal.SIGKILL)

    Ranges.keep = keep  # type: ignore[method-assign]
    try:
        yield
    finally:
        Ranges.keep = before  # type: ignore[method-assign]


def wrong_after(root: Path, seed: int) -> tuple[list[str], int, int]:
    """What was wrong with the job of this seed, how many of its runs were killed, and records they did not cost."""
    root.mkdir()
    job = Large(root, seed)
    job.prepare()
    job.reset()
    wrong, killed, last, spared = [], 0, 0, 0
    for i in range(job.chance.randint(2, 6)):
        if i:
            code = live(job, job.chance.uniform(0.3, 1.0) * job.seconds)
        else:
            with ending_itself(job.chance.randint(1, 4)):
                code = live(job, None)
        if code != -signal.SIGKILL:
            break
        killed += 1
        now = visible(job.out)
        now.pop(REJECTS, None)
        wrong += [f"torn: {n} ({len(d)} bytes)" for n, d in now.items() if d != job.clean.get(n)]
        wrong += [f"the ledger lies: {lie}" for lie in lies(job.out)]
        reached, records = job.reached()
        spared += records
        if reached < last and not now:
            wrong.append(f"{last} bytes were done, and now it is {reached}")
        last = reached
    done = job.reached()[1]
    finished = "large.csv" in visible(job.out)
    with contextlib.suppress(FileNotFoundError):
        (root / "report.json").unlink()
    code = live(job, None)
    if code not in (0, 3):
        wrong.append(f"exit code {code} at last: {(root / 'said').read_text()[-500:]}")
    else:
        report = json.loads((root / "report.json").read_text())
        if not finished and (report["read_before"] != done or report["read"] + done != job.records):
            wrong.append(f"{done} of {job.records} records were done, and {report['read']} were read again")
    if (now := visible(job.out)) != job.clean:
        wrong.append(f"not the same at last: {sorted(now)}")
    if left := temporaries(job.out):
        wrong.append(f"temporaries at last: {left}")
    if ranges(job.out):
        wrong.append("ranges at last")
    wrong += [f"the ledger lies at last: {lie}" for lie in lies(job.out)]
    shutil.rmtree(root)
    return [f"seed {seed}: {w}" for w in wrong], killed, spared


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("place", type=Path)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    prepare_to_fork()
    wrong: list[str] = []
    killed = spared = 0
    for seed in range(options.first, options.first + options.seeds):
        some, count, records = wrong_after(options.place / str(seed), seed)
        wrong += some
        killed += count
        spared += records
    print(json.dumps({"points": killed, "spared": spared, "wrong": wrong}))


if __name__ == "__main__":
    main()
