"""Rows into a table, beside a loop written by hand: csv.reader and executemany, or COPY.

`python -m benchmarks.tables [--to postgresql://host/db] [--runs 3]` prints rows a second, imports left out, runs
alternating.
"""

from __future__ import annotations

import argparse
import csv
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from aiopipe import Read, Write

FILES, ROWS, COLUMNS = 4, 50_000, ["id", "name", "amount", "note"]


def make(root: Path) -> None:
    for i in range(FILES):
        with open(root / f"{i}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows((k, f"name {k % 997}", k * 0.25, "" if k % 3 else f"note, {k}") for k in range(ROWS))


def by_hand_sqlite(source: Path, database: Path) -> None:
    """What one writes: each file a transaction, empty fields as NULL."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("CREATE TABLE t (id TEXT, name TEXT, amount TEXT, note TEXT, _unit TEXT)")
    connection.execute("CREATE INDEX t_unit ON t (_unit)")
    for path in sorted(source.iterdir()):
        with open(path, newline="") as file:
            rows = csv.reader(file)
            next(rows)
            connection.execute("BEGIN")
            given = ([v or None for v in row] + [path.name] for row in rows)
            connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?)", given)
            connection.execute("COMMIT")
    connection.close()


def by_hand_postgres(source: Path, url: str) -> None:
    """What one writes: each file a transaction, COPY row by row."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id TEXT, name TEXT, amount TEXT, note TEXT, _unit TEXT)")
        connection.execute("CREATE INDEX t_unit ON t (_unit)")
        for path in sorted(source.iterdir()):
            with open(path, newline="") as file, connection.transaction(), connection.cursor() as cursor:
                rows = csv.reader(file)
                next(rows)
                with cursor.copy("COPY t FROM STDIN") as copy:
                    for row in rows:
                        copy.write_row([v or None for v in row] + [path.name])


def ours(source: Path, to: str) -> None:
    (Read(str(source)) | Write(f"{to}#t")).run_sync()


def drop(url: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        for name in ("t", "_aiopipe_units", "_aiopipe_pipelines", "_aiopipe_rejects"):
            connection.execute(f"DROP TABLE IF EXISTS {name}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", default="")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        source, database = root / "in", root / "x.db"
        source.mkdir()
        make(source)

        def clean() -> None:
            if options.to:
                drop(options.to)
            for left in root.glob("x.db*"):
                left.unlink()

        jobs: dict[str, Callable[[], None]] = {
            "aiopipe": lambda: ours(source, options.to or f"sqlite:///{database}"),
            "by hand": lambda: by_hand_postgres(source, options.to) if options.to else by_hand_sqlite(source, database),
        }
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
        for run in range(options.runs + 1):
            for name, job in jobs.items():
                clean()
                begun, cpu = time.perf_counter(), time.process_time()
                job()
                if run:  # the first one imports
                    took[name].append((time.perf_counter() - begun, time.process_time() - cpu))
        clean()
    for name, times in took.items():
        wall, cpu = (statistics.median(t[i] for t in times) for i in (0, 1))
        print(f"{name}: {FILES * ROWS / wall / 1000:,.0f}k rows/s, {cpu:.2f} s of CPU")
    ratios = [b[0] / a[0] for a, b in zip(took["aiopipe"], took["by hand"], strict=True)]
    print(f"aiopipe is {statistics.median(ratios):.2f} times as fast")


if __name__ == "__main__":
    main()
