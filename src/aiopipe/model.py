"""The small frozen things that travel: a file, a place in it, a record set aside.

All are picklable, none knows how it is read or written.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["FileRef", "Position", "Reject", "directory_of", "display_path", "files_from", "files_in_columns"]


def display_path(path: str) -> str:
    """`path` as text that any terminal and any CSV can hold: bytes that are no UTF-8 become `\\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def directory_of(path: str) -> str:
    """What stands before a file's name in its path, separator and all; os.path.dirname takes three times as long."""
    return path[: max(path.rfind(os.sep), path.rfind(os.altsep) if os.altsep else -1) + 1]


@dataclass(frozen=True, slots=True, init=False)
class FileRef:
    """A file of the input.

    path: as the program opens it. relative: below the glob's or directory's root, where a mirrored output
    goes. index: its place in the job's order, from 0. size: bytes when it was found, -1 for a stream.
    """

    path: str
    relative: str
    index: int = 0
    size: int = -1

    def __init__(self, path: str, relative: str, index: int = 0, size: int = -1) -> None:
        # What a frozen dataclass does by itself takes three times as long, and there is one of each file.
        _set_path(self, path)
        _set_relative(self, relative)
        _set_index(self, index)
        _set_size(self, size)

    def __fspath__(self) -> str:
        return self.path

    def __reduce__(self) -> tuple[type[FileRef], tuple[object, ...]]:
        # What a frozen dataclass does by itself takes ten times as long, and every file goes to a worker process.
        return FileRef, (self.path, self.relative, self.index, self.size)


_set_path, _set_relative, _set_index, _set_size = (
    getattr(FileRef, name).__set__ for name in FileRef.__dataclass_fields__
)


def files_in_columns(files: Iterable[FileRef]) -> tuple[tuple[Any, ...], ...]:
    """Files as columns, to be pickled: a pickle of each by itself takes ten times as long."""
    rows = [(file.path, file.relative, file.index, file.size) for file in files]
    return tuple(zip(*rows, strict=True)) if rows else ((), (), (), ())


def files_from(columns: Iterable[Iterable[Any]]) -> tuple[FileRef, ...]:
    """What `files_in_columns` took apart."""
    return tuple(map(FileRef, *columns))


@dataclass(frozen=True, slots=True)
class Position:
    """Where in the input: `people.csv:17 (record 16, byte 2041)`.

    line and record count from 1, the header is line 1 and no record; byte counts from 0.
    """

    path: str
    line: int | None = None
    record: int | None = None
    byte: int | None = None

    def __str__(self) -> str:
        line = f":{self.line}" if self.line is not None else ""
        parts = [
            f"{word} {value}" for word, value in (("record", self.record), ("byte", self.byte)) if value is not None
        ]
        return f"{display_path(self.path)}{line}" + (f" ({', '.join(parts)})" if parts else "")


@dataclass(frozen=True, slots=True)
class Reject:
    """A record set aside: where it stood, which stage refused it and why, and its bytes as they were.

    Until its batch reaches the end of the pipeline, `position.line` and `.record` count from the start of
    the chunk; `moved` makes them absolute. part: which of the file's chunks that is, from 0; head_lines: lines
    before the first of them. kind names the error class that a run without a rejects file raises: "record",
    "function", "request" or "worker". trace: the user's function's own traceback, as text. final: it ends the run,
    even where there is a rejects file. before: how many records of its file's output stand before the place where its
    own would have been; -1 where nobody can tell.
    """

    file: FileRef
    position: Position
    stage: str
    reason: str
    raw: bytes
    hint: str = ""
    kind: str = "record"
    trace: str = ""
    part: int = 0
    head_lines: int = 0
    final: bool = False
    before: int = -1

    def moved(self, lines: int, records: int) -> Reject:
        """The same reject with its line and record counted from the start of the file."""
        where = self.position
        return replace(
            self,
            position=replace(
                where,
                line=None if where.line is None else where.line + lines,
                record=None if where.record is None else where.record + records,
            ),
        )
