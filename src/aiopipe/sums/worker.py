"""A worker process: jobs in on standard input, answers out on standard output, nothing else.

It imports little (no asyncio, no click), so that it is hashing some 20 ms after it was asked for. It ignores
Ctrl-C, which the terminal sends to it as well: the parent decides, and closing the input ends it.
"""

from __future__ import annotations

import gc
import os
import queue
import signal
import threading
from typing import Any

from aiopipe.sums.runners import Work, make_reader, make_wrap, pieces_of, plain, receive, send

__all__ = ["main"]


def main() -> None:
    """Serve until the input ends. Does not return."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()  # nothing here makes cycles, and counting tuples costs 5 %
    source = os.fdopen(os.dup(0), "rb", buffering=0)
    target = os.fdopen(os.dup(1), "wb", buffering=0)
    work = Work(*receive(source))
    reader, wrap = make_reader(work), make_wrap(work)
    jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
    # A thread of its own takes jobs in, or both ends could be stuck writing to full pipes.
    threading.Thread(target=_take, args=(source, jobs), daemon=True).start()
    while True:
        paths, follow, alone, algorithms = jobs.get()
        outcome = reader.run(paths, follow=follow, alone=alone, algorithms=algorithms)
        pieces = [(piece.start, piece.files, plain(piece.value)) for piece in pieces_of(outcome.results, wrap)]
        try:
            send(target, (pieces, outcome.seconds, outcome.begun_ns))
        except OSError:
            os._exit(1)  # the parent is gone


def _take(source: Any, jobs: queue.SimpleQueue[Any]) -> None:
    while (job := receive(source)) is not None:
        jobs.put(job)
    os._exit(0)  # the parent is gone or has enough: a large file in progress is of no use to anyone
