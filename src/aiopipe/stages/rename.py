"""`rename`: other names for columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from aiopipe.errors import UsageError
from aiopipe.options import option, pairs
from aiopipe.stage import Apply, Scope, Stage

__all__ = ["Rename"]


@dataclass(frozen=True, repr=False, init=False)
class Rename(Apply):
    """Call columns otherwise: OLD=NEW. No value changes, and every other name keeps its bytes."""

    word: ClassVar[str] = "rename"
    portable: ClassVar[bool] = True
    example: ClassVar[str] = (
        "aiopipe pipe read 'sample_data/flights/*.csv' then rename dest=destination then head 2 then write -"
    )

    columns: Any = option(kind="pairs", positional="many", metavar="OLD=NEW", help="a column's name and its new name")

    def __init__(self, columns: Mapping[str, str] | Any = (), /, **named: str) -> None:
        object.__setattr__(self, "columns", pairs(columns) + pairs(named))
        self.__post_init__()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.columns:
            raise UsageError("rename needs a column", hint="such as old=new")
        old = [a for a, _ in self.columns]
        if len(set(old)) < len(old):
            raise UsageError("rename names a column twice", hint="give each column one new name")

    @classmethod
    def build(cls, options: Mapping[str, Any]) -> Stage:
        """From named options."""
        return cls(options.get("columns", ()))

    def mentions(self) -> frozenset[str]:
        """The old names: a later expression may name the new ones."""
        return frozenset(old for old, _ in self.columns)

    def narrow(self, scope: Scope) -> Scope:
        """Types and doubts follow the names."""
        new = dict(self.columns)
        types = {new.get(n, n): t for n, t in scope.types.items()}
        doubts = {new.get(n, n): d for n, d in scope.doubts.items()}
        return replace(scope, types=types, doubts=doubts)

    def apply(self, batch: Any, scope: Scope) -> Any:
        """The batch under the new names."""
        renamed = batch.rename(dict(self.columns))
        names = renamed.names
        for _, new in self.columns:
            if names.count(new) > 1:
                raise UsageError(f"rename makes a second column {new!r}", stage="rename", hint="drop one of them first")
        return renamed
