"""`route`: each record to one of several branches, by SQL expressions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from aiopipe.arrays import mask_to_numpy
from aiopipe.errors import UsageError
from aiopipe.options import option
from aiopipe.sql import parse
from aiopipe.stage import Branch, FanOut, Scope, Shares, Sink, Stage
from aiopipe.stages._expressions import check, compiled, evaluated
from aiopipe.stages._forks import as_branch

__all__ = ["Route"]


@dataclass(frozen=True, repr=False, init=False)
class Route(FanOut):
    """Give each record to one branch: the first one whose condition is true.

    Conditions are SQL expressions, each followed by its branch in brackets: route 'amount > 100' [ write big/ ]
    otherwise [ write small/ ]. A condition is looked at only for records that no branch before it took; NULL is not
    true. A record that no branch takes goes to `otherwise`; without it, it is filtered, and counted as filtered by
    route. Records leave as the bytes they came in.

    As for tee, the slowest branch holds up the others, and when one fails all are ended.
    """

    word: ClassVar[str] = "route"
    divides: ClassVar[bool] = True
    takes: ClassVar[tuple[str, ...]] = ("records",)
    example: ClassVar[str] = (
        "aiopipe pipe read sample_data/airlines.csv then route \"carrier < 'B'\" [ write - ] otherwise [ collect ]"
    )

    routes: Any = option(
        kind="routes", positional="many", metavar="WHERE [ STAGE ... then SINK ]", help="conditions and their branches"
    )
    otherwise: Any = option(
        None, kind="branch", metavar="[ STAGE ... then SINK ]", help="the branch of records that no condition takes"
    )

    def __init__(
        self,
        routes: Mapping[str, Branch | Sink] | tuple[tuple[str, Branch | Sink], ...],
        /,
        *,
        otherwise: Branch | Sink | None = None,
    ) -> None:
        pairs = routes.items() if isinstance(routes, Mapping) else routes
        object.__setattr__(self, "routes", tuple((where, as_branch(b, "route")) for where, b in pairs))
        object.__setattr__(self, "otherwise", None if otherwise is None else as_branch(otherwise, "route"))
        self.__post_init__()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.routes:
            raise UsageError("route needs a condition", stage="route", hint="such as route 'amount > 5' [ write a/ ]")
        for where, _ in self.routes:
            if not isinstance(where, str):
                raise UsageError(f"{where!r} is no condition", stage="route", hint="write SQL, such as 'amount > 5'")

    @classmethod
    def build(cls, options: Mapping[str, Any]) -> Stage:
        """From named options."""
        return cls(options.get("routes", ()), otherwise=options.get("otherwise"))

    def __repr__(self) -> str:
        routes = f"{{{', '.join(f'{where!r}: {branch!r}' for where, branch in self.routes)}}}"
        if len({where for where, _ in self.routes}) < len(self.routes):
            routes = repr(self.routes)
        return f"Route({routes}" + (f", otherwise={self.otherwise!r})" if self.otherwise is not None else ")")

    @property
    def named_branches(self) -> tuple[tuple[str, Branch], ...]:
        """Branches by their condition."""
        otherwise = () if self.otherwise is None else (("otherwise", self.otherwise),)
        return (*self.routes, *otherwise)

    def named(self, scope: Scope) -> tuple[str, ...]:
        """The columns the conditions name."""
        return tuple(dict.fromkeys(c for where, _ in self.routes for c in compiled(where, scope).columns))

    def mentions(self) -> frozenset[str]:
        """The columns the conditions name."""
        return frozenset(c for where, _ in self.routes for c in parse(where).columns)

    @property
    def expressions(self) -> tuple[str, ...]:
        """The conditions."""
        return tuple(where for where, _ in self.routes)

    def narrow(self, scope: Scope) -> Scope:
        """The same scope, once the expressions are known to be conditions."""
        for where, _ in self.routes:
            check(where, scope, "route", boolean=True)
        return scope

    def shares(self, batch: Any, scope: Scope) -> Shares:
        """Each branch's records, in order, as views of the batch."""
        parts = []
        for where, _ in self.routes:
            batch, [found] = evaluated(batch, scope, "route", [(where, "mask")])
            mask = mask_to_numpy(found)
            parts.append(replace(batch.filter(mask), rejects=()))
            batch = batch.filter(~mask)
        if self.otherwise is not None:
            parts.append(replace(batch, rejects=()))
        return Shares(tuple(parts), batch.rejects)
