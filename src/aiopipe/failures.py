"""The files that have failed, in a run that goes on without them.

A file that cannot be used, or that a function fails on, is a unit of its own where every file has its own output:
nothing that is made of another one depends on it. So the run may go on. Whoever finds a file to have failed says
so here and sends an empty end of the file on its way, so that stages with memory see it end; the sink drops what
it has of it. Where the run is not to go on, `add` raises the error instead, and everything is as it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from aiopipe.errors import AiopipeError, UsageError, WorkerError
from aiopipe.model import FileRef

__all__ = ["Failures"]

_AGAIN = 1 << 39  # more files than a source has; those of the next one are numbered from 2^40 on


@dataclass(slots=True, eq=False, repr=False)
class Failures:
    """keep_going: whether the run goes on. workers: whether it does, at least, where a worker was lost. retries: how
    often an attempt that was lost is made again.

    units: what became of them, by the file's index. Added to in any thread, which a dict bears. records: those that
    a stage with memory took, and gave up on.

    rereads: whether a file that changed while it was read may be read again later in the same run, under another index.
    dropped: those that were, by the index of the attempt that is lost; what comes of it is of no use.
    """

    keep_going: bool = False
    workers: bool = False
    retries: int = 1
    units: dict[int, tuple[FileRef, AiopipeError]] = field(default_factory=dict)
    records: int = 0
    rereads: bool = False
    dropped: dict[int, FileRef] = field(default_factory=dict)

    def again(self, file: FileRef) -> FileRef | None:
        """The file as its next attempt, which goes behind all others; None where it may not have one."""
        lost = sum(other.path == file.path for other in self.dropped.values())
        if not self.rereads or lost >= self.retries:
            return None
        self.dropped[file.index] = file
        return replace(file, index=_AGAIN + len(self.dropped))

    def goes_on(self, error: Exception) -> bool:
        """Whether the run goes on without the files that failed in this way."""
        if isinstance(error, UsageError) or not isinstance(error, AiopipeError):
            return False
        return self.keep_going or (self.workers and isinstance(error, WorkerError))

    def add(self, files: Iterable[FileRef], error: AiopipeError) -> None:
        """These files have failed; raises the error where the run does not go on, or was asked for wrongly."""
        if not self.goes_on(error):
            raise error
        for file in files:
            self.units.setdefault(file.index, (file, error))

    def __contains__(self, index: int) -> bool:
        """Whether the file with this index has failed, or is given up in favour of another attempt."""
        return index in self.units or index in self.dropped

    def errors(self) -> list[AiopipeError]:
        """Each cause once, in the order of the input."""
        return list(dict.fromkeys(self.units[i][1] for i in sorted(self.units)))
