"""From what a caller gives (paths, a walk, an asynchronous source) to batches of the schedule."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from itertools import chain, islice

from aiopipe.errors import UsageError
from aiopipe.sums.model import FileHash, Found, Problem
from aiopipe.sums.schedule import Schedule
from aiopipe.sums.walk import Walk, WalkOptions, as_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from aiopipe.sums.runners import Wrap

    AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
    Source = AnyPath | Sequence[AnyPath] | Found | Problem
    Paths = AnyPath | Iterable[AnyPath] | Iterable[Found | Problem] | AsyncIterable[Source]

__all__ = ["Feeder", "items_of"]

Items = Iterable[Found | Problem]


class Feeder:
    """Turns runs of files into batches of the schedule; small directories share one."""

    def __init__(self, items: Items, schedule: Schedule, wrap: Wrap) -> None:
        self._items = iter(items)
        self._wrap = wrap
        self._schedule = schedule
        self.ended = False

    def pull(self, most: int = 64) -> list[Found | Problem]:
        """Some more items; touches the disk and nothing else, so it may run in any one thread."""
        taken: list[Found | Problem] = []
        files = 0
        for item in islice(self._items, most):
            taken.append(item)
            files += len(item.names) if isinstance(item, Found) else 1
            if files >= 1024:
                return taken
        self.ended = len(taken) < most
        return taken

    async def pull_from(self, upstream: AsyncIterator[Any]) -> list[Found | Problem]:
        """The next item of an asynchronous source, whichever way it names its files."""
        try:
            item = await anext(upstream)
        except StopAsyncIteration:
            self.ended = True
            return []
        if isinstance(item, Found | Problem):
            return [item]
        paths = [item] if isinstance(item, str | bytes | os.PathLike) else item
        return [Found(b"", [as_bytes(path) for path in paths], follow=True)]

    def feed(self, items: list[Found | Problem]) -> None:
        """Give items to the schedule."""
        paths: list[bytes] = []
        kind: tuple[bool, tuple[str, ...]] = (False, ())
        for item in items:
            if isinstance(item, Problem):
                self._flush(paths, kind)
                paths = []
                failed = FileHash(item.path, item.status, (), None, item.reason)
                self._schedule.add_done(item.path, self._wrap([failed], [item.path], 0))
                continue
            if (item.follow, item.algorithms) != kind:
                self._flush(paths, kind)
                paths, kind = [], (item.follow, item.algorithms)
            prefix = item.prefix
            paths += [prefix + name for name in item.names] if prefix else item.names
        self._flush(paths, kind)

    def _flush(self, paths: list[bytes], kind: tuple[bool, tuple[str, ...]]) -> None:
        if paths:
            self._schedule.add(paths, follow=kind[0], algorithms=kind[1])


def items_of(paths: object, walk: WalkOptions | None) -> tuple[Items, list[bytes]]:
    """The stream of items behind whatever the caller gave, and the roots that say which disk it is."""
    if isinstance(paths, Walk):
        return paths, []
    if isinstance(paths, str | bytes | os.PathLike):
        roots = [as_bytes(paths)]
        return Walk(roots, walk), roots
    if not isinstance(paths, Iterable):
        raise UsageError(f"{paths!r} is no path", hint="give a path, or several")
    given = list(islice(iterator := iter(paths), 1))
    if given and isinstance(given[0], Found | Problem):
        return chain(given, iterator), []
    roots = [as_bytes(each) for each in (*given, *iterator)]
    return Walk(roots, walk), roots
