"""`merge`: several streams as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from aiopipe.errors import UsageError
from aiopipe.options import option
from aiopipe.stage import Context, FanIn, Scope, Source, Stage, Stream
from aiopipe.stages._forks import as_stream

__all__ = ["Merge"]


@dataclass(frozen=True, repr=False, init=False)
class Merge(FanIn):
    """Make one stream of several inputs, each a source with stages of its own.

    An input stands in brackets: merge [ read a/ ] [ read b/ then rename old=new ] then ... By default the inputs
    come one after the other, in order: the second one begins when the first has ended. With --no-ordered all begin
    at once, and what is there first comes first; the records of one input keep their order.

    Each input is read as its own source says. A column's type is the one that all inputs fit.
    """

    word: ClassVar[str] = "merge"
    example: ClassVar[str] = (
        "aiopipe pipe merge [ read sample_data/airlines.csv then head 2 ]"
        " [ read sample_data/airlines.csv then skip 15 ] then write -"
    )

    sources: Any = option(kind="sources", positional="many", metavar="[ SOURCE then STAGE ... ]", help="inputs")
    ordered: bool = option(True, kind="flag", help="one input after the other, or as they come")

    def __init__(self, *sources: Source | Stream, ordered: bool = True) -> None:
        object.__setattr__(self, "sources", tuple(as_stream(s) for s in sources))
        object.__setattr__(self, "ordered", ordered)
        self.__post_init__()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sources:
            raise UsageError("merge needs an input", stage="merge", hint="such as merge [ read a/ ] [ read b/ ]")

    @classmethod
    def build(cls, options: Mapping[str, Any]) -> Stage:
        """From named options."""
        return cls(*options.get("sources", ()), ordered=options.get("ordered", True))

    def __repr__(self) -> str:
        shown = [*map(repr, self.sources), *([] if self.ordered else ["ordered=False"])]
        return f"Merge({', '.join(shown)})"

    @property
    def inputs(self) -> tuple[Stream, ...]:
        """The streams, in order."""
        streams: tuple[Stream, ...] = self.sources
        return streams

    @property
    def in_order(self) -> bool:
        """Whether one input begins after the other has ended."""
        return self.ordered

    async def survey(self, context: Context, wanted: frozenset[str]) -> Scope:
        """Nothing: each input is asked by itself."""
        return Scope()
