"""What the outputs of `write` have in common: a temporary, and pieces of bytes that go into it."""

from __future__ import annotations

from functools import partial
from typing import Any

from aiopipe.stage import Context
from aiopipe.storage.settle import settled
from aiopipe.storage.write import Temporary

__all__ = ["begun", "encoded_like", "write_all"]


async def begun(path: str, context: Context, *, hashed: bool = False, alone: bool = False) -> Temporary:
    """A temporary that is removed again when nobody is left to take it."""
    return await settled(context.io(partial(Temporary, path, hashed=hashed, alone=alone)), Temporary.discard)


def write_all(temporary: Temporary, pieces: list[Any]) -> None:
    for piece in pieces:
        temporary.write(piece)


def encoded_like(pieces: list[Any], part: Any) -> list[Any]:
    """Transcoded input (UTF-16, ...) leaves in its own encoding."""
    if not pieces or not part.transcode:
        return pieces
    return [bytes(p).decode().encode(part.transcode) for p in pieces]
