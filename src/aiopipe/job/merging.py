"""The sink of a replay: takes what became of rejected records, and replaces outputs by such that have them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from aiopipe.codec.dialect import Dialect
from aiopipe.codec.encode import Encoded
from aiopipe.errors import OutputError
from aiopipe.job.again import Again
from aiopipe.job.destination import Destination
from aiopipe.job.ledger import Output
from aiopipe.job.mends import Mend, begin_mend, finish_mend
from aiopipe.job.rejects import row_of
from aiopipe.job.report import counted
from aiopipe.job.splice import Shape, spliced
from aiopipe.model import Reject, display_path
from aiopipe.stage import Outcome, Sink
from aiopipe.storage.settle import settled
from aiopipe.storage.version import Checksum
from aiopipe.storage.write import Temporary

if TYPE_CHECKING:
    from aiopipe.stage import Context

__all__ = ["Merging"]


@dataclass(slots=True)
class _Passed:
    """What passed of a file's records: bytes and number of records, by the part that each was."""

    parts: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    like: Encoded | None = None  # one that has records, and so the columns of the output


class Merging(Sink):
    """Replaces outputs in the place of `sink`.

    found: the files with their records; rejected: which of these are rejected again, by file and part, filled before
    the file's last part comes. mended: what is mended in the pipeline of each file, in words.
    """

    word: ClassVar[str] = "write"

    def __init__(
        self,
        sink: Sink,
        found: Sequence[Again],
        rejected: Mapping[tuple[int, int], Reject],
        mended: Mapping[int, str],
        destination: Destination,
    ) -> None:
        state: dict[str, Any] = {
            "sink": sink,
            "found": {one.file.index: one for one in found},
            "rejected": rejected,
            "mended": mended,
            "destination": destination,
            "written": 0,
            "outputs": 0,
        }
        self.__dict__.update(state)

    if TYPE_CHECKING:
        sink: Sink
        found: dict[int, Again]
        rejected: Mapping[tuple[int, int], Reject]
        mended: Mapping[int, str]
        destination: Destination
        written: int
        outputs: int

    async def consume(self, parcels: AsyncIterator[Any], context: Context) -> Outcome:
        """Merge file by file, in the order of the input."""
        passed: dict[int, _Passed] = {}
        async for parcel in parcels:
            for segment, body, count in zip(parcel.segments, parcel.bodies, parcel.counts, strict=True):
                mine = passed.setdefault(segment.file.index, _Passed())
                if count:
                    mine.like = parcel
                    mine.parts[segment.part] = (bytes(body), count)
                if segment.last and not segment.more:
                    del passed[segment.file.index]
                    await settled(context.io(self._merge, self.found[segment.file.index], mine))
        return Outcome()

    def _merge(self, one: Again, passed: _Passed) -> None:
        """Have the output and the ledger hold what passed. Blocks."""
        mend, inserts = self._mend(one, passed)
        ledger = self.destination.ledger
        if not inserts:
            ledger.submit(finish_mend(mend, mend.unit.outputs))
        else:
            made = self._replaced(mend, inserts, passed)
            ledger.submit(finish_mend(mend, [made]))
            self.__dict__["outputs"] += 1
        self.__dict__["written"] += mend.gained

    def _mend(self, one: Again, passed: _Passed) -> tuple[Mend, list[tuple[int, bytes]]]:
        """What becomes of the unit, and what goes into its output, each behind how many records."""
        assert one.unit is not None
        parts = {entry.place: i for i, entry in enumerate(one.entries)}
        gained, left = 0, []
        inserts: list[tuple[int, bytes]] = []
        for place, row in enumerate(one.rows):
            part = parts.get(place)
            reject = None if part is None else self.rejected.get((one.file.index, part))
            if reject is not None:
                # What somebody tried in its place stays in the rejects file, beside what is wrong with it.
                row = row_of(replace(reject, raw=one.entries[part].raw)) | {"before": row["before"]}  # type: ignore[index]
            if part is None or reject is not None:
                left.append({**row, "before": row["before"] + gained})
            elif part in passed.parts:
                data, count = passed.parts[part]
                inserts.append((row["before"], data))
                gained += count
        why = f"{counted(len(one.rows) - len(left), 'record')} that had been set aside passed in a replay"
        if mended := self.mended[one.file.index]:
            why += f" ({mended})"
        return Mend(one.unit, gained, tuple(left), why), inserts

    def _replaced(self, mend: Mend, inserts: list[tuple[int, bytes]], passed: _Passed) -> Output:
        """The output, with the records in it, under its name. OutputError where it is not what it was."""
        [output] = mend.unit.outputs
        path = os.path.join(self.destination.path, os.fsdecode(output.path))
        assert passed.like is not None
        checksum = Checksum()
        temporary = Temporary(path, hashed=True)
        try:
            if mend.unit.given:
                shape = self._shape(passed.like, mend)
                for piece in spliced(path, shape, inserts, checksum):
                    temporary.write(piece)
            else:  # perhaps a header, of columns that no record ever had
                for _ in spliced(path, Shape(b"", 0, None), [], checksum):
                    pass
                for data in (passed.like.head, *(data for _, data in inserts)):
                    temporary.write(data)
            if checksum.digest() != output.blake3:
                raise OutputError(
                    f"{display_path(path)} does not hold what was written",
                    stage="write",
                    hint="run the pipeline again: it makes such outputs anew",
                )
            ledger = self.destination.ledger
            temporary.commit(lambda: ledger.wait(ledger.submit(begin_mend(mend, temporary.blake3))))
        except BaseException:
            temporary.discard()
            raise
        made = temporary.made()
        return Output(output.path, made.version, made.blake3)

    def _shape(self, like: Encoded, mend: Mend) -> Shape:
        """How the output is written."""
        if not like.head and not like.names:
            return Shape(b"", 0, None)
        style = getattr(self.sink, "format", None)
        if style == "jsonl":
            return Shape(b"", 0, None)
        one = next(one for one in self.found.values() if one.unit is mend.unit)
        delimiter = {"tsv": "\t", "csv": ","}.get(style or "", one.dialect.delimiter)
        anew = delimiter != one.dialect.delimiter
        quote = one.dialect.quote or ('"' if anew else "")
        return Shape(like.head, len(like.names), Dialect(delimiter, quote, one.dialect.encoding, max_record=1 << 30))
