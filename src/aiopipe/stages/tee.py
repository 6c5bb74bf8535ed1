"""`tee`: everything to several branches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from aiopipe.errors import UsageError
from aiopipe.options import option
from aiopipe.stage import Branch, FanOut, Sink, Stage
from aiopipe.stages._forks import as_branch

__all__ = ["Tee"]


@dataclass(frozen=True, repr=False, init=False)
class Tee(FanOut):
    """Give every record to each of several branches, which have their own stages and sink.

    A branch stands in brackets: tee [ filter 'x > 1' then write a/ ] [ write b/ ]. The slowest branch holds up the
    others, within the memory of the run; a branch that has enough (head) stops, and the others go on. When one
    fails all are ended, and none makes a file of all records visible. The report counts the records that the
    second branch and those after it get as copied.

    Records are shared, not copied, and cost nothing more. Of items that are no dicts, every branch gets the same
    object: do not change it in place.
    """

    word: ClassVar[str] = "tee"
    example: ClassVar[str] = (
        "aiopipe pipe read sample_data/airlines.csv then tee [ head 2 then write - ] [ skip 14 then collect ]"
    )

    branches: Any = option(kind="branches", positional="many", metavar="[ STAGE ... then SINK ]", help="branches")

    def __init__(self, *branches: Branch | Sink) -> None:
        object.__setattr__(self, "branches", tuple(as_branch(b, "tee") for b in branches))
        self.__post_init__()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.branches:
            raise UsageError("tee needs a branch", stage="tee", hint="such as tee [ write a/ ] [ head then write - ]")

    @classmethod
    def build(cls, options: Mapping[str, Any]) -> Stage:
        """From named options."""
        return cls(*options.get("branches", ()))

    def __repr__(self) -> str:
        return f"Tee({', '.join(map(repr, self.branches))})"

    @property
    def named_branches(self) -> tuple[tuple[str, Branch], ...]:
        """Branches by their number."""
        return tuple((f"branch {i}", branch) for i, branch in enumerate(self.branches, 1))
