"""What must come out: the input's own lines, chosen by Python's csv module. Counts and SHA-256 of every output.

python -m benchmarks.tools.reference JOB SOURCE
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.functions import SELECTED, clean
from benchmarks.tools import pairs


def kept(data: str, job: str) -> Iterator[str]:
    """The lines of the output: each record's own bytes, with what the job adds behind them."""
    lines = data.splitlines(keepends=True)  # no field of this data holds a line end
    rows = csv.reader(io.StringIO(data, newline=""))
    names = next(rows)
    arrived, left = names.index("arr_delay"), names.index("dep_delay")
    pick = [names.index(name) for name in SELECTED[:-1]]
    tail = {"filter": "", "derive": ",gain", "rows": ",late", "select": ""}[job]
    yield ",".join(SELECTED) + "\n" if job == "select" else lines[0][:-1] + tail + "\n"
    for line, row in zip(lines[1:], rows, strict=True):
        if job == "rows":
            yield ",".join(clean(dict(zip(names, row, strict=True))).values()) + "\n"
        elif row[arrived] != "NA" and int(row[arrived]) > 30:
            if job == "filter":
                yield line
                continue
            gain = str(int(row[left]) - int(row[arrived]))
            yield ",".join([row[i] for i in pick] + [gain]) + "\n" if job == "select" else f"{line[:-1]},{gain}\n"


def main() -> None:
    job, source = sys.argv[1:3]
    answer: dict[str, Any] = {"records": 0, "read": 0, "sums": {}}
    for path, name in pairs(source, ""):
        with open(path, newline="") as file:
            data = file.read()
        lines = list(kept(data, job))
        answer["records"] += len(lines) - 1
        answer["read"] += data.count("\n") - 1
        answer["sums"][name] = hashlib.sha256("".join(lines).encode()).hexdigest()
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
