"""Real runs into a table, killed at random moments until one comes to its end; then the table is looked at.

`python -m tests.faults.harness.tables PLACE --seeds 200 [--to postgresql://...] [--variant two-transactions]`
prints what was wrong with the seeds: rows that an undisturbed run has not, or has otherwise, and notes that do
not fit the rows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shlex
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.faults.harness.kills import live
from tests.faults.harness.sweep import Job, prepare_to_fork
from tests.faults.harness.variants import VARIANTS

_MIDDLES = ["", "filter 'id >= 3'", "derive twice='id * 2'", "dedupe text --per-file", "dedupe text"]


class Loading(Job):
    """A job made of a seed. query: what rows a statement gives; drop: makes the database as it was before."""

    def __init__(
        self, root: Path, seed: int, to: str, query: Callable[[str], list[Any]], drop: Callable[[], None]
    ) -> None:
        super().__init__(root, "", 1)
        self.chance = some = random.Random(seed)
        self.to, self.query, self.drop = to, query, drop
        self.table = "t"
        self.middle = some.choice(_MIDDLES)
        self.block = some.choice(["2KB", "16KB", "1MB"])
        self.own = some.random() < 0.3  # the table was made before, without a column for the unit
        for i in range(some.randint(3, 25)):
            self.file(i, "a")

    def file(self, i: int, mark: str) -> None:
        """Write an input file; another mark makes other records."""
        count = self.chance.choice([0, 1, 10, 100, 1500])
        rows = "".join(f"{j},{mark}{i}-{j % 400}\n" for j in range(count))
        path = self.root / "in" / f"{i % 3}" / f"{i}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"id,text\n{rows}")

    @property
    def command(self) -> list[str]:
        """The arguments of `aiopipe`."""
        words = [
            f"read {self.root}/in --block {self.block}",
            *filter(None, [self.middle]),
            f"write '{self.to}#{self.table}'",
        ]
        return ["pipe", "--no-progress", *shlex.split(" then ".join(filter(None, words)))]

    def once(self) -> list[Any]:
        """Run it undisturbed, and what the table has then."""
        begun = time.monotonic()
        code = live(self, None)
        self.seconds = time.monotonic() - begun
        if code:
            raise RuntimeError(f"{self.command}: exit code {code}: {(self.root / 'said').read_text()[-2000:]}")
        return self.rows()

    def fresh(self) -> None:
        """The database as it is before the first run."""
        self.drop()
        if self.own:
            twice = ", twice TEXT" if "derive" in self.middle else ""
            self.query(f"CREATE TABLE t (id TEXT, text TEXT{twice})")

    def rows(self) -> list[Any]:
        """What the table holds, in no order."""
        with contextlib.suppress(LookupError):
            return sorted(self.query(f"SELECT * FROM {self.table}"), key=repr)
        return []

    def lies(self) -> list[str]:
        """Units whose note does not fit the rows; in a table that does not say whose they are, their sum."""
        try:
            noted = dict(self.query("SELECT unit, given FROM _aiopipe_units WHERE tbl = 't' AND state = 'done'"))
        except LookupError:
            return []
        if self.own:
            count = len(self.rows())
            return [f"{count} rows, {sum(noted.values())} noted"] if count != sum(noted.values()) else []
        try:
            there = dict(self.query("SELECT _unit, count(*) FROM t GROUP BY _unit"))
        except LookupError:
            there = {}
        names = noted.keys() | there.keys()
        return [
            f"{n}: {there.get(n, 0)} rows, noted {noted.get(n)}" for n in names if there.get(n, 0) != noted.get(n, 0)
        ]


def wrong_after(job: Loading) -> tuple[list[str], int]:
    """What was wrong with a job, and how many of its runs were killed."""
    wrong: list[str] = []
    killed = 0

    def disturbed(clean: list[Any]) -> None:
        nonlocal killed
        for _ in range(job.chance.randint(2, 5)):
            if live(job, job.chance.uniform(0.3, 0.95) * job.seconds) != -signal.SIGKILL:
                break
            killed += 1
            wrong.extend(f"the ledger lies: {lie}" for lie in job.lies())
        code = live(job, None)
        if code:
            wrong.append(f"exit code {code} at last: {(job.root / 'said').read_text()[-500:]}")
        if job.rows() != clean:
            wrong.append(f"{len(job.rows())} rows at last, and not those of {len(clean)}")
        wrong.extend(f"the ledger lies at last: {lie}" for lie in job.lies())

    job.fresh()
    clean = job.once()
    job.fresh()
    disturbed(clean)
    if not job.own:  # again, with some of the input changed
        for i in range(0, 25, 2):
            if any((job.root / "in").glob(f"*/{i}.csv")):
                job.file(i, "b")
        job.table = "clean"
        clean = job.once()
        job.table = "t"
        disturbed(clean)
    return wrong, killed


@contextlib.contextmanager
def two_transactions() -> Iterator[None]:
    """Broken: the rows of a unit are committed before the note that they are there."""
    from aiopipe.job.tables import TableUnits

    before = TableUnits.commit

    def commit(self: TableUnits, done: Any) -> None:
        self.table.commit()
        time.sleep(0.2)  # as if the ledger were far away: the kills need not be aimed
        before(self, done)

    TableUnits.commit = commit  # type: ignore[method-assign]
    try:
        yield
    finally:
        TableUnits.commit = before  # type: ignore[method-assign]


VARIANTS["two-transactions"] = two_transactions


def sqlite(root: Path) -> tuple[str, Callable[[str], list[Any]], Callable[[], None]]:
    """A database in a file."""
    path = root / "x.db"

    def query(text: str) -> list[Any]:
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            return connection.execute(text).fetchall()
        except sqlite3.OperationalError as error:
            raise LookupError(str(error)) from None
        finally:
            connection.close()

    def drop() -> None:
        for left in root.glob("x.db*"):
            left.unlink()

    return f"sqlite:///{path}", query, drop


def postgres(url: str) -> tuple[str, Callable[[str], list[Any]], Callable[[], None]]:
    """A database of a server."""
    import psycopg

    def query(text: str) -> list[Any]:
        with psycopg.connect(url, autocommit=True) as connection:
            try:
                cursor = connection.execute(text)  # type: ignore[arg-type]
            except psycopg.errors.UndefinedTable as error:
                raise LookupError(str(error)) from None
            return cursor.fetchall() if cursor.description else []

    def drop() -> None:
        query("DROP SCHEMA public CASCADE")
        query("CREATE SCHEMA public")

    return url, query, drop


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("place", type=Path)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--variant", default="")
    parser.add_argument("--to", default="")
    options = parser.parse_args()
    prepare_to_fork()
    wrong: list[str] = []
    killed = 0
    with VARIANTS[options.variant]() if options.variant else contextlib.nullcontext():
        for seed in range(options.first, options.first + options.seeds):
            root = options.place / str(seed)
            root.mkdir()
            to, query, drop = postgres(options.to) if options.to else sqlite(root)
            some, count = wrong_after(Loading(root, seed, to, query, drop))
            wrong += [f"seed {seed}: {w}" for w in some]
            killed += count
            if wrong and options.variant:
                break  # it was found out
    print(json.dumps({"points": killed, "wrong": wrong}))


if __name__ == "__main__":
    main()
