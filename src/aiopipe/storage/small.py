"""Small files read whole, many to a chunk: a system call costs more than their bytes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

from aiopipe.batch import Header, Segment
from aiopipe.codec.chunk import Chunk
from aiopipe.codec.cut import clean_quotes
from aiopipe.codec.dialect import Dialect
from aiopipe.errors import AiopipeError, ChangedError, InputError, RecordError
from aiopipe.failures import Failures
from aiopipe.model import FileRef
from aiopipe.storage.headers import read_header
from aiopipe.storage.opening import Input, at, open_regular, trouble, unchanged

__all__ = ["small_files"]


class Noting(Protocol):
    """Who wants to know about files that are read: see `stage.Units`."""

    def was_read(self, file: FileRef, status: os.stat_result, data: bytes) -> None:
        """A file was read in one go: its status, and its bytes."""
        ...


def small_files(
    group: Sequence[Input],
    failures: Failures,
    units: Noting | None = None,
    known: ChangedError | None = None,
) -> tuple[list[Chunk], AiopipeError | None]:
    """Read whole small files, and put those with the same header into one chunk; the order stays.

    An error that ends the run stands behind the chunks of the files before it: what they hold comes first. known: what
    is the matter with one of them, as was found out before.
    """
    chunks: list[Chunk] = []
    run: list[_Small] = []
    header: Header | None = None
    dialect = group[0].dialect
    mine, prefix, head_lines = Header((), ()), b"", 0

    def close() -> None:
        nonlocal run
        if run and header is not None:
            chunks.append(_bundle(run, header, dialect))
        run = []

    for item in group:
        file = item.file
        try:
            if known is not None and known.position is not None and known.position.path == file.path:
                raise known
            data = _whole(file, failures.retries, units)
            if not prefix or not data.startswith(prefix) or not _same(item.dialect, dialect):
                mine, start, head_lines = read_header(data, item.dialect, header)
                # A CR at its end could be half of a CRLF elsewhere: such a header is looked at each time.
                prefix = data[:start] if mine.present and mine.newline[-1:] == b"\n" else b""
            else:
                start = len(prefix)  # the header of the file before: nothing to find out
        except (InputError, RecordError) as error:
            problem = error if isinstance(error, InputError) else at(error, file)
            if failures.goes_on(problem):
                failures.add([file], problem)
                continue
            close()
            return chunks, problem
        body = data[start:]
        # A file whose quotes are odd could pull its neighbours' records into a field: it travels alone.
        quote = mine.quote
        tame = not quote or quote not in body or (body.count(quote) % 2 == 0 and clean_quotes(body, item.dialect))
        if not _same(mine, header) or not _same(item.dialect, dialect) or not tame:
            close()
            header, dialect = mine, item.dialect
        if tame:
            run.append((file, start, head_lines, body))
        else:
            chunks.append(Chunk(body, mine, item.dialect, (Segment(file, 0, True, 0, start, head_lines=head_lines),)))
    close()
    return chunks, None


def _same(one: object, other: object) -> bool:
    """Whether they are equal: mostly they are one and the same, which is quickly seen."""
    return one is other or one == other


def _whole(file: FileRef, retries: int, units: Noting | None = None) -> bytes:
    """The bytes of a small file; InputError where it cannot be read, or changes each time it is."""
    while True:
        try:
            return _at_once(file, units)
        except ChangedError:
            if retries <= 0:
                raise
            retries -= 1


def _at_once(file: FileRef, units: Noting | None) -> bytes:
    try:
        fd, before = open_regular(file)
        try:
            data = os.read(fd, before.st_size + 1)
            while len(data) < before.st_size:
                more = os.read(fd, before.st_size + 1 - len(data))
                if not more:
                    break
                data += more
            unchanged(file, before, os.fstat(fd), len(data))
        finally:
            os.close(fd)
        if units is not None:
            units.was_read(file, before, data)
    except OSError as error:
        raise trouble(file, error) from None
    return data


_Small = tuple[FileRef, int, int, bytes]  # file, where its records start, lines before them, its records


def _bundle(run: list[_Small], header: Header, dialect: Dialect) -> Chunk:
    pieces: list[bytes] = []
    segments: list[Segment] = []
    at = 0
    for file, start, head_lines, body in run:
        # A lone CR at a file's end must not meet its neighbour's LF either.
        clipped = len(run) > 1 and bool(body) and body[-1] != 10
        segments.append(Segment(file, 0, True, at, start, head_lines=head_lines, clipped=int(clipped)))
        if clipped:
            body += b"\n"
        pieces.append(body)
        at += len(body)
    return Chunk(b"".join(pieces), header, dialect, tuple(segments))
