"""An output with records put in: a copy of it, read block by block, with others in the places where they belong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from aiopipe.arrays import Ints
from aiopipe.codec.cut import Cutter
from aiopipe.codec.dialect import Dialect
from aiopipe.codec.index import index
from aiopipe.errors import OutputError
from aiopipe.model import display_path
from aiopipe.storage.version import Checksum
from aiopipe.storage.write import trouble

__all__ = ["Shape", "spliced"]

_BLOCK = 4 << 20
_ANEW = "run the pipeline again: it makes such outputs anew"


@dataclass(frozen=True, slots=True)
class Shape:
    """How an output is written: its header record as bytes, and its dialect (None: a record is a line, as in JSON)."""

    head: bytes
    columns: int
    dialect: Dialect | None


def spliced(path: str, shape: Shape, inserts: Iterable[tuple[int, bytes]], checksum: Checksum) -> Iterator[Any]:
    """The bytes of the output at `path`, with each piece of `inserts` behind as many records as it says.

    inserts: in order. checksum: takes what was read, all of it once the iterator has ended. OutputError where the
    output has other columns, or fewer records. Blocks.
    """
    waiting = list(inserts)[::-1]
    seen = 0
    try:
        with open(path, "rb") as file:
            head = file.read(len(shape.head))
            checksum.update(head)
            if head != shape.head:
                raise OutputError(
                    f"{display_path(path)} has other columns than the records that are to go in", hint=_ANEW
                )
            yield head
            blocks = _blocks(file, checksum)
            chunks = _lines(blocks) if shape.dialect is None else _records(blocks, shape.dialect)
            for chunk in chunks:
                starts = _starts(chunk, shape, path)
                at, view = 0, memoryview(chunk)
                while waiting and waiting[-1][0] < seen + len(starts):
                    before, piece = waiting.pop()
                    stop = int(starts[before - seen])
                    yield view[at:stop]
                    yield piece
                    at = stop
                yield view[at:]
                seen += len(starts)
    except OSError as error:
        raise trouble(path, error) from None
    while waiting:
        before, piece = waiting.pop()
        if before != seen:
            raise OutputError(f"{display_path(path)} has {seen} records, and was made of more", hint=_ANEW)
        yield piece


def _blocks(file: Any, checksum: Checksum) -> Iterator[bytes]:
    while data := file.read(_BLOCK):
        checksum.update(data)
        yield data


def _records(blocks: Iterable[bytes], dialect: Dialect) -> Iterator[bytes]:
    cutter = Cutter(dialect)
    for block in blocks:
        if chunk := cutter.feed(block):
            yield chunk
    if chunk := cutter.finish():
        yield chunk


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for block in blocks:
        block = rest + block
        cut = block.rfind(b"\n") + 1
        rest = block[cut:]
        if cut:
            yield block[:cut]
    if rest:
        yield rest


def _starts(chunk: bytes, shape: Shape, path: str) -> Ints:
    """Where the records of a chunk begin."""
    if shape.dialect is None:
        ends = np.flatnonzero(np.frombuffer(chunk, np.uint8) == 10) + 1
        starts: Ints = np.concatenate([[0], ends[ends < len(chunk)]])
        return starts
    found = index(chunk, shape.dialect, shape.columns)
    if found.bad:
        raise OutputError(
            f"{display_path(path)} holds what is no record of its columns: {found.bad[0].reason}", hint=_ANEW
        )
    return found.starts
