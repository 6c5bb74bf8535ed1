"""What a run did, in numbers that add up: read + added = written + filtered + rejected (+ unfinished)."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiopipe.job.debug import DebugReport

__all__ = ["ChannelReport", "Report", "StageReport", "counted"]


def counted(number: int, what: str) -> str:
    """A number with its noun: `1 file`, `6,099 records`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


@dataclass(slots=True)
class StageReport:
    """One stage: records in, out and set aside, and the seconds it worked (added over its workers)."""

    name: str
    taken: int = 0
    given: int = 0
    rejected: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ChannelReport:
    """One edge: parcels and bytes that went through, and seconds its ends waited for each other."""

    name: str
    items: int
    nbytes: int
    waited_to_put: float
    waited_to_get: float
    peak_items: int
    peak_bytes: int


@dataclass(slots=True)
class Report:
    """The outcome of a run.

    read, written, filtered, rejected: records (or items). added: those a generator gave beyond what it took.
    unfinished: records of files that a run asked to stop left out. files: inputs read to their end; outputs:
    files made visible. bytes_read, bytes_written, seconds: as they say. interrupted: the run was asked to stop
    before its input ended. skipped: paths passed over with the reason. items: what `collect` kept. unchanged: inputs
    that an earlier run finished, and this one did not read. kept: records that were set aside of those. pruned:
    outputs removed because their input is gone. debug: what a run with debug=True found in the
    event loop.
    """

    read: int = 0
    written: int = 0
    filtered: int = 0
    rejected: int = 0
    added: int = 0
    unfinished: int = 0
    files: int = 0
    outputs: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    unchanged: int = 0
    kept: int = 0
    pruned: int = 0
    interrupted: bool = False
    stages: list[StageReport] = field(default_factory=list)
    channels: list[ChannelReport] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    items: list[Any] = field(default_factory=list)
    debug: DebugReport | None = None

    @property
    def balanced(self) -> bool:
        """True when every record is accounted for, and each stage's output is the next one's input."""
        chain = [s for s in self.stages if s.taken or s.given or s.rejected]
        joined = all(a.given == b.taken for a, b in zip(chain[:-1], chain[1:], strict=True))
        gone = self.written + self.filtered + self.rejected + self.unfinished
        return joined and self.read + self.added == gone

    @property
    def slowest(self) -> StageReport | None:
        """The stage that worked longest."""
        return max(self.stages, key=lambda s: s.seconds, default=None)

    @property
    def rate(self) -> float:
        """Input bytes a second."""
        return self.bytes_read / self.seconds if self.seconds else 0.0

    def to_json(self) -> str:
        """The report as a JSON object, without the collected items."""
        data = dataclasses.asdict(dataclasses.replace(self, items=[]))
        del data["items"]
        return json.dumps(data, indent=2, ensure_ascii=False)

    def __str__(self) -> str:
        files = counted(self.files, "file")
        added = f" + {self.added:,} added" if self.added else ""
        line = (
            f"{files}: {counted(self.read, 'record')} read{added} = {self.written:,} written"
            f" + {self.filtered:,} filtered + {self.rejected:,} rejected"
            + (f" + {self.unfinished:,} unfinished" if self.unfinished else "")
        )
        rate = self.rate / 1e6
        speed = f"{self.bytes_read / 1e6:,.1f} MB in {self.seconds:.2f} s ({rate:,.{0 if rate >= 10 else 1}f} MB/s)"
        slowest = self.slowest
        tail = f"; slowest stage {slowest.name} ({slowest.seconds:.2f} s)" if slowest else ""
        text = f"{line}\n{speed}{tail}"
        if self.unchanged:
            text += f"\n{counted(self.unchanged, 'file')} unchanged, skipped"
        if self.pruned:
            text += (
                f"\n{counted(self.pruned, 'output')} removed: {'its' if self.pruned == 1 else 'their'} input is gone"
            )
        if self.skipped:
            text += f"\n{len(self.skipped):,} entries passed over, first {self.skipped[0][0]}: {self.skipped[0][1]}"
        if self.interrupted:
            text += "\ninterrupted: files that were not finished have no output; run it again for the rest"
        return text
