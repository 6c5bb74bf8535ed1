"""`drop`: all columns but some."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from aiopipe.errors import UsageError
from aiopipe.stage import Scope
from aiopipe.stages._columns import NamesColumns

__all__ = ["Drop"]


@dataclass(frozen=True, repr=False, init=False)
class Drop(NamesColumns):
    """Leave COLUMNS out; the others keep their order and their bytes."""

    word: ClassVar[str] = "drop"
    portable: ClassVar[bool] = True
    example: ClassVar[str] = (
        "aiopipe pipe read 'sample_data/flights/*.csv' then drop time_hour tailnum then head 2 then write -"
    )

    def narrow(self, scope: Scope) -> Scope:
        """These columns are gone."""
        self._known(scope)
        return replace(scope, types={n: t for n, t in scope.types.items() if n not in self.columns})

    def apply(self, batch: Any, scope: Scope) -> Any:
        """The batch without these columns."""
        gone = {batch.column(n).name for n in self.columns}
        left = [n for n in batch.names if n not in gone]
        if not left:
            raise UsageError("drop leaves no column", stage="drop", hint="keep at least one")
        return batch.select(left)
