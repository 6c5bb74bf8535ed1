"""A hop on a group of small files: read, all steps, and put beside their targets, in one thread or process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiopipe.errors import AiopipeError, ChangedError, OutputError
from aiopipe.fuse import Node, Tally
from aiopipe.storage.put import discard

if TYPE_CHECKING:
    from aiopipe.storage.groups import Group

__all__ = ["Made", "output_of", "run_group", "undo"]

Made = list[tuple[Any, tuple[Tally, ...]]]  # what a hop makes of a group: for each of its chunks what `Node.run` gives


def run_group(node: Node, group: Group) -> Made | AiopipeError | None:
    """What the node makes of a group's files; None, and nothing is left, where one needs a closer look. Blocks.

    An error where that is certain already: ChangedError of a file that changed each time it was read, or OutputError of
    a disk that did not take an output.
    """
    puts: list[str] = []
    try:
        chunks, readings = group.read()
        names, at = group.names, 0
        sink: Any = node.steps[-1].stage
        found: Made = []
        for chunk in chunks:
            encoded, tallies = node.run(chunk)
            begun, count = time.perf_counter(), len(encoded.segments)
            try:
                some = sink.put(encoded, names[at : at + count], hashed=group.hashed)
            except OutputError as error:
                discard(puts)
                return error
            puts += some.paths
            read = None if readings is None else readings.only(range(at, at + count))
            arrived = replace(encoded, bodies=(), puts=some, readings=read, group=group.first)
            last = tallies[-1]._replace(seconds=tallies[-1].seconds + time.perf_counter() - begun)
            found.append((arrived, (*tallies[:-1], last)))
            at += count
    except ChangedError as error:
        return error  # it is read before anything is put
    except Exception:
        discard(puts)
        return None
    except BaseException:
        discard(puts)
        raise
    return found


def undo(made: Made | AiopipeError | None) -> None:
    """Remove what a hop has put: nobody is left to take it. Blocks."""
    for encoded, _ in made if isinstance(made, list) else ():
        discard(encoded.puts.paths)


def output_of(node: Node) -> Callable[[str], str]:
    """Where the outputs of a node's sink go."""
    found: Callable[[str], str] = node.steps[-1].stage.output_of  # type: ignore[attr-defined]
    return found
