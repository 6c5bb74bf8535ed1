"""`hash`: the digests of files, as items."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from aiopipe.errors import UsageError
from aiopipe.model import FileRef, Position, Reject
from aiopipe.options import option, strings
from aiopipe.stage import Context, Flow, Items, Scope, Stage

if TYPE_CHECKING:
    from aiopipe.sums import FileHash, Found

__all__ = ["Hash"]

_HINTS = {
    "unreadable": "check its permissions and its disk",
    "unstable": "run again when nobody writes to it",
    "vanished": "leave the files where they are during the run",
    "irregular": "only regular files have a digest",
}


@dataclass(frozen=True, repr=False, init=False)
class Hash(Flow):
    """Hash files: each becomes an item with path, size, mtime_ns, and a digest for each algorithm.

    These are the columns of `aiopipe hash --format csv`, so `aiopipe check` takes what `write` makes of them. Several
    algorithms share one read. A digest is that of one version of the file: what changes while it is read, cannot be
    read, has vanished, or is no regular file is set aside with the reason, its name as `raw`, or ends the run.
    """

    word: ClassVar[str] = "hash"
    takes: ClassVar[tuple[str, ...]] = ("files",)
    example: ClassVar[str] = "aiopipe pipe find sample_data/ then hash -a md5 then head 3 then write - --format csv"

    algorithms: Any = option(
        ("sha256",), kind="texts", positional="many", short="a", metavar="ALG[,ALG]", help="sha256, blake3, xxh128, ..."
    )
    concurrency: Any = option(
        None, kind="int", help="files read at once (default: the cores; one on a rotating or network disk)"
    )

    def __init__(self, *algorithms: str | Iterable[str], concurrency: int | None = None) -> None:
        names = [name.strip() for each in algorithms for text in strings(each) for name in text.split(",")]
        object.__setattr__(self, "algorithms", tuple(names) or ("sha256",))
        object.__setattr__(self, "concurrency", concurrency)
        self.__post_init__()

    def __post_init__(self) -> None:
        super().__post_init__()
        from aiopipe.sums import HashOptions

        if self.concurrency is not None and self.concurrency < 1:
            raise UsageError(f"concurrency is {self.concurrency}", stage="hash", hint="give it 1 or more")
        try:
            object.__setattr__(self, "algorithms", HashOptions(self.algorithms).algorithms)
        except UsageError as error:
            error.stage = "hash"
            raise

    @classmethod
    def build(cls, options: Mapping[str, Any]) -> Stage:
        """From named options."""
        rest = dict(options)
        return cls(*strings(rest.pop("algorithms", ())), **rest)

    def gives(self, kind: str) -> str:
        """Items."""
        return "items"

    async def flow(self, parcels: AsyncIterator[Any], scope: Scope, context: Context) -> AsyncIterator[Any]:
        """The files with their digests, in order; a failure of the input follows what came before it."""
        from aiopipe.sums import hash_batches

        waiting = _Waiting(parcels)
        async with aclosing(waiting.runs()) as runs:
            jobs = self.concurrency or await waiting.lanes(context)
            async with aclosing(hash_batches(runs, self.algorithms, jobs=jobs)) as batches:  # type: ignore[type-var]
                async for results in batches:
                    yield self._items(results, waiting.files)
        if waiting.error is not None:
            raise waiting.error

    def _items(self, results: list[FileHash], files: deque[FileRef]) -> Items:
        items: list[Any] = []
        rejects: list[Reject] = []
        for result in results:
            file = files.popleft()
            if result.signature is None or not result.ok:
                rejects.append(_reject(file, result))
                continue
            item = {"path": file.path, "size": result.size, "mtime_ns": result.signature.mtime_ns}
            item.update(zip(self.algorithms, result.digests, strict=True))
            items.append(item)
        return Items(items, tuple(rejects))


class _Waiting:
    """The files whose digests have not come yet, oldest first, and what ended their source, if anything did."""

    def __init__(self, parcels: AsyncIterator[Any]) -> None:
        self.files: deque[FileRef] = deque()
        self.error: Exception | None = None
        self._parcels = parcels
        self._first: Any = None

    async def lanes(self, context: Context) -> int:
        """How many files to read at once from the disk that the first one is on."""
        from aiopipe.sums.machine import lanes_for

        self._first = await self._next()
        if self._first is None:
            return 1
        roots = [os.fsencode(os.path.dirname(file.path) or ".") for file in self._first.values[:1]]
        return (await context.io(lanes_for, roots))[0]

    async def runs(self) -> AsyncGenerator[Found, None]:
        """The files as the hashing engine takes them."""
        from aiopipe.sums import Found

        parcel, self._first = self._first, None
        while parcel is not None or (parcel := await self._next()) is not None:
            self.files.extend(parcel.values)
            # Links are followed: `find` has seen that there is a file behind each.
            yield Found(b"", [os.fsencode(file.path) for file in parcel.values], follow=True)
            parcel = None

    async def _next(self) -> Any:
        if self.error is not None:
            return None
        try:
            return await anext(self._parcels, None)
        except Exception as error:
            self.error = error
            return None


def _reject(file: FileRef, result: FileHash) -> Reject:
    hint = f"{_HINTS.get(result.status, 'look at the file')}, or set such files aside with --rejects FILE"
    reason = f"{result.status}: {result.reason}"
    return Reject(file, Position(file.path), "hash", reason, os.fsencode(file.path), hint)
