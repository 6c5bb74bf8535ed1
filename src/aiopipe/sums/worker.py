"""A worker process: jobs in on standard input, answers out on standard output, nothing else.

It imports little (no asyncio, no click), so that it is hashing some 20 ms after it was asked for. It ignores
Ctrl-C, which the terminal sends to it as well: the parent decides, and closing the input ends it, at the next
block of a large file at the latest.
"""

from __future__ import annotations

import gc
import os
import signal

from aiopipe.sums.frames import Wire, plain
from aiopipe.sums.runners import Work, make_reader, make_wrap, pieces_of

__all__ = ["main"]


def main() -> None:
    """Serve until the input ends. Does not return."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()  # nothing here makes cycles, and counting tuples costs 5 %
    wire = Wire(0, 1)
    work = Work(*wire.receive())
    reader, wrap = make_reader(work, stopped=wire.abandoned), make_wrap(work)
    while (job := wire.receive()) is not None:
        paths, follow, alone, algorithms = job
        outcome = reader.run(paths, follow=follow, alone=alone, algorithms=algorithms)
        pieces = [(piece.start, piece.files, plain(piece.value)) for piece in pieces_of(outcome.results, wrap)]
        try:
            wire.send((pieces, outcome.seconds, outcome.begun_ns))
        except OSError:
            break  # the parent is gone
    os._exit(0)
