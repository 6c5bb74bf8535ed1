"""What the stages that only name columns share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiopipe.errors import UnknownNameError, UsageError, nearest
from aiopipe.options import option, strings
from aiopipe.stage import Apply, Scope, Stage

__all__ = ["NamesColumns"]


@dataclass(frozen=True, repr=False, init=False)
class NamesColumns(Apply):
    """A stage whose one option is a list of columns: `Select("id", "name")`."""

    columns: Any = option(kind="texts", positional="many", metavar="COLUMN", help="names of columns")

    def __init__(self, *columns: str | Iterable[str]) -> None:
        names = [n for c in columns for n in strings(c)]
        object.__setattr__(self, "columns", tuple(names))
        self.__post_init__()

    def __post_init__(self) -> None:
        super().__post_init__()
        word = type(self).word
        if not self.columns:
            raise UsageError(f"{word} needs a column", hint=f"such as {word} id name")
        twice = [n for n in self.columns if self.columns.count(n) > 1]
        if twice:
            raise UsageError(f"{word} names column {twice[0]!r} twice", hint="name it once")

    def _known(self, scope: Scope) -> None:
        """UnknownNameError where the sample shows that a column is not there."""
        for name in self.columns if scope.complete else ():
            if name not in scope.types:
                raise UnknownNameError(f"no column {name!r}", stage=type(self).word, hint=nearest(name, scope.types))

    @classmethod
    def build(cls, options: Mapping[str, Any]) -> Stage:
        """From named options."""
        return cls(*strings(options.get("columns", ())))
