"""A hop on a stretch of a large file: read, all steps, in one thread or process; and what if it was cut wrongly.

    stretch 0 ---- computed on ---- ends with a record: what came of it goes on
    stretch 1 ---- computed on ---- ends inside quotes: through the cutter, and what that finds is computed on
    stretch 2 ---- computed on ---- so it did not begin with a record: likewise; the cutter is empty behind it
    stretch 3 ---- computed on ---- as stretch 0

The beginning of the first one is known, so each that is found right makes the next one's known. Nothing that came of a
stretch is looked at before that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiopipe.codec.cut import Cutter, whole
from aiopipe.errors import InputError, RecordError
from aiopipe.fuse import Node
from aiopipe.storage.opening import Input, uncut
from aiopipe.storage.settle import settled
from aiopipe.tuples import NamedTuple

if TYPE_CHECKING:
    from aiopipe.codec.chunk import Chunk
    from aiopipe.engine.workers import Workers
    from aiopipe.storage.stretches import Stretch, Trail

__all__ = ["Guess", "run_stretch", "through"]


class Guess(NamedTuple):
    """What a hop made of a stretch: None where that does not end with a record; and the hashes of its bytes."""

    made: Any
    blocks: bytes


def run_stretch(node: Node, stretch: Stretch) -> Guess:
    """What the node makes of a stretch, if that begins with a record. Blocks, and raises what reading and steps do."""
    data, blocks = stretch.read()
    right = stretch.last or whole(data, stretch.dialect)
    return Guess(node.run(stretch.chunk(data)) if right else None, blocks)


async def through(
    stretch: Stretch, workers: Workers, node: Node, run: Callable[[Chunk], Awaitable[list[Any]]]
) -> list[Any]:
    """What the node makes of a stretch and of the records that began before it; `run` computes on what is cut here.

    Nothing where the file has failed before, or changed. An error that is the file's is its own, as `Failures` says.
    """
    stretches = workers.found.stretches
    assert stretches is not None
    trail = stretches.trail(stretch.file)
    try:
        guess = None
        if stretch.likely and stretches.promising:
            guess = await workers.guess(node, stretch)
        await trail.turn(stretch.part)
        try:
            if trail.over:
                return []
            if guess is not None and trail.cutter is None and guess.made is not None:
                stretches.right += 1
                _settle(stretch, trail, guess.blocks, stretch.stop, workers)
                return [guess.made]
            stretches.wrong += guess is not None
            chunk = await _cut(stretch, trail, workers)
        except (InputError, RecordError) as error:
            trail.over = True
            from aiopipe.storage.read import lost  # workers do without it, and what it imports

            await lost(Input(stretch.file, stretch.dialect), error, workers, stretches.again)
            return [await workers.hop(node.run, stretch.end())]
        finally:
            trail.settle(stretch.part)
    finally:
        stretches.arrive(stretch)
    return await run(chunk)


def _settle(stretch: Stretch, trail: Trail, blocks: bytes, byte: int, workers: Workers) -> None:
    """All up to `byte` has been read, and ends with a record."""
    units = workers.found.units
    trail.byte = byte
    if trail.checksum is not None and stretch.hashed is not None:
        begin, end = stretch.hashed
        trail.checksum.extend(blocks, end - begin)
        trail.checksum.note()
    if units is not None and units.ranges is not None:
        units.ranges.cut(stretch.file, stretch.part + 1, byte)


async def _cut(stretch: Stretch, trail: Trail, workers: Workers) -> Chunk:
    """The whole records that are there when its bytes have been put behind what waits; perhaps none."""
    data, blocks = await settled(workers.io(stretch.read))
    cutter = trail.cutter = trail.cutter or Cutter(stretch.dialect)
    begin = trail.byte
    try:
        found = await workers.hop(cutter.feed, data)
        if stretch.last:
            found += cutter.finish()
    except RecordError as error:
        raise uncut(error, stretch.file, stretch.part, stretch.head_lines, begin) from None
    if not cutter.waits:
        trail.cutter = None
    _settle(stretch, trail, blocks, begin + len(found), workers)
    return stretch.chunk(found, begin)
