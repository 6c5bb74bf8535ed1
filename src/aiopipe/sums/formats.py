"""Writing manifests: each format as a function from one result to its line, names as bytes throughout.

    gnu       d  name                 coreutils: `\\` before the line, and `\\n` `\\r` `\\\\` within the name
    bsd       SHA256 (name) = d       `--tag`, one line per algorithm, escaped alike
    hashdeep  size,d,d,name           with its header; a name with a line end cannot be written
    sfv       name CRC32              likewise
    jsonl     {"path": ..., ...}      `path_b64` instead of `path` where a name is no UTF-8
    csv       path,size,mtime_ns,d    RFC 4180, quoted where it must be, the name's bytes as they are
    bagit     d  name                 RFC 8493 section 2.1.3: CR, LF and % as %0D %0A %25

Reading them is `aiopipe.sums.parse`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from aiopipe.errors import UsageError
from aiopipe.sums.algorithms import algorithm
from aiopipe.sums.model import FileHash
from aiopipe.tuples import NamedTuple

__all__ = ["FORMATS", "Style", "escape", "header", "renderer"]

FORMATS = ("gnu", "bsd", "hashdeep", "sfv", "jsonl", "csv", "bagit")

Render = Callable[[FileHash], bytes | None]


class Style(NamedTuple):
    """How a manifest is written: its format, whether lines end in NUL, and the directory names are under."""

    format: str = "gnu"
    zero: bool = False
    base: bytes = b""

    def check(self, algorithms: Sequence[str]) -> None:
        """Raise UsageError where this format cannot hold these algorithms."""
        if self.format not in FORMATS:
            raise UsageError(f"no format {self.format!r}", hint=f"known: {', '.join(FORMATS)}")
        if len(algorithms) > 1 and self.format in ("gnu", "sfv", "bagit"):
            raise UsageError(
                f"the format {self.format} holds one algorithm, and {len(algorithms)} were asked for",
                hint="use --format bsd, hashdeep, jsonl or csv",
            )
        if self.format == "sfv" and tuple(algorithms) != ("crc32",):
            raise UsageError("an SFV file holds CRC-32", hint="add -a crc32")
        if self.zero and self.format not in ("gnu", "bsd"):
            raise UsageError(f"-z has no meaning for the format {self.format}", hint="use it with gnu or bsd")


def escape(name: bytes) -> bytes:
    r"""A name as coreutils writes it in a line: backslash, newline and carriage return spelt out.

    >>> escape(b"a\nb")
    b'a\\nb'
    """
    return name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")


def needs_escape(name: bytes) -> bool:
    """Whether coreutils would put a backslash before the line."""
    return b"\\" in name or b"\n" in name or b"\r" in name


def header(style: Style, algorithms: Sequence[str]) -> bytes:
    """What a manifest begins with; empty for most formats."""
    if style.format == "csv":
        return ",".join(("path", "size", "mtime_ns", *algorithms)).encode() + b"\r\n"
    if style.format == "sfv":
        return b"; written by aiopipe\n"  # a comment is also what tells an SFV file from others
    if style.format == "hashdeep":
        columns = ",".join(("size", *algorithms, "filename")).encode()
        here = os.fsencode(style.base or os.getcwd()).replace(b"\n", b"?")
        return b"%%%% HASHDEEP-1.0\n%%%% " + columns + b"\n## Invoked from: " + here + b"\n## \n"
    return b""


def renderer(style: Style, algorithms: Sequence[str]) -> Render:
    """The function that writes one result's lines; None from it means a name the format cannot hold."""
    write = _WRITERS[style.format](style, tuple(algorithms))
    if not style.base:
        return write
    base = style.base

    def relative(result: FileHash) -> bytes | None:
        return write(result._replace(path=os.path.relpath(result.path, base)))

    return relative


def plain_lines(results: Sequence[object], paths: Sequence[bytes]) -> bytes | None:
    """The lines of coreutils for files that have their digests, each a tuple of one; None where one has not.

    All at once, which is five times as quick as one by one. None also where a name has to be escaped.
    """
    names = b"".join(paths)
    if b"\\" in names or b"\n" in names or b"\r" in names:
        return None
    digests: list[str] = [each[0] for each in results if type(each) is tuple]
    if len(digests) != len(results):
        return None
    return b"".join([b"%s  %s\n" % (digest.encode(), name) for digest, name in zip(digests, paths, strict=True)])


def _gnu(style: Style, algorithms: tuple[str, ...]) -> Render:
    if style.zero:
        return lambda result: b"%s  %s\0" % (result[2][0].encode(), result[0])

    def line(result: FileHash) -> bytes:
        name = result[0]
        if b"\\" in name or b"\n" in name or b"\r" in name:
            return b"\\%s  %s\n" % (result[2][0].encode(), escape(name))
        return b"%s  %s\n" % (result[2][0].encode(), name)

    return line


def _bsd(style: Style, algorithms: tuple[str, ...]) -> Render:
    tags = [algorithm(name).tag.encode() for name in algorithms]
    end = b"\0" if style.zero else b"\n"

    def lines(result: FileHash) -> bytes:
        name, mark = result.path, b""
        if not style.zero and needs_escape(name):
            name, mark = escape(name), b"\\"
        pairs = zip(tags, result.digests, strict=True)
        return b"".join([b"%s%s (%s) = %s%s" % (mark, tag, name, digest.encode(), end) for tag, digest in pairs])

    return lines


def _hashdeep(style: Style, algorithms: tuple[str, ...]) -> Render:
    def line(result: FileHash) -> bytes | None:
        if b"\n" in result.path or b"\r" in result.path:
            return None
        return b"%d,%s,%s\n" % (result.size, ",".join(result.digests).encode(), result.path)

    return line


def _sfv(style: Style, algorithms: tuple[str, ...]) -> Render:
    def line(result: FileHash) -> bytes | None:
        name = result.path
        if b"\n" in name or b"\r" in name or name.startswith(b";"):
            return None
        return b"%s %s\n" % (name, result.digests[0].upper().encode())

    return line


def _jsonl(style: Style, algorithms: tuple[str, ...]) -> Render:
    import base64
    import json

    def line(result: FileHash) -> bytes:
        record: dict[str, object] = {}
        try:
            record["path"] = result.path.decode("utf-8")
        except UnicodeDecodeError:
            record["path_b64"] = base64.b64encode(result.path).decode("ascii")
        record["size"] = result.size
        record["mtime_ns"] = result.signature.mtime_ns if result.signature is not None else None
        record.update(zip(algorithms, result.digests, strict=True))
        return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    return line


def csv_field(field: bytes) -> bytes:
    r"""A field quoted where RFC 4180 asks for it (also an empty one or one with outer spaces).

    >>> csv_field(b'a"b'), csv_field(b"plain")
    (b'"a""b"', b'plain')
    """
    if not field or field != field.strip() or any(char in field for char in (b",", b'"', b"\n", b"\r")):
        return b'"' + field.replace(b'"', b'""') + b'"'
    return field


def _csv(style: Style, algorithms: tuple[str, ...]) -> Render:
    def line(result: FileHash) -> bytes:
        mtime = b"%d" % result.signature.mtime_ns if result.signature is not None else b""
        digests = ",".join(result.digests).encode()
        return b"%s,%d,%s,%s\r\n" % (csv_field(result.path), result.size, mtime, digests)

    return line


def _bagit(style: Style, algorithms: tuple[str, ...]) -> Render:
    return lambda result: b"%s  %s\n" % (result.digests[0].encode(), bagit_name(result.path))


def bagit_name(name: bytes) -> bytes:
    r"""A name as RFC 8493 writes it in a manifest.

    >>> bagit_name(b"data/100%\n")
    b'data/100%25%0A'
    """
    return name.replace(b"%", b"%25").replace(b"\n", b"%0A").replace(b"\r", b"%0D")


_WRITERS: dict[str, Callable[[Style, tuple[str, ...]], Render]] = {
    "gnu": _gnu,
    "bsd": _bsd,
    "hashdeep": _hashdeep,
    "sfv": _sfv,
    "jsonl": _jsonl,
    "csv": _csv,
    "bagit": _bagit,
}
