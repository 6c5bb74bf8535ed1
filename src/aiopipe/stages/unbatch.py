"""`unbatch`: the items of lists one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from aiopipe.errors import FunctionError
from aiopipe.stage import Apply, Items, Scope

__all__ = ["Unbatch"]


@dataclass(frozen=True, repr=False)
class Unbatch(Apply):
    """Take batches apart: each item of a list, a tuple or another iterable becomes an item by itself.

    A function behind batch may give a list, longer or shorter than the one it got. Text, bytes and rows are no
    batches: with such an item the run ends.
    """

    word: ClassVar[str] = "unbatch"
    takes: ClassVar[tuple[str, ...]] = ("items",)
    regroups: ClassVar[bool] = True
    example: ClassVar[str] = (
        "aiopipe pipe read sample_data/airlines.csv then batch 5 then unbatch then head 3 then write - --format csv"
    )

    def apply(self, batch: Any, scope: Scope) -> Any:
        """The items of all batches, in order."""
        out: list[Any] = []
        for value in batch.values:
            if isinstance(value, (str, bytes, bytearray, Mapping)) or not isinstance(value, Iterable):
                raise FunctionError(
                    f"an item is {type(value).__name__}, no batch",
                    stage="unbatch",
                    hint="put it behind batch, or behind a function that gives lists",
                )
            out.extend(value)
        return Items(out, batch.rejects)
