"""The records that a replay runs again: those of a rejects file, found again in their input and in the ledger."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from aiopipe.batch import Header, Segment
from aiopipe.codec import precise
from aiopipe.codec.chunk import Chunk
from aiopipe.codec.dialect import Dialect
from aiopipe.errors import InputError, RecordError, UsageError
from aiopipe.job.fingerprint import changes
from aiopipe.job.ledger import Key, Reader, Unit
from aiopipe.job.rejects import COLUMNS, read_rejects
from aiopipe.job.units import stale
from aiopipe.model import FileRef, Position, display_path
from aiopipe.stages.read import Read
from aiopipe.storage.headers import read_header
from aiopipe.storage.opening import trouble

__all__ = ["Again", "Entry", "find_files", "from_file", "from_ledger", "refuse_other_pipeline", "rows_by_path"]

_RUN_AGAIN = "run the pipeline itself again, with --rejects: it does such files anew"
# Options a change of which concerns only records that were set aside: what passed comes out the same.
_MENDS = {"read.null", "read.max_record", "map.timeout", "map.on_error", "fetch.on_error"}
_CODE = ("function ", "class ", "value ", "distribution ", "python")
_PLACE = ("line", "record", "byte")
_HEADER = 64 << 10  # bytes in which a header is looked for first


@dataclass(frozen=True, slots=True)
class Entry:
    """A record to run again: its row of the rejects file, its bytes, and its place among the rejects of its file."""

    row: Mapping[str, Any]
    raw: bytes
    place: int

    def position(self, path: str) -> Position:
        """Where it stands in its input."""
        line, record, byte = (None if self.row[k] in ("", None) else int(self.row[k]) for k in _PLACE)
        return Position(path, line, record, byte)


@dataclass(frozen=True, slots=True)
class Again:
    """The records of one file that are to run again. unit, rows: what the ledger has of it, where there is one."""

    file: FileRef
    header: Header
    dialect: Dialect
    entries: tuple[Entry, ...]
    unit: Unit | None = None
    rows: tuple[dict[str, Any], ...] = ()

    def chunks(self) -> Iterable[Chunk]:
        """Each record as a part of the file by itself: so what becomes of it is known by the number of its part."""
        for i, entry in enumerate(self.entries):
            byte = entry.row["byte"]
            at = -1 if byte in ("", None) else int(byte)
            segment = Segment(self.file, i, i == len(self.entries) - 1, 0, at)
            yield Chunk(entry.raw, self.header, self.dialect, (segment,))


async def rows_by_path(path: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of a rejects file by the file that they speak of; InputError where it is none."""
    try:
        rows = await read_rejects(path)
    except OSError as error:
        hint = "name the file that --rejects wrote"
        raise InputError(f"cannot read {display_path(path)}: {error.strerror}", hint=hint) from None
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        raise _no_rejects(path, str(error)) from None
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        lacking = [name for name in COLUMNS if row.get(name) is None]
        if lacking:
            raise _no_rejects(path, f"a row has no {lacking[0]}")
        found.setdefault(row["path"], []).append(row)
    return found


def _no_rejects(path: str, why: str) -> InputError:
    return InputError(
        f"{display_path(path)} is no rejects file: {why}",
        hint=f"it has the columns {', '.join(COLUMNS)}; of them only raw and raw_encoding may be changed",
    )


def find_files(source: Read, wanted: Iterable[str], rejects: str) -> list[FileRef]:
    """The files of the source that are wanted, in the order of the input; InputError for one that it does not read."""
    left = set(wanted)
    found = []
    for file in (source.files() or ()) if left else ():
        if display_path(file.path) in left:
            left.discard(display_path(file.path))
            if file.size < 0:
                raise InputError(
                    f"{display_path(file.path)} is a stream, and its header is gone",
                    hint="save it in a file, and read that",
                )
            found.append(file)
    if left:
        raise InputError(
            f"{display_path(rejects)} has records of {min(left)}, which this pipeline does not read",
            hint="name the input as the run did that set them aside, from the same directory",
        )
    return found


def from_file(source: Read, file: FileRef, rows: list[dict[str, Any]]) -> Again:
    """What is to run again of a file, by the rejects file alone."""
    header, dialect = _header_of(source, file)
    entries = [Entry(row, _one_record(row, row["raw"], dialect), i) for i, row in enumerate(rows)]
    return Again(file, header, dialect, tuple(entries))


def from_ledger(
    source: Read, file: FileRef, rows: list[dict[str, Any]], reader: Reader, destination: str
) -> tuple[Again | None, int]:
    """What is to run again of a file, and how many rows speak of what the ledger no longer has as set aside.

    InputError where the ledger, the input or the output is not as the run left it.
    """
    unit = reader.unit(Key.of(file.relative))
    shown, home = display_path(file.path), display_path(destination)
    if unit is None:
        raise InputError(f"no run into {home} has read {shown}", hint=_RUN_AGAIN)
    if unit.state != "done":
        why, _ = stale(unit, file.path, destination)
        raise InputError(f"{shown} is not done: {why}", hint=_RUN_AGAIN)
    kept = list(reader.rejects(unit.run, unit.number)) if unit.rejected else []
    places = {_place(row): i for i, row in enumerate(kept)}
    mine = sorted(((places[_place(row)], row) for row in rows if _place(row) in places), key=itemgetter(0))
    if not mine:
        return None, len(rows)
    why, _ = stale(unit, file.path, destination)
    if why is not None:
        raise InputError(f"{shown}: {why}", hint=_RUN_AGAIN)
    if len(unit.outputs) != 1 or any(row.get("before", -1) < 0 for row in kept):
        raise InputError(f"the ledger of {home} does not say where the records of {shown} belong", hint=_RUN_AGAIN)
    header, dialect = _header_of(source, file)
    entries = [Entry(kept[i], _one_record(row, _raw(kept[i]), dialect), i) for i, row in mine]
    return Again(file, header, dialect, tuple(entries), unit, tuple(kept)), len(rows) - len(mine)


def _place(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in _PLACE)


def _raw(row: Mapping[str, Any]) -> bytes:
    text: str = row["raw"]
    return base64.b64decode(text) if row["raw_encoding"] == "base64" else text.encode()


def _one_record(row: Mapping[str, Any], was: bytes, dialect: Dialect) -> bytes:
    """The bytes of a row, with the line end that the record had; InputError where it is more than one now, or none."""
    raw: bytes = row["raw"]
    if raw == was:
        return raw
    raw = raw.rstrip(b"\r\n") + was[len(was.rstrip(b"\r\n")) :]
    count = sum(1 for _ in precise.records(raw, dialect, 0))
    if count != 1:
        raise InputError(
            f"raw holds {count} records, and was one",
            position=Position(row["path"], int(row["line"] or 0) or None),
            hint="mend one record in one row; to add some or to take one away, change the input and run again",
        )
    return raw


def _header_of(source: Read, file: FileRef) -> tuple[Header, Dialect]:
    dialect = source.dialect_of(file)
    if dialect.transcoded:
        raise InputError(f"{display_path(file.path)} is {dialect.encoding}, which is not replayed", hint=_RUN_AGAIN)
    try:
        with open(file.path, "rb") as opened:
            data = opened.read(_HEADER)
            while next(precise.records(data, dialect, 0, final=False), None) is None and (
                more := opened.read(len(data) or _HEADER)
            ):
                data += more
    except OSError as error:
        raise trouble(file, error) from None
    try:
        return read_header(data, dialect)[0], dialect
    except RecordError as error:
        error.position = error.position or Position(file.path, 1)
        raise


def refuse_other_pipeline(before: Mapping[str, str], now: Mapping[str, str], again: Again) -> str:
    """What is mended in the pipeline, in words; UsageError where records that passed would come out otherwise, too."""
    other = {name for name in {*before, *now} if before.get(name) != now.get(name)}
    beyond = sorted(name for name in other if not _is_mend(name))
    if beyond:
        found = changes({n: before[n] for n in beyond if n in before}, {n: now[n] for n in beyond if n in now})
        raise UsageError(
            f"the pipeline that made the output of {display_path(again.file.path)} was another one: {'; '.join(found)}",
            hint="that may concern records that passed as well: " + _RUN_AGAIN,
        )
    return "; ".join(changes({n: before[n] for n in other if n in before}, {n: now[n] for n in other if n in now}))


def _is_mend(name: str) -> bool:
    return name.startswith(_CODE) or re.sub(r"#\d+(?=\.)", "", name) in _MENDS
