"""`write`: records as files, or as rows of a table, visible only when they are complete."""

from __future__ import annotations

import asyncio
import os
import unicodedata
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from aiopipe.errors import OutputError, UsageError
from aiopipe.model import FileRef, Position, display_path
from aiopipe.options import option
from aiopipe.stage import Context, Outcome, Sink, Source, Units
from aiopipe.stages._checkpoints import Checkpoints
from aiopipe.stages._targets import deliver, is_target, is_writer
from aiopipe.stages.collect import as_items
from aiopipe.storage.databases.address import Address, Filling, address_of
from aiopipe.storage.home import refuse_tilde
from aiopipe.storage.put import Put, discard, made, put, show
from aiopipe.storage.settle import settled
from aiopipe.storage.stdout import StandardOutput
from aiopipe.storage.urls import is_http, is_socket, is_url, socket_of
from aiopipe.storage.write import (
    Temporary,
    folds_case,
    make_directories,
    sync_directories,
    trouble,
)

if TYPE_CHECKING:
    from aiopipe.batch import Segment
    from aiopipe.codec.encode import Encoded

__all__ = ["Target", "Write"]

Target = str | os.PathLike[str] | asyncio.StreamWriter | Callable[[Any], Awaitable[object]]

_SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_WRITES = 2  # outputs, or groups of small ones, on their way to the disk at once


@dataclass(frozen=True, repr=False)
class Write(Sink):
    """Write records to a directory that mirrors the input, to one file, to standard output, or to a table.

    TO is a directory (it ends in /, or exists): each input file becomes one output file at the same relative
    path; or a file, which gets all records under one header; or - for standard output. An output appears under
    its name only when it is complete and on the disk; until then the old file stays as it is.

    It may be a table: sqlite:///file.db#table, or postgresql://user@host/database#table (extra postgres). Each
    input file is a transaction, in which its rows and a note in _aiopipe_units stand or fall together: the next
    run passes over files that are done, and replaces the rows of those that have changed. Columns are matched
    by name; a table that is not there is made, all columns TEXT.

    TO can be an address, https://example.com/rows: records are sent there by POST, --batch of them at a time as
    JSON lines, each request with an Idempotency-Key; or a socket that somebody listens at, tcp://HOST:PORT or
    unix:///PATH, which gets the bytes of one output. In Python it may be an async function, which is called with
    lists of rows (with format=, with bytes), or an asyncio.StreamWriter. What these have got, they have, also when
    the run fails later.
    """

    word: ClassVar[str] = "write"
    portable: ClassVar[bool] = True
    example: ClassVar[str] = "aiopipe pipe read 'sample_data/flights/*.csv' then head 3 then write -"

    to: Any = option(
        positional="one",
        help="a directory, a file, - for standard output, a table, or an https://, tcp:// or unix:// address",
        result=False,
    )
    format: Any = option(
        None,
        choices=("csv", "tsv", "jsonl"),
        help="how to write (default: by the name of the output, else as read)",
    )
    on_conflict: Any = option(
        "error",
        choices=("error", "ignore", "update"),
        help="a row whose key is in the table: at fault, passed over, or written over the old one",
    )
    empty: Any = option("null", choices=("null", "text"), help="what a table gets for an empty field: NULL, or ''")
    unit_column: str = option("_unit", metavar="COLUMN", help="column of a table that says which file a row is of")
    types: Any = option((), kind="pairs", metavar="COLUMN=TYPE", help="SQL types for a table that is made")
    key: Any = option((), kind="texts", metavar="COLUMN", help="primary key of a table that is made, and for update")
    append: bool = option(False, kind="flag", help="add rows to a table each time, without a note of what is done")
    batch: Any = option(None, kind="int", metavar="N", help="records an address or a function gets at once (1000)")
    headers: Any = option(
        (), kind="pairs", metavar="NAME=VALUE", help="HTTP header; the value env:NAME or file:PATH is looked up"
    )

    target: Any = field(default=None, init=False, repr=False)

    if TYPE_CHECKING:  # what the dataclass makes, but that the first argument is told apart

        def __init__(
            self,
            to: Target,
            *,
            format: str | None = None,
            on_conflict: str = "error",
            empty: str = "null",
            unit_column: str = "_unit",
            types: Mapping[str, str] | Sequence[str] = (),
            key: str | Sequence[str] = (),
            append: bool = False,
            batch: int | None = None,
            headers: Mapping[str, str] | Sequence[str] = (),
        ) -> None: ...

    def __post_init__(self) -> None:
        if is_target(self.to):
            object.__setattr__(self, "target", self.to)
            object.__setattr__(self, "to", getattr(self.to, "__name__", f"<{type(self.to).__name__}>"))
        super().__post_init__()
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"batch is {self.batch}", stage="write", hint="give it 1 or more")
        if not self.to:
            raise UsageError("no output is named", stage="write", hint="a directory, a file, or -")
        if self.target is None:
            refuse_tilde(self.to, "to", "write")
        if self.target is None and is_socket(self.to):
            socket_of(self.to, "write")
        if self.table is None and self.filling != Filling():
            changed = [n for n in Filling.__slots__ if getattr(self, n) != getattr(Filling(), n)]
            raise UsageError(
                f"--{changed[0].replace('_', '-')} is for tables, and {self.to} is none",
                stage="write",
                hint="such as sqlite:///file.db#table",
            )
        if self.table is not None and self.format is not None:
            raise UsageError("--format is for files", stage="write", hint="leave it out: a table has columns")

    @property
    def table(self) -> Address | None:
        """The table, where that is the output."""
        return None if self.target is not None or is_http(self.to) or is_socket(self.to) else address_of(self.to)

    @property
    def filling(self) -> Filling:
        """How rows go into a table."""
        return Filling(self.on_conflict, self.empty, self.unit_column, self.types, self.key, self.append)

    @property
    def held(self) -> Mapping[str, Any]:
        """The target, where it is an object."""
        return {} if self.target is None else {"to": self.target}

    def __getstate__(self) -> dict[str, Any]:
        # A worker process only encodes: the target stays where it is.
        return {**self.__dict__, "target": None, "_rows": self.gives_rows, "_path": self.is_path}

    @property
    def is_path(self) -> bool:
        """Whether the output is a file, a directory or standard output."""
        return bool(self.__dict__.get("_path", self.target is None and not is_url(self.to)))

    @property
    def gives_rows(self) -> bool:
        """Whether the target gets rows, not bytes."""
        rows = not self.is_path and (self.target is None or (self.format is None and not is_writer(self.target)))
        rows = rows and not (self.target is None and is_socket(self.to))
        return bool(self.__dict__.get("_rows", rows))

    @property
    def is_directory(self) -> bool:
        """Whether outputs mirror the input."""
        return self.is_path and self.to != "-" and (self.to.endswith(("/", os.sep)) or os.path.isdir(self.to))

    @property
    def home(self) -> str | None:
        """The directory of the outputs, where they mirror the input."""
        return self.to if self.is_directory else None

    @property
    def per_unit(self) -> bool:
        """A directory gets an output for each input, a table rows that say which input they are of."""
        return self.is_directory or (self.table is not None and not self.append)

    @property
    def per_record(self) -> bool:
        """True of a directory. The rows of a file come into a table together, or not at all."""
        return self.is_directory

    def output_of(self, relative: str) -> str:
        """The path of the output for the input at `relative`; OutputError where it would leave the directory."""
        relative = _restyled("stdin.csv" if relative == "-" else relative, self.format)
        if os.path.isabs(relative) or ".." in relative.replace(os.sep, "/").split("/"):
            raise OutputError(f"{display_path(relative)} would leave {display_path(self.to)}", stage="write")
        return os.path.join(self.to, relative)

    def _style(self) -> str | None:
        if self.format is not None or self.is_directory:
            return self.format  # type: ignore[no-any-return]
        return _SUFFIXES.get(os.path.splitext(self.to)[1].lower())

    def check(self, source: Source) -> None:
        """Refuse an output that is among the input."""
        matches = getattr(source, "matches", None)
        if matches is None or self.to == "-" or not (self.is_path or self.table):
            return
        if self.table is not None:
            if self.table.scheme == "sqlite" and matches(self.table.database):
                raise UsageError(f"{self.table.database} is among the input", stage="write", hint="write elsewhere")
            return
        if self.is_directory:
            examples = [_restyled(e, self.format) for e in source.examples()]  # type: ignore[attr-defined]
            if any(matches(os.path.join(self.to, e)) for e in examples):
                raise UsageError(
                    f"the output {self.to} lies inside the input, and would be read by the next run",
                    stage="write",
                    hint="write beside the input, not into it",
                )
        elif matches(self.to):
            raise UsageError(f"the output {self.to} is among the input", stage="write", hint="write to another name")

    def encode(self, parcel: Any, kind: str) -> Any:
        """Records as the bytes of the output, or as rows for a table or a target that takes such."""
        if self.table is not None:
            if kind != "records":
                raise UsageError(f"a table cannot take {kind}", stage="write", hint="it takes records, as read gives")
            from aiopipe.storage.databases.rows import rows_of

            return rows_of(parcel, self.empty)
        if self.gives_rows:
            return as_items(parcel, kind)
        from aiopipe.codec.encode import encode, encode_json

        style = self._style()
        if kind != "records":
            from aiopipe.codec.items import encode_items

            return encode_items(parcel, style or "jsonl")
        if style == "jsonl":
            return encode_json(parcel)
        if style == "tsv":
            return encode(parcel, "\t")
        own = parcel.body.header.delimiter
        return encode(parcel, "," if style == "csv" and (self.format == "csv" or own == b"\t") else None)

    def put(self, encoded: Encoded, names: Sequence[str], *, hashed: bool) -> list[Put]:
        """Put whole files beside their targets, under these names; hashed: for a ledger. Blocks. OutputError."""
        files = [
            (self.output_of(segment.file.relative), _encoded_like([encoded.head, body], encoded))
            for segment, body in zip(encoded.segments, encoded.bodies, strict=True)
        ]
        return put(files, hashed=hashed, names=names)

    async def consume(self, parcels: AsyncIterator[Any], context: Context) -> Outcome:
        """Write everything; what is not complete at the end is removed."""
        if self.table is not None:
            from aiopipe.stages._tables import to_table

            return await to_table(self.table, self.filling, parcels, context)
        if not self.is_path:
            return await deliver(self, parcels, context)
        if self.to == "-":
            return await _to_stdout(parcels, context)
        if self.is_directory:
            return await _Mirror(self, context).consume(parcels)
        return await _to_file(self.to, parcels, context)


@dataclass
class _Joined:
    """Parts of several files as one: one header, line ends between records, the same columns throughout."""

    names: tuple[str, ...] | None = None
    first: str = ""
    ended: bool = True
    newline: bytes = b"\n"
    spare: Any = None  # a parcel without records: its header counts only if no other comes

    def rest(self) -> list[Any]:
        """What is still to be written when nothing more comes: the header of input without records."""
        return self.add(self.spare, final=True) if self.names is None and self.spare is not None else []

    def add(self, part: Any, *, final: bool = False) -> list[Any]:
        """The bytes to write for a parcel; OutputError where its columns differ from the first file's."""
        out: list[Any] = []
        if not len(part) and not final:
            self.spare = self.spare if self.spare is not None and self.spare.names else part
            return out
        if part.names or part.head:
            if self.names is None:
                self.names, self.first = part.names, part.segments[0].file.path if part.segments else ""
                self.newline = part.newline or b"\n"
                if part.head:
                    out.append(part.head)
                    self.ended = part.head[-1:] in (b"\n", b"\r")
            elif part.names != self.names:
                raise OutputError(
                    _difference(part, self.names, self.first),
                    position=Position(part.segments[0].file.path, 1),
                    stage="write",
                    hint="use select before write, so that all files give the same columns, or write to a directory",
                )
        for body in part.bodies:
            if len(body):
                if not self.ended:
                    out.append(self.newline)
                out.append(body)
                self.ended = bytes(body[-1:]) in (b"\n", b"\r")
        return out


def _difference(part: Encoded, names: tuple[str, ...], first: str) -> str:
    missing = [n for n in names if n not in part.names]
    extra = [n for n in part.names if n not in names]
    if not missing and not extra:
        return f"the columns stand in another order than in {display_path(first)}"
    parts = [f"lacks {', '.join(missing)}"] if missing else []
    parts += [f"has {', '.join(extra)} besides"] if extra else []
    return f"the header {' and '.join(parts)}, compared with {display_path(first)}"


def _unfinished(part: Any) -> bool:
    segments = part.segments
    return bool(segments) and not (segments[-1].last and not segments[-1].more)


async def _to_file(path: str, parcels: AsyncIterator[Any], context: Context) -> Outcome:
    outcome, joined = Outcome(), _Joined()
    temporary = await _temporary(path, context, alone=True)
    cut_off = False
    try:
        async for part in parcels:
            out = _encoded_like(joined.add(part), part)
            cut_off = _unfinished(part)
            if out:
                await settled(context.io(_write_all, temporary, out))
            outcome.records += len(part)
        if context.found.cut or cut_off:  # not all of the input: the old file stays
            outcome.records, outcome.unfinished = 0, outcome.records
            return outcome
        await settled(context.io(_write_all, temporary, _encoded_like(joined.rest(), joined.spare)))
        await settled(context.io(temporary.commit))
        outcome.files, outcome.nbytes = 1, temporary.nbytes
        return outcome
    finally:
        if not outcome.files:
            temporary.discard()


async def _temporary(path: str, context: Context, *, hashed: bool = False, alone: bool = False) -> Temporary:
    """A temporary that is removed again when nobody is left to take it."""
    return await settled(context.io(partial(Temporary, path, hashed=hashed, alone=alone)), Temporary.discard)


def _commit_whole(files: list[tuple[str, tuple[Any, ...]]], units: Units | None, tickets: list[Any]) -> int:
    """Write whole files and make them visible, then have the ledger say so; the bytes written."""
    return _show(put(files, hashed=units is not None), units, tickets)


def _show(files: list[Put], units: Units | None, tickets: list[Any]) -> int:
    """Make files visible that were put beside their targets, then have the ledger say so; the bytes written."""
    if units is None:
        show(files)
    else:
        show(files, partial(units.ready, tickets))
        units.commit([(ticket, [made(file)]) for ticket, file in zip(tickets, files, strict=True)])
    return sum(file.nbytes for file in files)


def _show_all(
    mine: list[Put], puts: Sequence[Put], units: Units | None, tickets: list[Any], arrived: Callable[[int], None]
) -> int:
    """Make files visible that a group was put as, but for those that are given up; see _show."""
    nbytes = _show(mine, units, tickets)
    if len(mine) < len(puts):
        discard(set(puts) - set(mine))
    arrived(len(puts))
    return nbytes


def _commit(temporary: Temporary, units: Units | None, ticket: Any) -> int:
    """Make one file visible, then have the ledger say so; the bytes written."""
    if units is None:
        temporary.commit()
    else:
        temporary.commit(partial(units.ready, [ticket]))
        units.commit([(ticket, [temporary.made()])])
    return temporary.nbytes


def _write_all(temporary: Temporary, pieces: list[Any]) -> None:
    for piece in pieces:
        temporary.write(piece)


def _encoded_like(pieces: list[Any], part: Any) -> list[Any]:
    """Transcoded input (UTF-16, ...) leaves in its own encoding."""
    if not pieces or not part.transcode:
        return pieces
    return [bytes(p).decode().encode(part.transcode) for p in pieces]


async def joined_pieces(parcels: AsyncIterator[Any]) -> AsyncGenerator[tuple[int, Any], None]:
    """The bytes of all parcels as one output, each piece with the number of records that are whole behind it."""
    joined = _Joined()
    async for part in parcels:
        pieces = _encoded_like(joined.add(part), part)
        for i, piece in enumerate(pieces, 1):
            yield (len(part) if i == len(pieces) else 0), piece
    for piece in _encoded_like(joined.rest(), joined.spare):
        yield 0, piece


async def _to_stdout(parcels: AsyncIterator[Any], context: Context) -> Outcome:
    outcome, joined, stdout = Outcome(), _Joined(), StandardOutput()
    async for part in parcels:
        await stdout.write(_encoded_like(joined.add(part), part), context)
        outcome.records += len(part)
    await stdout.write(_encoded_like(joined.rest(), joined.spare), context)
    outcome.nbytes = stdout.nbytes
    outcome.files = 1
    return outcome


@dataclass
class _Open:
    """An output being written: what came of its file so far."""

    file: FileRef
    temporary: Temporary
    names: tuple[str, ...] | None = None
    arrived: int = 0
    total: int = -1
    records: int = 0
    before: int = 0  # records that an earlier run wrote
    partial: bool = False  # more of the last part is to come
    checkpoints: Checkpoints | None = None

    def next_is(self, segment: Segment) -> bool:
        """Whether a segment begins the next part, with all before it written."""
        return not self.partial and segment.part == self.arrived

    async def end(self) -> None:
        """It will not be finished."""
        if self.checkpoints is None:
            self.temporary.discard()
        else:
            await self.checkpoints.end()


class _Mirror:
    """One output for each input file, at the same relative path."""

    def __init__(self, sink: Write, context: Context) -> None:
        self.sink = sink
        self.context = context
        self.outcome = Outcome()
        self.open: dict[int, _Open] = {}
        self.claimed: dict[str, str] = {}
        self.folded: dict[str, str] = {}  # targets by their names without case, as some disks have them
        self.folds: bool | None = None
        self.flying: deque[Awaitable[int]] = deque()

    async def consume(self, parcels: AsyncIterator[Any]) -> Outcome:
        try:
            await self.context.io(_make_directory, self.sink.to)
            async for part in parcels:
                await self._take(part)
            while self.flying:
                self.outcome.nbytes += await self.flying.popleft()
            await self._pause()
            self.outcome.unfinished += sum(e.records - e.before for e in self.open.values())
        finally:
            if self.flying:  # one of several writes has failed: hear the others out
                await settled(asyncio.gather(*self.flying, return_exceptions=True))
            await settled(asyncio.gather(*(e.end() for e in self.open.values()), return_exceptions=True))
        return self.outcome

    async def _pause(self) -> None:
        """The run was asked to stop in the midst of files: the next one goes on where they are."""
        for entry in self.open.values():
            if entry.checkpoints is not None and entry.arrived and not entry.partial:
                await entry.checkpoints.pause(entry.arrived, entry.records, entry.names)

    async def _take(self, part: Encoded) -> None:
        whole: list[tuple[str, tuple[Any, ...]]] = []
        tickets: list[Any] = []
        units = self.context.found.units
        if not part.segments and len(part):
            raise UsageError("items have no file to mirror", stage="write", hint="name one output file, or -")
        if part.puts:
            await self._arrive(part)
            return
        for segment, body, count in zip(part.segments, part.bodies, part.counts, strict=True):
            if segment.file.index in self.context.found.failures:
                await self._drop(segment.file.index, count)
            elif segment.part == 0 and segment.last and not segment.more and segment.file.index not in self.open:
                whole.append((self._target(segment), tuple(_encoded_like([part.head, body], part))))
                self.outcome.records += count
                if units is not None:
                    tickets.append(units.complete(segment.file, count))
            else:
                await self._append(segment, part, body, count)
        if not whole:
            return
        await self._publish(_commit_whole, whole, units, tickets)
        self.outcome.files += len(whole)

    async def _arrive(self, part: Encoded) -> None:
        """Files that were put beside their targets where they were read. Whatever fails here, the run removes them."""
        found, units = self.context.found, self.context.found.units
        mine: list[Put] = []
        tickets: list[Any] = []
        for i, (segment, count) in enumerate(zip(part.segments, part.counts, strict=True)):
            if segment.file.index in found.failures:
                await self._drop(segment.file.index, count)
                continue
            self._target(segment)  # which no other file may have
            self.outcome.records += count
            mine.append(part.puts[i])
            if units is not None:
                units.was_read(segment.file, part.readings[i])
                tickets.append(units.complete(segment.file, count))
        assert found.groups is not None
        await self._publish(_show_all, mine, part.puts, units, tickets, partial(found.groups.arrived, part.group))
        self.outcome.files += len(mine)

    async def _drop(self, index: int, count: int) -> None:
        """What came of a file that has failed is of no use to this run."""
        entry = self.open.pop(index, None)
        self.outcome.unfinished += count + (entry.records - entry.before if entry is not None else 0)
        if entry is not None:
            await entry.end()

    async def _begin(self, segment: Segment) -> _Open:
        """The output of a file, begun; behind what an earlier run had written of it, where there is that."""
        file, target, units = segment.file, self._target(segment), self.context.found.units
        ranges = units.ranges if units is not None else None
        resumed = ranges.resumed(file) if ranges is not None else None
        if resumed is None:
            temporary = await _temporary(target, self.context, hashed=units is not None)
            entry, reached = _Open(file, temporary), None
        else:
            reached = resumed.reached
            again = partial(Temporary.resume, target, reached.temporary, reached.length, resumed.written)
            temporary = await settled(self.context.io(again), Temporary.leave)
            entry = _Open(file, temporary, reached.names, reached.part, records=reached.given, before=reached.given)
        if ranges is not None:
            entry.checkpoints = Checkpoints(ranges, file, temporary, self.context, reached)
        self.open[file.index] = entry
        return entry

    async def _append(self, segment: Segment, part: Encoded, body: Any, count: int) -> None:
        entry = self.open.get(segment.file.index)
        if entry is None:
            entry = await self._begin(segment)
        elif entry.next_is(segment) and entry.checkpoints is not None:
            await entry.checkpoints.before(segment, entry.records, entry.names)
        entry.partial = segment.more
        entry.records += count
        entry.arrived += not segment.more
        if segment.last:
            entry.total = segment.part + 1
        final = not segment.more and entry.arrived == entry.total
        if entry.names is None and (len(body) or final):
            # The header waits for records: a function shows its columns only where it has rows.
            entry.names = part.names
            if part.head:
                await self._write(entry, [part.head], part)
        elif part.names != entry.names and len(body):
            assert entry.names is not None
            error = OutputError(
                f"the columns changed within the file: {', '.join(entry.names)}, then {', '.join(part.names)}",
                position=Position(segment.file.path),
                stage="write",
                hint="a function must return the same columns for all rows of a file",
            )
            self.context.found.failures.add([segment.file], error)
            await self._drop(segment.file.index, 0)
            return
        if len(body):
            await self._write(entry, [body], part)
        if final:
            if entry.checkpoints is not None:
                await entry.checkpoints.wait_landed()
            units = self.context.found.units
            ticket = None if units is None else units.complete(entry.file, entry.records)
            await self._publish(_commit, entry.temporary, units, ticket)
            del self.open[segment.file.index]  # not before somebody else sees to it
            self.outcome.records += entry.records - entry.before
            self.outcome.files += 1

    async def _publish(self, commit: Callable[..., int], *what: Any) -> None:
        """Make outputs visible while the next ones are written: the disk's time is not ours."""
        while len(self.flying) >= _WRITES:
            self.outcome.nbytes += await self.flying.popleft()
        self.flying.append(self.context.io(commit, *what))

    async def _write(self, entry: _Open, pieces: list[Any], part: Encoded) -> None:
        await settled(self.context.io(_write_all, entry.temporary, _encoded_like(pieces, part)))

    def _target(self, segment: Segment) -> str:
        target = self.sink.output_of(segment.file.relative)
        other = self.claimed.setdefault(target, segment.file.path)
        if other != segment.file.path:
            raise OutputError(
                f"{display_path(other)} and {display_path(segment.file.path)} would both become {display_path(target)}",
                stage="write",
                hint="read them in two runs, or from a common parent directory",
            )
        twin = self.folded.setdefault(_folded(target), target)
        if twin != target and self._one_name():
            raise OutputError(
                f"{display_path(twin)} and {display_path(target)} are one name on this disk",
                stage="write",
                hint="rename one of the files, or write to a disk that tells upper case from lower",
            )
        return target

    def _one_name(self) -> bool:
        """Whether the destination's disk takes no heed of case; looked at when it matters first."""
        if self.folds is None:
            self.folds = folds_case(self.sink.to)
        return self.folds


def _folded(path: str) -> str:
    return path.lower() if path.isascii() else unicodedata.normalize("NFC", path).casefold()


def _restyled(relative: str, style: str | None) -> str:
    """The path with the suffix of the format it is written in."""
    if style is None:
        return relative
    stem, suffix = os.path.splitext(relative)
    return (stem if suffix.lower() in {*_SUFFIXES, ".txt"} else relative) + f".{style}"


def _make_directory(path: str) -> None:
    try:
        sync_directories(make_directories(path))
    except OSError as error:
        raise trouble(path, error) from None
