"""aiopipe as a program would use it, with default settings: outputs are synced to the disk before they appear.

Nothing is imported ahead: a run does that itself, while its workers start. What it takes without start-up is what its
report says.
"""

from __future__ import annotations

import functools
import os
import signal
from typing import Any

from aiopipe import Derive, Filter, Map, Read, Report, Select, Stream, Write
from aiopipe.memory import keep_freed_memory
from benchmarks.functions import SELECTED, clean
from benchmarks.tools import serve


def late(source: str) -> Stream:
    return Read(source, null="NA") | Filter("arr_delay > 30")


def gain(source: str) -> Stream:
    return late(source) | Derive(gain="dep_delay - arr_delay")


def run(stream: Stream, target: str, **job: Any) -> dict[str, Any]:
    report: Report = (stream | Write(target + "/")).run_sync(**job)
    return {
        "seconds": report.seconds,
        "read": report.read,
        "stages": {s.name: round(s.seconds, 3) for s in report.stages},
        "channels": {c.name: (round(c.waited_to_put, 3), round(c.waited_to_get, 3)) for c in report.channels},
        "run": round(report.seconds, 3),
    }


def single(source: str, target: str, workers: int | None) -> dict[str, Any]:
    return run(late(source), target, workers=workers)


def to_stdout(source: str, target: str) -> dict[str, Any]:
    """Every record, to whoever reads our standard output; what is printed last is not part of it."""
    (Read(source, null="NA") | Filter("month > 0") | Write("-")).run_sync()
    raise SystemExit(0)


def careless(source: str, target: str) -> dict[str, Any]:
    """The filter without ledger and without a single sync: what durability costs is the difference."""
    import aiopipe.storage.write as write

    os.fsync = lambda fd: None
    write._sync_file_system = lambda directory: None
    return run(late(source), target, ledger=False)


def killed(source: str, target: str) -> dict[str, Any]:
    """The filter, killed when more than 85 % of the only file is in the ledger."""
    from aiopipe.job.ranges import Ranges

    [file] = os.scandir(source)
    keep, size = Ranges.keep, file.stat().st_size

    def last(self: Any, file: Any, reached: Any) -> None:
        keep(self, file, reached)
        if reached.byte > 0.85 * size:
            self._ledger.wait()
            os.kill(os.getpid(), signal.SIGKILL)

    Ranges.keep = last  # type: ignore[method-assign]
    return run(late(source), target, ledger=True)


JOBS = {
    "killed": killed,
    "careless": careless,
    "careful": lambda s, t: run(late(s), t, ledger=True),
    "to-stdout": to_stdout,
    "filter": lambda s, t: run(late(s), t),
    "derive": lambda s, t: run(gain(s), t),
    "select": lambda s, t: run(gain(s) | Select(*SELECTED), t),
    "rows": lambda s, t: run(Read(s) | Map(clean, placement="process"), t, workers=2),
    "rows-thread": lambda s, t: run(Read(s) | Map(clean), t),
    "single-1": functools.partial(single, workers=1),
    "single-2": functools.partial(single, workers=2),
}

if __name__ == "__main__":
    keep_freed_memory()  # this process is ours, as the command line's is
    serve(JOBS)
