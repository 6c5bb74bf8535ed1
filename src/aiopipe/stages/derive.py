"""`derive`: new columns, or new values for old ones, from SQL expressions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from aiopipe.errors import UsageError
from aiopipe.options import option
from aiopipe.stage import Apply, Scope, Stage

__all__ = ["Derive"]


@dataclass(frozen=True, repr=False, init=False)
class Derive(Apply):
    """Add columns computed by SQL expressions, or replace columns of the same name.

    Every expression sees the record as it came in, so the order of COLUMNS does not matter. A NULL result is
    an empty field. All other fields keep their bytes. Numbers with a point are DOUBLE, so that twice 1.50 is
    3.0; for money say --types price=DECIMAL(18,2) to read, and it is 3.00.
    """

    word: ClassVar[str] = "derive"
    portable: ClassVar[bool] = True
    example: ClassVar[str] = (
        "aiopipe pipe read 'sample_data/flights/*.csv' then derive km='distance * 1.609' then head 2 then write -"
    )

    columns: Any = option(
        kind="pairs", positional="many", metavar="NAME=EXPRESSION", help="a name and an SQL expression"
    )

    def __init__(self, columns: Mapping[str, str] | Any = (), /, **named: str) -> None:
        from aiopipe.options import pairs

        object.__setattr__(self, "columns", pairs(columns) + pairs(named))
        self.__post_init__()

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [n for n, _ in self.columns]
        if not names:
            raise UsageError("derive needs a column", hint="such as net='amount * 0.9'")
        twice = [n for n in names if names.count(n) > 1]
        if twice:
            raise UsageError(f"derive makes column {twice[0]!r} twice", hint="use two derive stages, or two names")

    @classmethod
    def build(cls, options: Mapping[str, Any]) -> Stage:
        """From named options."""
        return cls(options.get("columns", ()))

    def mentions(self) -> frozenset[str]:
        """The columns the expressions name."""
        from aiopipe.sql import parse

        return frozenset(c for _, text in self.columns for c in parse(text).columns)

    def carries(self, scope: Scope) -> tuple[Any, ...]:
        """The expressions, parsed."""
        from aiopipe.stages._expressions import carried

        return carried([text for _, text in self.columns], scope)

    @property
    def expressions(self) -> tuple[str, ...]:
        """Those of the columns."""
        return tuple(text for _, text in self.columns)

    def named(self, scope: Scope) -> tuple[str, ...]:
        """The columns the expressions name."""
        from aiopipe.stages._expressions import compiled

        found = [c for _, text in self.columns for c in compiled(text, scope).columns]
        return tuple(dict.fromkeys(found))

    def narrow(self, scope: Scope) -> Scope:
        """The scope with the new columns' types."""
        from aiopipe.stages._expressions import check

        types = dict(scope.types)
        doubts = dict(scope.doubts)
        for name, text in self.columns:
            types[name] = check(text, scope, "derive", boolean=False)
            doubts.pop(name, None)
        return replace(scope, types=types, doubts=doubts)

    def apply(self, batch: Any, scope: Scope) -> Any:
        """The batch with the columns added or replaced."""
        from aiopipe.stages._expressions import evaluated

        wanted = [(text, "text") for _, text in self.columns]
        batch, values = evaluated(batch, scope, "derive", wanted)
        return batch.with_columns({name: v for (name, _), v in zip(self.columns, values, strict=True)})
