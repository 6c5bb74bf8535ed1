"""`select`: some columns, in the order they are named."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from aiopipe.stage import Scope
from aiopipe.stages._columns import NamesColumns

__all__ = ["Select"]


@dataclass(frozen=True, repr=False, init=False)
class Select(NamesColumns):
    """Keep only COLUMNS, in this order. Their fields keep their bytes, quotes included."""

    word: ClassVar[str] = "select"
    portable: ClassVar[bool] = True
    example: ClassVar[str] = (
        "aiopipe pipe read 'sample_data/flights/*.csv' then select carrier flight dest then head 3 then write -"
    )

    def narrow(self, scope: Scope) -> Scope:
        """Only these columns are left."""
        self._known(scope)
        return replace(scope, types={n: t for n, t in scope.types.items() if n in self.columns})

    def apply(self, batch: Any, scope: Scope) -> Any:
        """The batch with only these columns."""
        return batch.select(self.columns)
