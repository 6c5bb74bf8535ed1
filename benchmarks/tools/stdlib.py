"""Python's csv module by hand: one process, and a pool of processes over the files."""

from __future__ import annotations

import csv
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import Any

from benchmarks.functions import SELECTED, clean
from benchmarks.tools import cores, pairs, serve

Rows = Iterable[list[str]]


def late(header: list[str], rows: Rows) -> Iterator[list[str]]:
    delay = header.index("arr_delay")
    return (r for r in rows if r[delay] != "NA" and int(r[delay]) > 30)


def gained(header: list[str], rows: Rows) -> Iterator[list[str]]:
    arrived, left = header.index("arr_delay"), header.index("dep_delay")
    for row in late(header, rows):
        row.append(str(int(row[left]) - int(row[arrived])))
        yield row


def copy(pair: tuple[str, str], job: str) -> None:
    """One file, by the leanest loop that still is CSV."""
    with open(pair[0], newline="") as source, open(pair[1], "w", newline="") as target:
        reader = csv.reader(source)
        writer = csv.writer(target, lineterminator="\n")
        header = next(reader)
        if job == "filter":
            writer.writerow(header)
            writer.writerows(late(header, reader))
            return
        rows: Iterable[Any] = gained(header, reader)
        header = [*header, "gain"]
        if job == "select":
            pick = itemgetter(*(header.index(name) for name in SELECTED))
            header, rows = SELECTED, map(pick, rows)
        writer.writerow(header)
        writer.writerows(rows)


def rows_dictreader(pair: tuple[str, str]) -> None:
    """The function on each row of a DictReader, into a DictWriter: as in the manual."""
    with open(pair[0], newline="") as source, open(pair[1], "w", newline="") as target:
        reader = csv.DictReader(source)
        names = [*(reader.fieldnames or ()), "late"]
        writer = csv.DictWriter(target, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(clean, reader))  # type: ignore[arg-type]


def rows_zip(pair: tuple[str, str]) -> None:
    """dict(zip()) and one writerow for each row."""
    with open(pair[0], newline="") as source, open(pair[1], "w", newline="") as target:
        reader = csv.reader(source)
        writer = csv.writer(target, lineterminator="\n")
        names = next(reader)
        writer.writerow([*names, "late"])
        for row in reader:
            writer.writerow(clean(dict(zip(names, row))).values())  # noqa: B905


def rows_lists(pair: tuple[str, str]) -> None:
    """The same with writerows over a generator: no name is looked up twice."""
    with open(pair[0], newline="") as source, open(pair[1], "w", newline="") as target:
        reader = csv.reader(source)
        writer = csv.writer(target, lineterminator="\n")
        names = next(reader)
        writer.writerow([*names, "late"])
        writer.writerows(clean(dict(zip(names, row))).values() for row in reader)  # noqa: B905


def rows_batches(pair: tuple[str, str]) -> None:
    """A thousand rows at a time, so that parser, function and writer each keep the caches warm."""
    with open(pair[0], newline="") as source, open(pair[1], "w", newline="") as target:
        reader = csv.reader(source)
        writer = csv.writer(target, lineterminator="\n")
        names = next(reader)
        writer.writerow([*names, "late"])
        while some := list(islice(reader, 1000)):
            writer.writerows([clean(dict(zip(names, row))).values() for row in some])  # noqa: B905


def alone(source: str, target: str, one: Callable[[tuple[str, str]], None]) -> None:
    for pair in pairs(source, target):
        one(pair)


def pool(source: str, target: str, one: Callable[[tuple[str, str]], None]) -> None:
    files = pairs(source, target)
    with multiprocessing.Pool(cores()) as workers:
        for _ in workers.imap_unordered(one, files, chunksize=max(1, len(files) // 100)):
            pass


JOBS: dict[str, Any] = {}
for name in ("filter", "derive", "select"):
    JOBS[name] = partial(alone, one=partial(copy, job=name))
    JOBS[f"{name}-2"] = partial(pool, one=partial(copy, job=name))
for name, function in [
    ("rows-dictreader", rows_dictreader),
    ("rows-zip", rows_zip),
    ("rows-lists", rows_lists),
    ("rows-batches", rows_batches),
]:
    JOBS[name] = partial(alone, one=function)
JOBS["rows-2"] = partial(pool, one=rows_lists)

if __name__ == "__main__":
    serve(JOBS)
