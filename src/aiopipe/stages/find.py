"""`find`: files, not their contents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

from aiopipe.model import FileRef
from aiopipe.options import option
from aiopipe.stage import Context, Items, Source
from aiopipe.storage.find import Finder

__all__ = ["Find"]


@dataclass(frozen=True, repr=False)
class Find(Source):
    """Find files: each becomes an item with path, relative and size.

    PATHS are files, directories (every regular file in them, at any depth) or globs. The order is bytewise.
    Devices and FIFOs inside directories are passed over and counted.
    """

    word: ClassVar[str] = "find"
    gives: ClassVar[str] = "files"
    example: ClassVar[str] = "aiopipe pipe find sample_data/ then head 3 then write - --format jsonl"

    paths: Any = option(kind="texts", positional="many", help="files, directories or globs")
    include: Any = option(("*",), kind="texts", metavar="GLOB", help="which names to take inside directories")
    follow: bool = option(False, kind="flag", help="enter directories behind symbolic links")

    def finder(self) -> Finder:
        """What finds the files of this source."""
        return Finder(self.paths, self.include, self.follow)

    @property
    def per_unit(self) -> bool:
        """True."""
        return True

    def files(self) -> Iterator[FileRef]:
        """The files, in order."""
        return self.finder().files()

    def matches(self, path: str) -> bool:
        """Whether a file at `path` would be among the input."""
        return self.finder().matches(path)

    def examples(self) -> list[str]:
        """Relative paths like those the files of this source have."""
        return self.finder().examples()

    async def open(self, context: Context) -> AsyncIterator[Any]:
        """Files, some hundred at a time."""
        finder = self.finder()
        finder.skipped = context.found.skipped
        files = finder.files()
        while not context.stopping:
            some = await context.io(lambda: list(islice(files, 256)))
            if not some:
                return
            context.found.files += len(some)
            yield Items(some)
