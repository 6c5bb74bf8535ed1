"""`filter`: keep the records for which an SQL expression is true.

What computes is imported where it is used, here and in the other stages: to declare a pipeline takes no numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from aiopipe.options import option
from aiopipe.stage import Apply, Scope

__all__ = ["Filter"]


@dataclass(frozen=True, repr=False)
class Filter(Apply):
    """Keep the records for which WHERE is true; the others are filtered, not rejected.

    WHERE is an SQL expression (DuckDB's dialect) over the columns of one record. NULL, and so any comparison
    with an empty field, is not true. Kept records leave as the bytes they came in.
    """

    word: ClassVar[str] = "filter"
    portable: ClassVar[bool] = True
    example: ClassVar[str] = (
        "aiopipe pipe read 'sample_data/flights/*.csv' --null NA then filter 'arr_delay > 120' then write -"
    )

    where: str = option(positional="one", help="an SQL expression, such as 'amount > 100'")

    def named(self, scope: Scope) -> tuple[str, ...]:
        """The columns the expression names."""
        from aiopipe.stages._expressions import compiled

        names: tuple[str, ...] = compiled(self.where, scope).columns
        return names

    def mentions(self) -> frozenset[str]:
        """The columns the expression names."""
        from aiopipe.sql import parse

        return frozenset(parse(self.where).columns)

    def carries(self, scope: Scope) -> tuple[Any, ...]:
        """The expression, parsed."""
        from aiopipe.stages._expressions import carried

        return carried([self.where], scope)

    @property
    def expressions(self) -> tuple[str, ...]:
        """WHERE."""
        return (self.where,)

    def narrow(self, scope: Scope) -> Scope:
        """The same scope, once the expression is known to be a condition."""
        from aiopipe.stages._expressions import check

        check(self.where, scope, "filter", boolean=True)
        return scope

    def apply(self, batch: Any, scope: Scope) -> Any:
        """The batch with only the records for which the expression is true."""
        from aiopipe.arrays import mask_to_numpy
        from aiopipe.stages._expressions import evaluated

        batch, [mask] = evaluated(batch, scope, "filter", [(self.where, "mask")])
        return batch.filter(mask_to_numpy(mask))
