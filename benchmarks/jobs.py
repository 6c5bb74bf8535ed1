"""The jobs: who takes part in each, and what aiopipe is to reach against whom."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from benchmarks.functions import SELECTED
from benchmarks.machine import installed, tool

OURS = "aiopipe"


_LATE = ("read", "{source}", "--null", "NA", "then", "filter", "arr_delay > 30")
_GAIN = (*_LATE, "then", "derive", "gain=dep_delay - arr_delay")
COMMANDS = {
    "filter": _LATE,
    "derive": _GAIN,
    "select": (*_GAIN, "then", "select", *SELECTED),
    "single-1": ("--workers", "1", *_LATE),
    "single-2": ("--workers", "2", *_LATE),
}


@dataclass(frozen=True)
class Contender:
    """Who runs a job and how. module: of benchmarks.tools; job: what that module calls it. slow: runs once.

    The module "pipe" is our command line itself, with the words in COMMANDS.
    """

    name: str
    module: str
    job: str
    slow: bool = False

    def argv(self, source: str, target: str) -> list[str]:
        """The command of a fresh process."""
        if self.module == "pipe":
            words = [w.format(source=source) for w in COMMANDS[self.job]]
            return [sys.executable, "-m", "aiopipe", "pipe", *words, "then", "write", f"{target}/"]
        return [sys.executable, "-m", f"benchmarks.tools.{self.module}", self.job, source, target]


@dataclass(frozen=True)
class Goal:
    """At least `ratio` times as fast as the fastest contender whose name begins with one of `against`."""

    ratio: float
    against: tuple[str, ...]
    text: str
    aim: float = 0.0


@dataclass(frozen=True)
class Job:
    """One table. data: the method of Data that makes it; check: the reference it is compared with.

    startup: whether the goals count the start of the process. It is all that small jobs like the engine's measure.
    """

    name: str
    title: str
    data: str
    contenders: tuple[Contender, ...]
    goals: tuple[Goal, ...]
    check: str = ""
    startup: bool = True


POLARS = {
    "": "polars, one by one",
    "-threads": "polars, threads",
    "-text": "polars, threads, text columns",
    "-eager": "polars, threads, eager, text columns",
    "-all": "polars, collect_all, text columns",
}
DUCKDB = {
    "": "duckdb, one by one",
    "-told": "duckdb, columns told",
    "-threads": "duckdb, threads",
    "-threads-told": "duckdb, threads, columns told",
}
GUESS = ("", "-threads")  # types guessed for each file: fails where all 50 records of one are NA
LIBRARIES = ("polars", "duckdb", "pandas", "stdlib", "aiocsv", "miller", "csvkit")


def _directory(name: str, *, small: bool = False) -> tuple[Contender, ...]:
    found = [Contender(OURS, "pipe", name), Contender("aiopipe, as a library", "ours", name)]
    if installed("polars"):
        found += [
            Contender(label, "polars_", name + how) for how, label in POLARS.items() if not (small and how in GUESS)
        ]
    found += [Contender(label, "duckdb_", name + how) for how, label in DUCKDB.items() if not (small and how in GUESS)]
    found += [
        Contender("stdlib csv, 2 processes", "stdlib", f"{name}-2"),
        Contender("stdlib csv", "stdlib", name, slow=True),
    ]
    found.append(Contender("aiocsv by hand", "aiocsv_", name, slow=True))
    if installed("pandas"):
        found.append(Contender("pandas", "pandas_", name, slow=True))
    if tool("mlr"):
        found.append(Contender("miller, 2 at once", "commands", f"miller-{name}", slow=True))
    if tool("csvgrep") and name == "filter" and not small:
        found.append(Contender("csvkit csvgrep, 2 at once", "commands", "csvkit-filter", slow=True))
    return (*found, Contender("cp -r (the floor)", "commands", "cp"))


def _rows() -> tuple[Contender, ...]:
    return (
        Contender(OURS, "ours", "rows"),
        Contender("stdlib csv, writerows", "stdlib", "rows-lists"),
        Contender("stdlib csv, batches", "stdlib", "rows-batches"),
        Contender("stdlib csv, writerow", "stdlib", "rows-zip"),
        Contender("stdlib csv, DictReader", "stdlib", "rows-dictreader", slow=True),
        Contender("2 processes by hand", "stdlib", "rows-2"),
        Contender("aiopipe, one process", "ours", "rows-thread"),
    )


def _engine() -> tuple[Contender, ...]:
    found = [Contender(OURS, "engine", "ours"), Contender("TaskGroup + Queue(100)", "engine", "by-hand")]
    found += [Contender(n, "engine", n) for n in ("streamable", "aiostream") if installed(n)]
    return tuple(found)


def _single() -> tuple[Contender, ...]:
    found = [Contender(OURS, "pipe", "single-2"), Contender("aiopipe, 1 worker", "pipe", "single-1")]
    if installed("polars"):
        found += [Contender(POLARS[how], "polars_", "filter" + how) for how in ("", "-eager", "-all")]
    found.append(Contender("duckdb, columns told", "duckdb_", "filter-told"))
    return (*found, Contender("cp -r (the floor)", "commands", "cp"))


def all_jobs() -> tuple[Job, ...]:
    """Every job, with the contenders that are installed here."""
    return (
        Job("filter", "filter, all columns kept, file per file", "wide", _directory("filter"),
            (Goal(2.5, LIBRARIES, "the fastest peer", aim=4),), "filter"),
        Job("derive", "filter + derive, all columns kept", "wide", _directory("derive"),
            (Goal(2.0, LIBRARIES, "the fastest peer"),), "derive"),
        Job("select", "filter + derive + select of 6 columns", "wide", _directory("select"),
            (Goal(1.0, LIBRARIES, "the fastest peer", aim=1.3),), "select"),
        Job("small", "10,000 files of 5 KB, filter, file per file", "small", _directory("filter", small=True),
            (Goal(4.0, ("polars", "duckdb"), "the best of polars and DuckDB"),
             Goal(1.3, ("stdlib csv, 2",), "stdlib csv in 2 processes")), "filter"),
        Job("rows", "one Python function for each row of 8 files of 25 MB, 2 processes", "part", _rows(),
            (Goal(1.8, ("stdlib",), "the best loop on one core"),), "rows"),
        Job("engine", "three trivial stages over 200,000 integers", "", _engine(),
            (Goal(4.0, ("TaskGroup",), "by hand"),), startup=False),
        Job("single", "one file of 500 MB, filter, all columns kept", "single", _single(),
            (Goal(1.6, ("aiopipe, 1 worker",), "its own time with 1 worker"),), "filter"),
    )  # fmt: skip
