"""All records as one output: a file that appears when it is whole, standard output, or a stream of bytes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiopipe.errors import OutputError
from aiopipe.model import Position, display_path
from aiopipe.stage import Context, Outcome
from aiopipe.stages._pieces import begun, encoded_like, write_all
from aiopipe.storage.settle import settled
from aiopipe.storage.stdout import StandardOutput

if TYPE_CHECKING:
    from aiopipe.codec.encode import Encoded

__all__ = ["Joined", "joined_pieces", "to_file", "to_stdout"]


@dataclass(eq=False, repr=False)
class Joined:
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


async def to_file(path: str, parcels: AsyncIterator[Any], context: Context) -> Outcome:
    outcome, joined = Outcome(), Joined()
    temporary = await begun(path, context, alone=True)
    cut_off = False
    try:
        async for part in parcels:
            out = encoded_like(joined.add(part), part)
            cut_off = _unfinished(part)
            if out:
                await settled(context.io(write_all, temporary, out))
            outcome.records += len(part)
        if context.found.cut or cut_off:  # not all of the input: the old file stays
            outcome.records, outcome.unfinished = 0, outcome.records
            return outcome
        await settled(context.io(write_all, temporary, encoded_like(joined.rest(), joined.spare)))
        await settled(context.io(temporary.commit))
        outcome.files, outcome.nbytes = 1, temporary.nbytes
        return outcome
    finally:
        if not outcome.files:
            temporary.discard()


async def joined_pieces(parcels: AsyncIterator[Any]) -> AsyncGenerator[tuple[int, Any], None]:
    """The bytes of all parcels as one output, each piece with the number of records that are whole behind it."""
    joined = Joined()
    async for part in parcels:
        pieces = encoded_like(joined.add(part), part)
        for i, piece in enumerate(pieces, 1):
            yield (len(part) if i == len(pieces) else 0), piece
    for piece in encoded_like(joined.rest(), joined.spare):
        yield 0, piece


async def to_stdout(parcels: AsyncIterator[Any], context: Context) -> Outcome:
    outcome, joined, stdout = Outcome(), Joined(), StandardOutput()
    async for part in parcels:
        await stdout.write(encoded_like(joined.add(part), part), context)
        outcome.records += len(part)
    await stdout.write(encoded_like(joined.rest(), joined.spare), context)
    outcome.nbytes = stdout.nbytes
    outcome.files = 1
    return outcome
