"""What `why` and `verify` answer, for directories and for tables."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from aiopipe.job.ledger import Unit
from aiopipe.job.report import counted

__all__ = ["Answer", "Verified", "last_done"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the next run of the same pipeline would do about a unit. reason: a clause; did: what the last one did."""

    path: str
    up_to_date: bool
    reason: str
    did: str = ""

    def __str__(self) -> str:
        word = "up to date" if self.up_to_date else "will be done"
        return f"{self.path}: {word}: {self.reason}" + (f" ({self.did})" if self.did else "")


@dataclass(slots=True)
class Verified:
    """What `verify` read. problems: a line for each output that is not what was written."""

    outputs: int = 0
    nbytes: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        bad = f"{counted(len(self.problems), 'output')} damaged; run the job again to make them anew"
        return f"{counted(self.outputs, 'output')} read, {bad if self.problems else 'all as they were written'}"


def last_done(unit: Unit) -> str:
    """When a unit was done, and why; where it was not, why it was begun."""
    if not unit.done_at:
        return f"begun because: {unit.why}"
    done = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unit.done_at))
    return f"done {done} because: {unit.why}"
