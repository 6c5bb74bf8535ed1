"""A worker process: jobs in on standard input, answers out on standard output, nothing else.

It imports little (no asyncio, no click), so that one that was spawned is hashing some 20 ms after it was asked for.
It ignores Ctrl-C, which the terminal sends to it as well: the parent decides, and closing the input ends it, at the
next block of a large file at the latest.
"""

from __future__ import annotations

import gc
import os

from aiopipe.signals import signals
from aiopipe.sums.frames import Wire, plain
from aiopipe.sums.runners import Work, make_reader, make_wrap, pieces_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["main", "serve"]


def main() -> NoReturn:
    """Serve until the input ends."""
    serve(0, 1)


def serve(source: int, target: int) -> NoReturn:
    """Do what comes on `source` and answer on `target` until there is no more. Does not return."""
    signals.signal(signals.SIGINT, signals.SIG_IGN)
    gc.disable()  # nothing here makes cycles, and counting tuples costs 5 %
    wire = Wire(source, target)
    given = wire.receive()
    if given is None:
        os._exit(0)
    work = Work(*given)
    # Made with the first job: by then the parent has made the cache's file.
    reader, wrap = None, make_wrap(work)
    while (job := wire.receive()) is not None:
        paths, follow, alone, algorithms, again = job
        reader = reader or make_reader(work, stopped=wire.abandoned)
        # A mapped file that is cut short kills who reads it. That must never be the host, and once is enough.
        reader.maps = not again
        outcome = reader.run(paths, follow=follow, alone=alone, algorithms=algorithms)
        pieces = [(piece.start, piece.files, plain(piece.value)) for piece in pieces_of(outcome, paths, wrap)]
        try:
            wire.send((pieces, outcome.seconds, outcome.begun_ns))
        except OSError:
            break  # the parent is gone
    os._exit(0)
