"""What a run did, in numbers that add up: read + added + copied = written + filtered + rejected (+ unfinished).

copied: what a tee gives to its second branch and to those after it. Each branch adds up as well: what it was given +
added = written + filtered + rejected (+ unfinished).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from aiopipe.job.debug import DebugReport

__all__ = ["BranchReport", "ChannelReport", "FailedUnit", "Report", "StageReport", "counted"]


def counted(number: int, what: str) -> str:
    """A number with its noun: `1 file`, `6,099 records`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


@dataclass(slots=True)
class StageReport:
    """One stage: records in, out and set aside, and the seconds it worked (added over its workers).

    counts: what else it counted: "retried" (calls made again), "kept" (records left as they were, because their
    call failed), and those of `fetch`. failed: records that it gave up on, with their file.
    """

    name: str
    taken: int = 0
    given: int = 0
    rejected: int = 0
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    failed: int = 0


@dataclass(frozen=True, slots=True)
class FailedUnit:
    """A file that failed, in a run that went on without it: its path, and why, with what to do."""

    path: str
    reason: str


@dataclass(slots=True)
class BranchReport:
    """An input of a merge, or a branch of a tee or a route, whose own branches are counted in it.

    given: records that the split gave to the branch, also those that it had no use for any more. The other numbers
    are those of Report, of this branch alone; an input has none of them.
    """

    name: str
    given: int = 0
    written: int = 0
    filtered: int = 0
    rejected: int = 0
    added: int = 0
    copied: int = 0
    grouped: int = 0
    unfinished: int = 0
    outputs: int = 0
    bytes_written: int = 0
    stages: list[StageReport] = field(default_factory=list)
    inputs: list[BranchReport] = field(default_factory=list)
    branches: list[BranchReport] = field(default_factory=list)
    items: list[Any] = field(default_factory=list)

    @property
    def untaken(self) -> int:
        """Records that none of the branches took."""
        return _untaken(self)

    @property
    def balanced(self) -> bool:
        """True when every record that the branch was given is accounted for."""
        gone = self.written + self.filtered + self.rejected + self.unfinished + self.grouped
        return _joined(self, self.given) and self.given + self.added + self.copied == gone

    def __str__(self) -> str:
        begun = f"{self.name}: {self.given:,} given" + (f" + {self.copied:,} copied" if self.copied else "")
        return begun + _sums(self)


def _sums(report: BranchReport | Report) -> str:
    return (
        (f" + {report.added:,} added" if report.added else "")
        + f" = {report.written:,} written + {report.filtered:,} filtered + {report.rejected:,} rejected"
        + (f" + {report.unfinished:,} unfinished" if report.unfinished else "")
        + (f" + {report.grouped:,} within batches" if report.grouped > 0 else "")
        + (f" - {-report.grouped:,} out of batches" if report.grouped < 0 else "")
    )


def _untaken(report: BranchReport | Report) -> int:
    split = report.stages[-1] if report.branches and report.stages else StageReport("")
    return split.taken - split.given - split.rejected


def _joined(report: BranchReport | Report, given: int | None) -> bool:
    """Whether each stage's output is the next one's input, at forks too."""
    chain = [s for s in report.stages if s.taken or s.given or s.rejected]
    if report.inputs and chain:
        given = sum(one.stages[-1].given for one in report.inputs)
    if given is not None and (chain[0].taken if chain else 0) != given:
        return False
    shared = sum(b.given for b in report.branches)
    return (
        all(a.given == b.taken for a, b in zip(chain[:-1], chain[1:], strict=True))
        and (not report.branches or shared == (chain[-1].given if chain else 0) + _own_copies(report))
        and all(b.balanced for b in report.branches)
        and all(_joined(one, None) for one in report.inputs)
    )


def _own_copies(report: BranchReport | Report) -> int:
    """What the last stage of this line copied, without its branches' own copies."""
    return report.copied - sum(b.copied for b in report.branches)


def every_report(report: BranchReport | Report) -> Iterator[BranchReport | Report]:
    """The report, its inputs and its branches, and theirs."""
    for one in report.inputs:
        yield from every_report(one)
    yield report
    for one in report.branches:
        yield from every_report(one)


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
    copied: what tees gave to branches besides the first. grouped: items that stand in batches, less the batches.
    unfinished: records of files that failed, or that a run asked to stop left out. files: inputs read to their
    end; outputs: files made visible. bytes_read, bytes_written, seconds: as they say. unchanged: inputs that an
    earlier run finished, and this one did not read. resumed: large files that an earlier run had begun, and this one
    went on with; read_before: the records of theirs that were done before, and are in no other number. rejected_before:
    records that were set aside of what was passed over. paused: files not finished that the next run can go on with.
    pruned: outputs removed because their input is gone. interrupted: the run was asked to stop before its input ended.
    skipped: paths passed over with the reason. failed: files that the run went on without. reread: how often a file
    was read once more because it had changed meanwhile; the records of lost attempts count as unfinished. items: what
    `collect` kept.
    stages: of the trunk; inputs and branches have their own. debug: what a run with debug=True found in the event
    loop.
    """

    read: int = 0
    written: int = 0
    filtered: int = 0
    rejected: int = 0
    added: int = 0
    copied: int = 0
    grouped: int = 0
    unfinished: int = 0
    files: int = 0
    outputs: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    unchanged: int = 0
    resumed: int = 0
    read_before: int = 0
    rejected_before: int = 0
    paused: int = 0
    pruned: int = 0
    interrupted: bool = False
    reread: int = 0
    stages: list[StageReport] = field(default_factory=list)
    inputs: list[BranchReport] = field(default_factory=list)
    branches: list[BranchReport] = field(default_factory=list)
    channels: list[ChannelReport] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    failed: list[FailedUnit] = field(default_factory=list)
    items: list[Any] = field(default_factory=list)
    debug: DebugReport | None = None

    @property
    def untaken(self) -> int:
        """Records that none of the branches took."""
        return _untaken(self)

    @property
    def balanced(self) -> bool:
        """True when every record is accounted for, and each stage's output is the next one's input."""
        gone = self.written + self.filtered + self.rejected + self.unfinished + self.grouped
        return _joined(self, None) and self.read + self.added + self.copied == gone

    @property
    def retried(self) -> int:
        """Calls that were made again because they had failed."""
        return sum(s.counts.get("retried", 0) for one in every_report(self) for s in one.stages)

    @property
    def kept(self) -> int:
        """Records left as they were because their call failed (on_error="keep")."""
        return sum(s.counts.get("kept", 0) for one in every_report(self) for s in one.stages)

    @property
    def slowest(self) -> StageReport | None:
        """The stage that worked longest."""
        return max((s for r in every_report(self) for s in r.stages), key=lambda s: s.seconds, default=None)

    @property
    def rate(self) -> float:
        """Input bytes a second."""
        return self.bytes_read / self.seconds if self.seconds else 0.0

    def to_json(self) -> str:
        """The report as a JSON object, without the collected items."""
        data = _without_items(dataclasses.asdict(_bare(self)))
        return json.dumps(data, indent=2, ensure_ascii=False)

    def __str__(self) -> str:
        files = counted(self.files, "file")
        copied = f" + {self.copied:,} copied" if self.copied else ""
        line = f"{files}: {counted(self.read, 'record')} read{copied}" + _sums(self)
        line += "".join(f"\n{'  ' * deep}{branch}" for deep, branch in _every_branch(self))
        rate = self.rate / 1e6
        speed = f"{self.bytes_read / 1e6:,.1f} MB in {self.seconds:.2f} s ({rate:,.{0 if rate >= 10 else 1}f} MB/s)"
        slowest = self.slowest
        tail = f"; slowest stage {slowest.name} ({slowest.seconds:.2f} s)" if slowest else ""
        text = f"{line}\n{speed}{tail}"
        if self.unchanged:
            text += f"\n{counted(self.unchanged, 'file')} unchanged, skipped"
        if self.resumed:
            before = counted(self.read_before, "record")
            text += f"\n{counted(self.resumed, 'file')} resumed, behind {before} done before"
        if self.pruned:
            text += (
                f"\n{counted(self.pruned, 'output')} removed: {'its' if self.pruned == 1 else 'their'} input is gone"
            )
        for stage in (s for one in every_report(self) for s in one.stages):
            if stage.counts:
                told = ", ".join(f"{number:,} {what}" for what, number in sorted(stage.counts.items()))
                text += f"\n{stage.name}: {told}"
        if self.skipped:
            text += f"\n{len(self.skipped):,} entries passed over, first {self.skipped[0][0]}: {self.skipped[0][1]}"
        if self.reread:
            text += f"\n{counted(self.reread, 'file')} read again: changed while read"
        if self.failed:
            done = counted(self.outputs, "output")
            text += f"\n{counted(len(self.failed), 'file')} failed and left no new output; {done} made of the others"
        if self.interrupted:
            text += "\ninterrupted: files that were not finished have no output; run it again for the rest"
            if self.paused:
                text += f"; {counted(self.paused, 'file')} will resume in the middle"
        return text


def _every_branch(report: BranchReport | Report, deep: int = 1) -> Iterator[tuple[int, BranchReport | str]]:
    """The branches and theirs, each with how far in it stands; and what none of them took."""
    for branch in report.branches:
        yield deep, branch
        yield from _every_branch(branch, deep + 1)
    if report.untaken:
        yield deep, f"taken by no branch: {report.untaken:,} filtered"


R = TypeVar("R", Report, BranchReport)


def _bare(report: R) -> R:
    """The report without the collected items, which nobody should copy."""
    inputs, branches = map(_bare, report.inputs), map(_bare, report.branches)
    return dataclasses.replace(report, items=[], inputs=list(inputs), branches=list(branches))


def _without_items(data: dict[str, Any]) -> dict[str, Any]:
    del data["items"]
    for one in (*data["inputs"], *data["branches"]):
        _without_items(one)
    return data
