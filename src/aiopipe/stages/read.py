"""`read`: CSV files, directories, globs, standard input, addresses and streams as records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, ClassVar

from aiopipe.codec.dialect import Dialect
from aiopipe.errors import AiopipeError, UnknownNameError, UsageError, nearest
from aiopipe.model import FileRef
from aiopipe.options import option
from aiopipe.stage import Context, Scope, Source, Units
from aiopipe.storage.find import Finder
from aiopipe.storage.given import called, can_be_read
from aiopipe.storage.secrets import looked_up
from aiopipe.storage.urls import is_http, is_socket, is_url, name_of, refuse_unreadable, shown_url

__all__ = ["Read"]

SAMPLE_FILES = 8
SAMPLE_RECORDS = 1000
_LOOKED_UP = 256  # files whose rows in the ledger are read together


@dataclass(frozen=True, repr=False)
class Read(Source):
    """Read CSV files as records.

    PATHS are files, directories (their *.csv and *.tsv files, at any depth), globs ("in/**/*.csv", in quotes),
    or - for standard input. Files are read in bytewise order of their paths. A file whose name ends in .tsv or
    .tab has tabs between its fields unless --delimiter says otherwise; the first record names the columns.

    An address is read as it comes: https://example.com/x.csv; a socket that somebody listens at, tcp://HOST:PORT or
    unix:///PATH; or a query of an SQLite database, 'sqlite:///x.db#SELECT * FROM t'. In Python it may be an
    asyncio.StreamReader, an async iterable of bytes (such as request.stream() of Starlette), or an iterable or async
    iterable of rows.

    Fields are strings. Where an expression names a column, its type is the one --types gives, or the one that
    all of a sample fits (the first 1,000 records of each of the first 8 files, or of standard input); 007 is
    never a number.
    """

    word: ClassVar[str] = "read"
    portable: ClassVar[bool] = True
    tells_cut: ClassVar[bool] = True
    example: ClassVar[str] = "aiopipe pipe read 'sample_data/flights/*.csv' then head 2 then write -"

    paths: Any = option(
        kind="texts", positional="many", help="files, directories, globs, or - for standard input", result=False
    )
    delimiter: str | None = option(None, help="character between fields, or the word tab (default: by file name)")
    quote: str = option('"', help="character around fields, or the word none")
    encoding: str = option("utf-8", help="encoding of the files, such as cp1252 or utf-16")
    no_header: bool = option(
        False, kind="flag", help="there is no header record: call the columns column1, column2, ..."
    )
    types: Any = option(
        (), kind="pairs", metavar="COLUMN=TYPE", help="type of a column in expressions, such as zip=VARCHAR"
    )
    null: Any = option((), kind="texts", metavar="TOKEN", help="text that means no value in expressions, such as NA")
    duplicate_columns: str = option(
        "error",
        choices=("error", "number"),
        help="columns of the same name: an error once named, or x, x_2, ...",
    )
    include: Any = option(
        ("*.csv", "*.tsv"), kind="texts", metavar="GLOB", help="which names to read inside directories", result=False
    )
    follow: bool = option(False, kind="flag", help="enter directories behind symbolic links", result=False)
    max_record: Any = option(64 << 20, kind="size", metavar="SIZE", help="longest record to accept (default: 64MiB)")
    headers: Any = option(
        (),
        kind="pairs",
        metavar="NAME=VALUE",
        help="HTTP header; the value env:NAME or file:PATH is looked up",
        result=False,
    )
    block: Any = option(
        4 << 20,
        kind="size",
        metavar="SIZE",
        help="how much is read at once, half of what a worker takes; no more than a 40th of --memory (default: 4MiB)",
        result=False,
    )

    given: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if can_be_read(self.paths):
            object.__setattr__(self, "given", self.paths)
            object.__setattr__(self, "paths", called(self.paths))
        super().__post_init__()
        if self.types:
            from aiopipe.codec.types import parse_type

            object.__setattr__(self, "types", tuple((c, parse_type(t)) for c, t in self.types))
        self._dialect("x.csv")  # refuses impossible options now
        for path in self._addresses():
            refuse_unreadable(path)
        others = self.given is None and ("-" in self.paths or any(map(is_url, self.paths)))
        if others and not all(map(is_url, self.paths)) and len(self.paths) > 1:
            raise UsageError(
                "standard input and addresses cannot be read together with files",
                stage="read",
                hint="use merge: merge [ read - ] [ read in/ ]",
            )

    def _addresses(self) -> list[str]:
        return [p for p in self.paths if is_url(p)] if self.given is None else []

    @property
    def held(self) -> Mapping[str, Any]:
        """The stream, where it is an object."""
        return {} if self.given is None else {"paths": self.given}

    def _dialect(self, path: str) -> Dialect:
        return Dialect(
            self.delimiter if self.delimiter is not None else ("\t" if _has_tabs(path) else ","),
            self.quote,
            self.encoding,
            not self.no_header,
            self.duplicate_columns == "number",
            self.max_record,
        )

    def __getstate__(self) -> dict[str, Any]:
        # A worker process only parses: the stream stays where it is.
        return {**self.__dict__, "given": None}

    def dialect_of(self, file: FileRef) -> Dialect:
        """How a file of this source is written."""
        return self._dialect(file.relative)

    def finder(self) -> Finder:
        """What finds the files of this source."""
        files = [p for p in self.paths if p != "-" and not is_url(p)] if self.given is None else []
        return Finder(files, self.include, self.follow)

    def examples(self) -> list[str]:
        """Relative paths like those the files of this source have."""
        return self.finder().examples()

    @property
    def per_unit(self) -> bool:
        """True."""
        return True

    @property
    def per_record(self) -> bool:
        """True."""
        return True

    def files(self) -> Iterator[FileRef]:
        """The files, in order, and streams by what they are called."""
        if "-" in self.paths:
            yield FileRef("-", "-", 0, -1)
        for i, path in enumerate(self.paths if self.given is not None else self._addresses()):
            yield FileRef(shown_url(path), "stream.csv" if self.given is not None else name_of(path), i, -1)
        yield from self.finder().files()

    def matches(self, path: str) -> bool:
        """Whether a file at `path` would be among the input."""
        return self.finder().matches(path)

    def _files(self, finder: Finder, context: Context) -> Iterator[FileRef]:
        if "-" in self.paths:
            yield FileRef("-", "-", 0, -1)
        yield from self._streams(context)
        yield from finder.files()

    def _streams(self, context: Context) -> Iterator[FileRef]:
        """The inputs that are no files; the run is told how to open them."""
        for i, path in enumerate(self.paths if self.given is not None else self._addresses()):
            name = context.found.name(shown_url(path), (id(self), i), partial(self._opened, path, context))
            yield FileRef(name, "stream.csv" if self.given is not None else name_of(path), i, -1)

    async def _opened(self, url: str, context: Context, name: str) -> Any:
        """An object or an address, opened."""
        if self.given is not None:
            from aiopipe.storage.given import Given

            return Given(self.given, name, self._dialect("stream.csv"))
        if is_http(url):
            from aiopipe.storage.http import open_http

            return await open_http(url, {key: looked_up(value, "read") for key, value in self.headers}, name)
        if is_socket(url):
            from aiopipe.storage.sockets import open_socket

            return await open_socket(url, name, context.io)
        from aiopipe.storage.sqlite import open_query

        return await open_query(url, self._dialect(name_of(url)))

    async def open(self, context: Context) -> AsyncIterator[Any]:
        """Chunks of whole records."""
        from aiopipe.storage.opening import Input
        from aiopipe.storage.read import read_chunks

        finder = self.finder()
        finder.skipped = context.found.skipped

        dialects: dict[bool, Dialect] = {}
        units = context.found.units

        def inputs() -> Iterator[Input]:
            for file in _expected(self._files(finder, context), units):
                if units is not None and not units.wants(file):
                    if context.stopping:
                        context.found.cut = True
                        return
                    continue
                context.found.files += 1
                tabs = _has_tabs(file.relative)
                if tabs not in dialects:
                    dialects[tabs] = self._dialect(file.relative)
                yield Input(file, dialects[tabs])

        async with aclosing(read_chunks(inputs(), context, self.block)) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                yield chunk

    async def survey(self, context: Context, wanted: frozenset[str]) -> Scope:
        """Types of the wanted columns, from a sample where they are not told."""
        from aiopipe.storage.read import BLOCK
        from aiopipe.storage.streams import peek

        files = await context.io(lambda: list(islice(self._files(self.finder(), context), SAMPLE_FILES)))
        for file in files:
            if file.size < 0:
                await peek(file.path, context, SAMPLE_RECORDS + 1, BLOCK)
        return await context.hop(self._scope, files, context.found.streams, wanted)

    def _scope(self, files: list[FileRef], streams: dict[str, Any], wanted: frozenset[str]) -> Scope:
        """What the first records of the files say; reads, parses and guesses, so it belongs off the loop."""
        from aiopipe.codec.types import guess
        from aiopipe.storage.read import sample_of, values_of

        found: dict[str, tuple[list[str], str]] = {}
        for file in files:
            dialect = self._dialect(file.relative)
            if file.size < 0:
                begun, ended = streams[file.path].begun, streams[file.path].ended
                sample, _ = values_of(b"".join(begun), file, dialect, SAMPLE_RECORDS, wanted, whole=ended)
            else:
                sample = sample_of(file, dialect, SAMPLE_RECORDS, wanted)
            for name, values in sample.items():
                found.setdefault(name, ([], file.path))[0].extend(values)
        told, nulls = dict(self.types), frozenset(self.null)
        for name in told if found else ():
            if name not in found:
                raise UnknownNameError(f"--types names {name!r}, no column", stage="read", hint=nearest(name, found))
        types, doubts = dict(told), {}
        for name, (values, path) in found.items():
            if name not in told:
                types[name], token = guess(values, nulls)
                if token is not None:
                    doubts[name] = (token, path)
        return Scope(types, doubts, nulls, complete=bool(found))


def _expected(files: Iterator[FileRef], units: Units | None) -> Iterator[FileRef]:
    """The files, looked up in the ledger some at a time: few at first, so that the first one need not wait."""
    if units is None:
        yield from files
        return
    together, ended = 8, False
    while not ended:
        some: list[FileRef] = []
        error = None
        try:
            for file in files:
                some.append(file)
                if len(some) == together:
                    break
            else:
                ended = True
        except AiopipeError as found:  # a path that is not there: what was found before comes first
            error = found
        units.expect(some)
        yield from some
        if error is not None:
            raise error
        together = _LOOKED_UP


def _has_tabs(path: str) -> bool:
    return path[-4:].lower() in (".tsv", ".tab")
