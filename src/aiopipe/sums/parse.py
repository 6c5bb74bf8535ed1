"""Reading manifests, whoever wrote them: the format is found by looking, names stay bytes, lines stream.

Understood: coreutils' two forms, with and without `--tag`, `-z` and escapes (also b3sum's, xxhsum's,
shasum's and `openssl dgst`'s); hashdeep; SFV; the JSON lines and CSV that `aiopipe hash` writes. A line that
is none of these is counted, with its number, and never silently believed.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, count, islice, repeat

from aiopipe.errors import InputError
from aiopipe.sums.algorithms import canonical, known_algorithms, of_length, of_tag
from aiopipe.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

__all__ = ["Entry", "Manifest", "open_manifest"]

_SNIFF = 64 * 1024


class Entry(NamedTuple):
    """One file of a manifest. `algorithms` is empty where a line does not say how it was hashed."""

    name: bytes
    algorithms: tuple[str, ...]
    digests: tuple[str, ...]
    line: int
    size: int | None = None
    mtime_ns: int | None = None


class Manifest:
    """A manifest being read: iterate it for entries. `on_bad` hears of each line that is none.

    `zero` says that lines end in NUL, `crlf` that they end as on Windows; `entries` and `bad_lines` are counted.
    """

    def __init__(self, shown: str, form: str, stream: io.BufferedReader[Any], zero: bool, crlf: bool) -> None:
        self.shown = shown
        self.format = form
        self.stream = stream
        self.zero = zero
        self.crlf = crlf
        self.entries = self.bad_lines = 0
        self.on_bad: Callable[[int], None] | None = None
        self._names: dict[str, str] = {}
        self._source: Iterable[bytes] = ()
        self._first = 1

    def __iter__(self) -> Iterator[Entry]:
        """The entries, in the order of the file; neighbouring lines about one file are one entry."""
        for entries in self.runs():
            yield from entries

    def runs(self) -> Iterator[list[Entry]]:
        """The entries as lists, for those who handle many at a time."""
        lines: Iterable[bytes] = self.stream
        if self.format == "gnu" and not self.zero and not self.crlf:
            quick = _Quick(self.stream)
            for run in quick:
                self.entries += len(run)
                yield run
            self._first, lines = quick.line, quick.left()
        self._source = lines
        entries = _merged(_PARSERS[self.format](self))
        while run := list(islice(entries, 1024)):
            self.entries += len(run)
            yield run

    def bad(self, line: int) -> None:
        """Count a line that is no entry."""
        self.bad_lines += 1
        if self.on_bad is not None:
            self.on_bad(line)

    def close(self) -> None:
        """Close the file."""
        self.stream.close()


def open_manifest(path: str, *, form: str | None = None) -> Manifest:
    """Open a manifest and find out what it is; `-` is standard input, `form` overrides the look.

    Raises InputError for a file that is missing or cannot be read.
    """
    try:
        raw = sys.stdin.buffer if path == "-" else open(path, "rb", buffering=0)  # noqa: SIM115
        stream = io.BufferedReader(raw, 1 << 18)  # type: ignore[type-var]
        head = stream.peek(_SNIFF)[:_SNIFF]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", hint="name a manifest, such as SHA256SUMS") from error
    if head.startswith(b"\xef\xbb\xbf"):
        stream.read(3)
        head = head[3:]
    found = form or _look(head)
    first = head.split(b"\n", 2)[:-1]
    crlf = bool(first) and all(line.endswith(b"\r") for line in first if line)
    zero = found == "gnu" and b"\0" in head
    return Manifest(path, found, stream, zero, crlf)


def _look(head: bytes) -> str:
    """The format of a manifest that begins like this."""
    if head.startswith(b"%%%% HASHDEEP"):
        return "hashdeep"
    if b"\0" in head:
        return "gnu"  # -z; the only form of it that there is
    lines = [line.rstrip(b"\r") for line in head.split(b"\n")]
    first = next((line for line in lines if line.strip()), b"")
    if first.startswith(b"{"):
        return "jsonl"
    columns = [column.strip().strip(b'"') for column in first.split(b",")]
    line_of_sums = any(shape.fullmatch(first) for shape in (_GNU, _BSD, _SFV))  # of a file called ",path,"
    if len(columns) > 1 and {b"path", b"path_b64"} & set(columns) and not line_of_sums:
        return "csv"
    for line in lines:
        if not line.strip() or line.startswith(b"#"):
            continue
        if line.startswith(b";"):
            return "sfv"
        if _GNU.fullmatch(line) or _BSD.fullmatch(line):
            return "gnu"
        if _SFV.fullmatch(line):
            return "sfv"
    return "gnu"


_entry_of: Callable[[Any], Entry] = partial(tuple.__new__, Entry)  # its own constructor is a Python function
_SIMPLE = re.compile(rb"([0-9a-fA-F]{8,128}) [ *]([^\n]+)\n")
_GNU = re.compile(rb"[ \t]*(\\?)(?:XXH3_)?([0-9a-fA-F]{8,128}) ([ *]?)(.+)", re.DOTALL)
_BSD = re.compile(rb"[ \t]*(\\?)([A-Za-z0-9/_-]+) ?\((.+)\) ?= ?([0-9a-fA-F]{8,128})", re.DOTALL)
_SFV = re.compile(rb"(.*\S)[ \t]+([0-9a-fA-F]{8})[ \t]*", re.DOTALL)
_ESCAPE = re.compile(rb"\\(.?)", re.DOTALL)
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"\\": b"\\"}


def unescape(name: bytes) -> bytes | None:
    r"""A name back from coreutils' escapes, or None where a backslash is followed by something else.

    >>> unescape(b"a\\nb"), unescape(b"a\\xb")
    (b'a\nb', None)
    """
    if any(each not in _ESCAPES for each in _ESCAPE.findall(name)):
        return None
    return _ESCAPE.sub(lambda match: _ESCAPES[match[1]], name)


def _lines(manifest: Manifest) -> Iterator[tuple[int, bytes]]:
    """Lines and their numbers, without their ends and without comments."""
    if manifest.zero:
        yield from enumerate(_zero_ended(manifest.stream), 1)
        return
    for number, line in enumerate(manifest._source, manifest._first):
        text = line[:-1] if line.endswith(b"\n") else line
        if manifest.crlf and text.endswith(b"\r"):
            text = text[:-1]
        if text and not text.startswith(b"#"):
            yield number, text


def _zero_ended(stream: BinaryIO) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(1 << 16):
        *whole, rest = (rest + block).split(b"\0")
        yield from whole
    if rest.strip(b"\r\n"):
        yield rest


class _Quick:
    """The plainest lines of coreutils, block by block: no escape, no tag, no comment. Behind them see what is `left`.

    A pattern over a whole block is four times as quick as one over each line.
    """

    def __init__(self, stream: io.BufferedReader[Any]) -> None:
        self._stream = stream
        self._rest = b""
        self.line = 1

    def __iter__(self) -> Iterator[list[Entry]]:
        while block := self._stream.read1(_SNIFF):
            data = self._rest + block
            cut = data.rfind(b"\n") + 1
            found = _SIMPLE.findall(data, 0, cut)
            if sum(map(len, chain.from_iterable(found))) + 3 * len(found) != cut:
                self._rest = data
                return
            digests = [digest for digest, _ in found]
            if not all(map(of_length, set(map(len, digests)))):
                self._rest = data
                return
            self._rest = data[cut:]
            texts = b" ".join(digests).decode("ascii").lower().split()
            # Columns and not lines: without a step of Python for each, which took as long as the pattern.
            columns = [name for _, name in found], repeat(()), zip(texts), count(self.line), repeat(None), repeat(None)
            yield list(map(_entry_of, zip(*columns)))  # noqa: B905  # most of them have no end
            self.line += len(found)

    def left(self) -> Iterator[bytes]:
        """The lines that it did not take, the first of which is number `line`."""
        lines = [line + b"\n" for line in self._rest.split(b"\n")]
        yield from lines[:-1]
        yield lines[-1][:-1] + self._stream.readline()
        yield from self._stream


def _plain(manifest: Manifest) -> Iterator[Entry]:
    """Lines of coreutils, either form, and of those that write like it."""
    gnu, bsd, tags = _GNU.fullmatch, _BSD.fullmatch, manifest._names
    for number, line in _lines(manifest):
        if match := gnu(line):
            mark, digest, _, name = match.groups()
            algorithms: tuple[str, ...] = ("xxh3",) if b"XXH3_" in line[:6] else ()
        elif match := bsd(line):
            mark, tag, name, digest = match.groups()
            text = tag.decode()
            known = tags.get(text)
            if known is None:
                known = tags[text] = _tagged(text) or ""
            algorithms = (known,)
            if not known or not _fits(known, len(digest)):
                manifest.bad(number)
                continue
        else:
            manifest.bad(number)
            continue
        if mark and not manifest.zero:
            plain = unescape(name)
            if plain is None:
                manifest.bad(number)
                continue
            name = plain
        if not algorithms and not of_length(len(digest)):
            manifest.bad(number)
            continue
        yield Entry(name, algorithms, (digest.decode().lower(),), number)


def _tagged(tag: str) -> str | None:
    # OpenSSL 3 writes SHA2-256(name)= where everybody else writes SHA256 (name) =
    return of_tag(tag) or of_tag(tag.upper().replace("SHA2-", "SHA"))


def _fits(name: str, width: int) -> bool:
    base, _, bits = name.partition("-")
    if bits:
        return int(bits) == width * 4
    return base in of_length(width) or (base, width) in (("sha512_256", 64), ("sha512_224", 56))


def _sfv(manifest: Manifest) -> Iterator[Entry]:
    for number, line in _lines(manifest):
        if line.startswith(b";"):
            continue
        match = _SFV.fullmatch(line)
        if match is None:
            manifest.bad(number)
            continue
        yield Entry(match[1], ("crc32",), (match[2].decode().lower(),), number)


def _hashdeep(manifest: Manifest) -> Iterator[Entry]:
    columns: list[str] = []
    for number, raw in enumerate(manifest.stream, 1):
        line = raw.rstrip(b"\n")
        if manifest.crlf:
            line = line.rstrip(b"\r")
        if line.startswith(b"%%%%"):
            if b"," in line:
                columns = line[4:].strip().decode("ascii", "replace").split(",")
            continue
        if not line or line.startswith(b"##"):
            continue
        parts = line.split(b",", len(columns) - 1) if columns else []
        if len(parts) != len(columns) or not parts or not parts[0].isdigit():
            manifest.bad(number)
            continue
        values = dict(zip(columns, parts, strict=True))
        digests = {canonical(name): values[name] for name in columns[1:-1]}
        entry = _entry(values[columns[-1]], digests, number, int(parts[0]), None)
        if entry is None:
            manifest.bad(number)
            continue
        yield entry


def _entry(name: bytes, digests: dict[str, bytes], number: int, size: int | None, mtime_ns: int | None) -> Entry | None:
    """An entry from named digests; None where none of them is one that we know."""
    known = set(known_algorithms())
    usable = {
        algorithm: digest.decode("ascii").lower()
        for algorithm, digest in digests.items()
        if algorithm.partition("-")[0] in known and re.fullmatch(rb"[0-9a-fA-F]{8,128}", digest)
    }
    if not usable or not name:
        return None
    return Entry(name, tuple(usable), tuple(usable.values()), number, size, mtime_ns)


_NOT_DIGESTS = frozenset({"path", "path_b64", "size", "mtime_ns", "status", "reason"})


def _jsonl(manifest: Manifest) -> Iterator[Entry]:
    import base64  # these, like csv, take milliseconds that most manifests need not spend
    import json

    for number, line in enumerate(manifest.stream, 1):
        if not line.strip():
            continue
        entry = None
        try:
            record = json.loads(line)
            if isinstance(record, dict):
                name = (
                    base64.b64decode(record["path_b64"], validate=True)
                    if "path_b64" in record
                    else str(record["path"]).encode("utf-8", "surrogateescape")
                )
                digests = {
                    canonical(key): str(value).encode() for key, value in record.items() if key not in _NOT_DIGESTS
                }
                entry = _entry(name, digests, number, _number(record.get("size")), _number(record.get("mtime_ns")))
        except (ValueError, KeyError, TypeError):
            pass
        if entry is None:
            manifest.bad(number)
        else:
            yield entry


def _number(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and value.isdecimal() else None


def _csv(manifest: Manifest) -> Iterator[Entry]:
    import csv

    # latin-1 maps every byte to one character and back, so that csv sees text and names stay bytes.
    text = io.TextIOWrapper(manifest.stream, "latin-1", newline="")
    try:
        rows = csv.reader(text, strict=True)
        columns = next(rows, [])
        while True:
            number = rows.line_num + 1
            try:
                row = next(rows, None)
            except csv.Error:
                manifest.bad(number)
                continue
            if row is None:
                return
            if not row:
                continue
            values = dict(zip(columns, row, strict=False))
            entry = None
            if len(row) == len(columns):
                digests = {
                    canonical(key): value.encode("latin-1") for key, value in values.items() if key not in _NOT_DIGESTS
                }
                size, mtime = _number(values.get("size")), _number(values.get("mtime_ns"))
                entry = _entry(values.get("path", "").encode("latin-1"), digests, number, size, mtime)
            if entry is None:
                manifest.bad(number)
            else:
                yield entry
    finally:
        text.detach()


def _bagit(manifest: Manifest) -> Iterator[Entry]:
    """RFC 8493 section 2.1.3; the RFC allows any white space between digest and name."""
    for number, line in enumerate(manifest.stream, 1):
        match = re.fullmatch(rb"([0-9a-fA-F]{8,128})[ \t]+\*?(.+?)\r?\n?", line, re.DOTALL)
        if match is None:
            if line.strip():
                manifest.bad(number)
            continue
        name = re.sub(rb"%(0[aAdD]|25)", lambda found: bytes([int(found[1], 16)]), match[2])
        yield Entry(name, (), (match[1].decode().lower(),), number)


_PARSERS: dict[str, Callable[[Manifest], Iterator[Entry]]] = {
    "gnu": _plain,
    "bsd": _plain,
    "sfv": _sfv,
    "hashdeep": _hashdeep,
    "jsonl": _jsonl,
    "csv": _csv,
    "bagit": _bagit,
}


def _merged(entries: Iterator[Entry]) -> Iterator[Entry]:
    """Neighbours about one file under different algorithms as one entry: it is to be read once."""
    last: Entry | None = None
    for entry in entries:
        if last is None:
            last = entry
        elif (
            entry.algorithms
            and last.algorithms
            and entry.name == last.name
            and not set(entry.algorithms) & set(last.algorithms)
        ):
            last = last._replace(algorithms=last.algorithms + entry.algorithms, digests=last.digests + entry.digests)
        else:
            yield last
            last = entry
    if last is not None:
        yield last
