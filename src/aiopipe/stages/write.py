"""`write`: records as files, or as rows of a table, visible only when they are complete."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from aiopipe.errors import OutputError, UsageError
from aiopipe.model import display_path
from aiopipe.options import option
from aiopipe.stage import Context, Outcome, Sink, Source
from aiopipe.stages._joined import to_file, to_stdout
from aiopipe.stages._mirror import Mirror
from aiopipe.stages._pieces import encoded_like
from aiopipe.stages._targets import deliver, is_target, is_writer
from aiopipe.storage.databases.address import Address, Filling, address_of
from aiopipe.storage.home import refuse_tilde
from aiopipe.storage.put import Puts, put
from aiopipe.storage.urls import is_http, is_socket, is_url, socket_of

if TYPE_CHECKING:
    from aiopipe.codec.encode import Encoded

__all__ = ["Target", "Write"]

Target = str | os.PathLike[str] | asyncio.StreamWriter | Callable[[Any], Awaitable[object]]

_SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


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
            changed = [n for n in Filling._fields if getattr(self, n) != getattr(Filling(), n)]
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
        if os.path.isabs(relative) or (".." in relative and ".." in relative.replace(os.sep, "/").split("/")):
            raise OutputError(f"{display_path(relative)} would leave {display_path(self.to)}", stage="write")
        return _inside(self.to) + relative

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
            from aiopipe.stages.collect import as_items

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

    def put(self, encoded: Encoded, names: Sequence[str], *, hashed: bool) -> Puts:
        """Put whole files beside their targets, under these names; hashed: for a ledger. Blocks. OutputError."""
        head = encoded.head
        files = [
            (self.output_of(segment.file.relative), encoded_like([head, body], encoded))
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
            return await to_stdout(parcels, context)
        if self.is_directory:
            return await Mirror(self, context).consume(parcels)
        return await to_file(self.to, parcels, context)


@lru_cache(maxsize=8)
def _inside(directory: str) -> str:
    """What paths in a directory begin with: joining them one by one takes ten times as long."""
    return os.path.join(directory, "")


def _restyled(relative: str, style: str | None) -> str:
    """The path with the suffix of the format it is written in."""
    if style is None:
        return relative
    stem, suffix = os.path.splitext(relative)
    return (stem if suffix.lower() in {*_SUFFIXES, ".txt"} else relative) + f".{style}"
