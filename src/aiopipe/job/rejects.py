"""Records set aside: their places made absolute, and a file that holds them exactly."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aiopipe.batch import Segment
from aiopipe.errors import AiopipeError, FunctionError, RecordError, RequestError, WorkerError
from aiopipe.model import Reject, display_path
from aiopipe.storage.settle import settled
from aiopipe.storage.write import Temporary

if TYPE_CHECKING:
    from aiopipe.job.units import Units

__all__ = ["COLUMNS", "LedgerRejects", "Places", "RejectsFile", "error_of", "read_rejects", "row_of"]

COLUMNS = ("path", "line", "record", "byte", "stage", "reason", "raw", "raw_encoding")
_KINDS: dict[str, type[AiopipeError]] = {
    "record": RecordError,
    "function": FunctionError,
    "request": RequestError,
    "worker": WorkerError,
}


def error_of(reject: Reject) -> AiopipeError:
    """The error that a run without a rejects file ends with."""
    error = _KINDS[reject.kind](reject.reason, position=reject.position, stage=reject.stage, hint=reject.hint or None)
    if reject.trace:
        error.add_note(reject.trace)
    return error


class Places:
    """Turns positions counted from a chunk's start into positions in the file.

    A chunk's first line is known once all chunks before it have been counted; a reject that comes earlier
    (parcels out of order) waits.
    """

    def __init__(self) -> None:
        self._sizes: dict[int, dict[int, tuple[int, int]]] = {}
        self._bases: dict[int, list[tuple[int, int]]] = {}

    def note(self, segments: Iterable[Segment]) -> None:
        """A chunk was counted: remember how many lines and records each of its segments has."""
        for segment in segments:
            if segment.part == 0 and segment.last:
                continue  # a file in one piece: nothing stands before it
            file = segment.file.index
            if segment.part == 0:
                self._bases[file] = [(segment.head_lines, 0)]
            self._sizes.setdefault(file, {})[segment.part] = (segment.lines, segment.records)

    def base(self, reject: Reject) -> tuple[int, int] | None:
        """Lines and records of the file before the reject's part; None while an earlier one is not counted."""
        return (reject.head_lines, 0) if reject.part == 0 else self.before(reject.file.index, reject.part)

    def before(self, file: int, part: int) -> tuple[int, int] | None:
        """Lines and records of a file, by its number, before one of its parts but the first."""
        bases = self._bases.get(file)
        sizes = self._sizes.get(file, {})
        if bases is None:
            return None
        while len(bases) <= part:
            size = sizes.get(len(bases) - 1)
            if size is None:
                return None
            lines, records = bases[-1]
            bases.append((lines + size[0], records + size[1]))
        return bases[part]

    def begin(self, file: int, part: int, lines: int, records: int) -> None:
        """A file begins with this part, behind so many lines and records: nobody will ask for earlier parts."""
        self._bases[file] = [(lines, records)] * (part + 1)


class RejectsFile:
    """Rejects as CSV (or JSON lines, for a name that ends in .jsonl), visible when the run has ended.

    `raw` is the record's bytes: as text where they are UTF-8 without NUL, in base64 otherwise, as
    `raw_encoding` says.
    """

    def __init__(self, path: str, io: Callable[..., Awaitable[Any]]) -> None:
        self.path = path
        self.count = 0
        self._io = io
        self._rows: list[str] = []
        self._lines = path.endswith((".jsonl", ".ndjson"))
        self._temporary = Temporary(path, alone=True)
        from aiocsv import AsyncDictWriter  # a run without a rejects file starts 15 ms sooner

        self._writer = AsyncDictWriter(self, COLUMNS, lineterminator="\n")
        self._begun = False

    async def write(self, data: str) -> int:
        """Called by the CSV writer with encoded rows."""
        self._rows.append(data)
        return len(data)

    async def add(self, rejects: Iterable[Reject]) -> None:
        """Append rejects, all of them in one write."""
        await self.add_rows([row_of(r) for r in rejects])

    async def add_rows(self, rows: Sequence[dict[str, Any]]) -> None:
        """The same for rows as `row_of` makes them."""
        self.count += len(rows)
        rows = [{name: row[name] for name in COLUMNS} for row in rows]
        if self._lines:
            await self.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        else:
            if not self._begun:
                self._begun = True
                await self._writer.writeheader()
            if rows:
                await self._writer.writerows(rows)
        text, self._rows = "".join(self._rows), []
        await settled(self._io(self._temporary.write, text.encode()))

    async def commit(self) -> None:
        """Make the file visible, with its header even if nothing was set aside."""
        await self.add([])
        await settled(self._io(self._temporary.commit))

    def discard(self) -> None:
        """Remove what was written."""
        self._temporary.discard()


class LedgerRejects:
    """Rejects that are kept in the ledger, each with its unit; the file is written from there when the run ends.

    So rejects of a unit that is done again replace the old ones, and units that are passed over keep theirs.
    """

    def __init__(self, path: str, units: Units, io: Callable[..., Awaitable[Any]]) -> None:
        self._units = units
        self._io = io
        self._file = RejectsFile(path, io)  # now, so that a directory that cannot be written is found out now

    @property
    def kept(self) -> int:
        """Rejects of units that were passed over."""
        return self._units.kept_rejects

    async def add(self, rejects: Iterable[Reject]) -> None:
        """Have the ledger keep these."""
        self.put(rejects)

    def put(self, rejects: Iterable[Reject]) -> None:
        """The same, at once."""
        for number, some in itertools.groupby(rejects, key=lambda r: r.file.index):
            self._units.set_aside(number, list(some))

    async def commit(self) -> None:
        """Write the file and make it visible."""
        with contextlib.closing(self._units.rejects()) as rows:
            while some := await settled(self._io(_some, rows)):
                await self._file.add_rows(some)
        await self._file.commit()

    def discard(self) -> None:
        """Remove what was written of the file."""
        self._file.discard()


def _some(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    return list(itertools.islice(rows, 1000))


def row_of(reject: Reject) -> dict[str, Any]:
    """A reject as a row of the rejects file (see COLUMNS), and `before`, which only a ledger keeps."""
    where = reject.position
    encoding = "utf-8"
    try:
        raw = reject.raw.decode()
        if "\0" in raw or "\r" in raw:  # readers treat both differently: keep them out of the text
            raise ValueError
    except ValueError:
        encoding, raw = "base64", base64.b64encode(reject.raw).decode()
    number = {"line": where.line, "record": where.record, "byte": where.byte}
    return {
        "path": display_path(where.path),
        **{k: "" if v is None else v for k, v in number.items()},
        "stage": reject.stage,
        "reason": reject.reason,
        "raw": raw,
        "raw_encoding": encoding,
        "before": reject.before,
    }


async def read_rejects(path: str) -> list[dict[str, Any]]:
    """The rows of a rejects file, with `raw` as the record's very bytes."""
    import aiofiles
    from aiocsv import AsyncDictReader

    rows: list[dict[str, Any]] = []
    async with aiofiles.open(path, encoding="utf-8", newline="") as file:
        if path.endswith((".jsonl", ".ndjson")):
            rows = [json.loads(line) async for line in file]
        else:
            rows = [dict(row) async for row in AsyncDictReader(file)]
    for row in rows:
        text = row["raw"]
        row["raw"] = base64.b64decode(text) if row["raw_encoding"] == "base64" else text.encode()
    return rows
