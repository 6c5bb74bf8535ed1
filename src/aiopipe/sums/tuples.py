"""Named tuples at a tenth of the price: to import `typing` and to have it make the dozen of this package takes 10 ms.

A class of this base is to its users what one of `typing.NamedTuple` is, and type checkers take it for that. A command
that hashes a small tree is as quick as its imports.
"""

from __future__ import annotations

from collections import _tuplegetter  # type: ignore[attr-defined]

__all__ = ["NamedTuple"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NamedTuple, Self

_new = tuple.__new__


class _Meta(type):
    """Turns the annotations of a class into its fields, and their values into defaults."""

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> _Meta:
        fields = tuple(body.get("__annotations__", ())) if bases != (tuple,) else ()
        body["__slots__"] = ()
        body["_fields"] = body["__match_args__"] = fields
        body["_field_defaults"] = {field: body[field] for field in fields if field in body}
        for place, field in enumerate(fields):
            body[field] = _tuplegetter(place, f"Alias for field number {place}")
        return super().__new__(cls, name, bases, body)


class _NamedTuple(tuple, metaclass=_Meta):  # type: ignore[type-arg]
    """The base of named tuples; a class that has `_made` is made of what that returns."""

    _fields: tuple[str, ...]
    _field_defaults: dict[str, Any]

    def __new__(cls, *values: Any, **named: Any) -> Self:
        """One of it, of all its fields in order, or by name."""
        if named or len(values) != len(cls._fields):
            values = cls._bound(values, named)
        made: Self = _new(cls, values)
        return made._made()

    def _made(self) -> Self:
        return self

    @classmethod
    def _bound(cls, values: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        fields = cls._fields
        given = {**cls._field_defaults, **dict(zip(fields, values, strict=False)), **named}
        twice = named.keys() & set(fields[: len(values)])
        if len(values) > len(fields) or twice or given.keys() != set(fields):
            wrong = twice or given.keys() ^ set(fields) or f"{len(values)} values"
            raise TypeError(f"{cls.__name__}({', '.join(fields)}) cannot be made: {wrong}")
        return tuple([given[field] for field in fields])

    @classmethod
    def _make(cls, values: Iterable[Any]) -> Self:
        """One of it, of what is iterated."""
        return cls(*values)

    def _replace(self, **named: Any) -> Self:
        """A copy in which some fields are others."""
        return type(self)(**{**self._asdict(), **named})

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
