"""Where in its file's output a record that was set aside would have stood.

The answer is a number: how many records of the output stand before it. It is known only while the parts of the file
pass by, because afterwards nobody can tell which of the input's records an output holds: filters leave some out. It is
kept in the ledger, and `replay` puts what passes later in that place.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from aiopipe.arrays import Ints
from aiopipe.batch import Segment
from aiopipe.codec.encode import Encoded
from aiopipe.model import Reject
from aiopipe.plan import Plan
from aiopipe.stage import Apply
from aiopipe.tuples import NamedTuple

__all__ = ["Ranks", "unlike_records"]


def unlike_records(plan: Plan) -> str:
    """The first stage that does not do with each record what it would do with it alone, in order; "" for none."""
    for step in plan.every_step():
        stage = step.stage
        if step.shape not in ("apply", "flow", "divide", "split", "merge"):
            continue
        if isinstance(stage, _calling()):
            alone = stage.ordered and not getattr(stage, "is_generator", False)  # type: ignore[attr-defined]
        else:
            # A user's own Apply gets whole batches, and may do what it likes with them.
            alone = isinstance(stage, Apply) and type(stage).__module__.startswith("aiopipe.")
        if not alone:
            return step.label
    return ""


def _calling() -> tuple[type, ...]:
    """The stages that call something for each record, of those that are imported: there are none of the others."""
    both = (("aiopipe.stages.map", "Map"), ("aiopipe.stages.fetch", "Fetch"))
    return tuple(getattr(sys.modules[module], name) for module, name in both if module in sys.modules)


class _Which(NamedTuple):
    """Which records of a chunk came through: see Batch and Body."""

    rows: Ints | None
    numbers: Ints | None
    records: int

    def places(self) -> Ints:
        """Their places among all records of the chunk, in order."""
        if self.rows is None:
            return np.arange(self.records) if self.numbers is None else self.numbers
        return self.rows if self.numbers is None else self.numbers[self.rows]


class _Part(NamedTuple):
    """Records of one file in one parcel: those from `start` to `stop` among the parcel's."""

    segment: Segment
    which: _Which
    start: int
    stop: int


class Ranks:
    """Takes every parcel that reaches the sink, in order; asked about a reject before the next file comes.

    It holds the parts of the file in hand that somebody may still ask about, and no bytes of records.
    """

    def __init__(self) -> None:
        self._parts: dict[int, list[_Part]] = {}  # by the file's index
        self._before: dict[int, int] = {}  # records of it in parts that are gone from there

    def begin(self, number: int, given: int) -> None:
        """The file with this number is gone on with: its output has `given` records already."""
        self._before[number] = given

    def note(self, parcel: Any) -> None:
        """A parcel has reached the sink."""
        if not isinstance(parcel, Encoded) or not parcel.segments:
            return
        first = parcel.segments[0].file.index
        for index in [i for i in self._parts if i < first]:  # they are complete
            del self._parts[index]
            self._before.pop(index, None)
        which, at = _Which(parcel.rows, parcel.numbers, len(parcel)), 0
        for segment, count in zip(parcel.segments, parcel.counts, strict=True):
            parts = self._parts.setdefault(segment.file.index, [])
            self._fold(segment, parts)
            parts.append(_Part(segment, which, at, at + count))
            at += count

    def _fold(self, segment: Segment, parts: list[_Part]) -> None:
        """Of parts that lie two before this one only the number of records matters: their rejects have been asked."""
        index = segment.file.index
        while parts and parts[0].segment.part < segment.part - 1:
            gone = parts.pop(0)
            self._before[index] = self._before.get(index, 0) + gone.stop - gone.start

    def of(self, reject: Reject) -> int:
        """How many records stand before this one in the output of its file; -1 where that is not known any more.

        Its position still counts from its part's first record.
        """
        parts = self._parts.get(reject.file.index)
        number = reject.position.record
        if not parts or number is None or (parts[0].segment.part > reject.part and reject.file.index in self._before):
            return -1
        before = self._before.get(reject.file.index, 0)
        for part in parts:
            if part.segment.part < reject.part:
                before += part.stop - part.start
            elif part.segment.part == reject.part:
                mine = part.which.places()[part.start : part.stop] - part.segment.first
                before += int(np.searchsorted(mine, number - 1))
        return before
