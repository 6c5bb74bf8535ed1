"""Named tuples at a tenth of the price: `typing.NamedTuple` compiles a function for each class and each of its types.

That takes 0.3 ms a class, and a run that is over after 0.3 s makes forty of them. To its users a class of this base is
what one of `typing.NamedTuple` is, as quick to make and to read, and type checkers take it for that. One that has a
method `_made` is made of what that returns, or not at all.
"""

from __future__ import annotations

from collections import _tuplegetter  # type: ignore[attr-defined]
from types import CodeType, FunctionType

__all__ = ["NamedTuple"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NamedTuple, Self

_new = tuple.__new__
_codes: dict[tuple[int, str], CodeType] = {}  # of the functions that make tuples, by the number of their fields


def _maker(fields: tuple[str, ...], defaults: tuple[Any, ...], then: str) -> FunctionType:
    """`__new__` for these fields: the code for their number, compiled once, under their names. then: what follows."""
    code = _codes.get((len(fields), then))
    if code is None:
        names = "".join(f"f{i}, " for i in range(len(fields)))
        made: Any = eval(f"lambda cls, {names}: new(cls, ({names})){then}")
        code = _codes[len(fields), then] = made.__code__
    return FunctionType(code.replace(co_varnames=("_cls", *fields)), {"new": _new}, "__new__", defaults)


class _Meta(type):
    """Turns the annotations of a class into its fields, and their values into defaults."""

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> _Meta:
        if any(type(base) is cls and base.__base__ is tuple for base in bases):
            body.update(cls._parts(name, body))
        return super().__new__(cls, name, bases, body)

    @staticmethod
    def _parts(name: str, body: dict[str, Any]) -> dict[str, Any]:
        fields = tuple(body.get("__annotations__", ()))
        defaults = {field: body[field] for field in fields if field in body}
        if tuple(defaults) != fields[len(fields) - len(defaults) :]:
            raise TypeError(f"{name}: a field without a default stands behind one that has one")
        maker = _maker(fields, tuple(defaults.values()), "._made()" if "_made" in body else "")
        maker.__qualname__ = f"{name}.__new__"  # what Python calls it where an argument is missing
        getters = {field: _tuplegetter(place, f"Alias for field number {place}") for place, field in enumerate(fields)}
        more = {"__slots__": (), "__match_args__": fields, "_fields": fields, "_field_defaults": defaults}
        return {**getters, **more, "__new__": maker}


class _NamedTuple(tuple, metaclass=_Meta):  # type: ignore[type-arg]
    """The base of named tuples."""

    __slots__ = ()
    if TYPE_CHECKING:
        _fields: tuple[str, ...]

    @classmethod
    def _make(cls, values: Iterable[Any]) -> Self:
        """One of it, of what is iterated."""
        return cls(*values)

    def _replace(self, **named: Any) -> Self:
        """A copy in which some fields are others."""
        made = self._make(map(named.pop, self._fields, self))
        if named:
            raise TypeError(f"{type(self).__name__} has no {', '.join(named)}")
        return made

    def _asdict(self) -> dict[str, Any]:
        """Its fields by name."""
        return dict(zip(self._fields, self, strict=True))

    def __repr__(self) -> str:
        shown = ", ".join(f"{field}={value!r}" for field, value in zip(self._fields, self, strict=True))
        return f"{type(self).__name__}({shown})"

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self)


if not TYPE_CHECKING:
    NamedTuple = _NamedTuple
