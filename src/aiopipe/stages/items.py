"""`From`: any Python iterable, or async iterable, as a source."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

from aiopipe.errors import UsageError
from aiopipe.options import option
from aiopipe.stage import Context, Items, Source

__all__ = ["From"]

_END: Any = object()


@dataclass(frozen=True, repr=False)
class From(Source):
    """Items of an iterable or async iterable: numbers, dicts, messages, whatever a function takes.

    Only in the library. `size` items travel together; functions still see them one by one. A plain iterable is
    advanced in the event loop: give one that does not block, or an async one.
    """

    word: ClassVar[str] = "from"
    gives: ClassVar[str] = "items"

    values: Any = option(kind="object", positional="one", help="an iterable, or an async iterable")
    size: int = option(1024, kind="int", help="items that travel together")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 1:
            raise UsageError(f"size is {self.size}", stage="from", hint="give it 1 or more")
        if not isinstance(self.values, (Iterable, AsyncIterable)):
            raise UsageError(f"{self.values!r} cannot be iterated", stage="from", hint="give it an iterable")

    async def open(self, context: Context) -> AsyncIterator[Any]:
        """The items, some at a time; of an async iterable as many as are asked for, one by one."""
        values = self.values
        if isinstance(values, AsyncIterable):
            iterator = aiter(values)
            try:
                some: list[Any] = []
                while not context.stopping and (value := await anext(iterator, _END)) is not _END:
                    some.append(value)
                    if len(some) >= min(self.size, 64):
                        yield Items(some)
                        some = []
                if some:
                    yield Items(some)
            finally:  # a generator that nobody will ask again ends now, and not when it is collected
                if isinstance(iterator, AsyncGenerator):
                    await iterator.aclose()
            return
        plain = iter(values)
        while not context.stopping:
            chunk = list(islice(plain, self.size))
            if not chunk:
                return
            yield Items(chunk)
