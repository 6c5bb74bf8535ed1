"""Our named tuples are to their users what those of `typing` are."""

from __future__ import annotations

import copy
import inspect
import pickle
import typing
from collections.abc import Callable
from typing import Any

import pytest

from aiopipe.tuples import NamedTuple


class Ours(NamedTuple):
    """A pair, and what comes of it."""

    first: int
    second: str = "two"
    third: tuple[Ours, ...] = ()

    @property
    def both(self) -> str:
        return f"{self.first} {self.second}"

    def __len__(self) -> int:
        return 0


class Theirs(typing.NamedTuple):
    first: int
    second: str = "two"
    third: tuple[Theirs, ...] = ()


class Nothing(NamedTuple):
    """No fields at all."""


class More(Ours):
    """A class below one."""


MADE: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((1,), {}), ((1, "x"), {}), ((), {"first": 1}), ((1,), {"second": "y"}),
    ((1, "x", (3,)), {}), ((1,), {"third": ()}),
]  # fmt: skip


@pytest.mark.parametrize(("values", "named"), MADE)
def test_they_are_made_and_shown_as_those_of_typing(values: tuple[Any, ...], named: dict[str, Any]):
    ours, theirs = Ours(*values, **named), Theirs(*values, **named)
    assert ours == theirs and hash(ours) == hash(theirs) and tuple(ours) == tuple(theirs)
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert ours._asdict() == theirs._asdict()
    assert ours._replace(first=7, third=()) == theirs._replace(first=7, third=())
    assert (ours.first, ours.second, ours.both) == (theirs.first, theirs.second, f"{ours.first} {ours.second}")


def test_their_classes_tell_the_same():
    assert Ours._fields == Theirs._fields and Ours._field_defaults == Theirs._field_defaults
    assert Ours.__match_args__ == Theirs.__match_args__ and Ours.__doc__ == "A pair, and what comes of it."
    assert list(inspect.signature(Ours).parameters) == list(inspect.signature(Theirs).parameters)
    assert typing.get_type_hints(Ours)["second"] is str


REFUSED: list[Callable[[Any], object]] = [
    lambda kind: kind(),
    lambda kind: kind(1, "x", (), 4),
    lambda kind: kind(1, first=1),
    lambda kind: kind(1, fourth=3),
    lambda kind: kind(second="x"),
]


@pytest.mark.parametrize("make", REFUSED)
def test_they_refuse_what_those_of_typing_refuse_in_the_same_words(make: Callable[[Any], object]):
    said = []
    for kind in (Ours, Theirs):
        with pytest.raises(TypeError) as refused:
            make(kind)
        said.append(str(refused.value).replace(f"{kind.__name__}.", ""))
    assert said[0] == said[1] and "__new__()" in said[0]


def test_a_field_that_is_not_there_is_not_replaced():
    with pytest.raises(TypeError, match="Ours has no fourth"):
        Ours(1)._replace(first=2, fourth=4)  # type: ignore[call-arg]


def test_a_field_without_a_default_stands_before_those_with_one():
    body = {"__annotations__": {"a": "int", "b": "int"}, "a": 1, "__qualname__": "Wrong"}
    with pytest.raises(TypeError, match="Wrong: a field without a default"):
        type(NamedTuple)("Wrong", (NamedTuple,), body)  # type: ignore[call-overload]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("made", [Ours(1, third=(Ours(2),)), More(1, "x"), Nothing()])
def test_they_are_copied_and_pickled(made: Any, protocol: int):
    arrived = pickle.loads(pickle.dumps(made, protocol))
    assert type(arrived) is type(made) and tuple(arrived) == tuple(made)
    assert type(copy.deepcopy(made)) is type(made) and copy.copy(made) == made == type(made)._make(made)


def test_they_hold_nothing_else_and_never_change():
    made = Ours(1)
    with pytest.raises(AttributeError):
        made.first = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        made.other = 2  # type: ignore[attr-defined]
    match made:
        case Ours(first, second):
            assert (first, second) == (1, "two")
    assert len(made) == 0 and made._replace(second="x").second == "x" and not hasattr(made, "__dict__")


def test_a_class_below_one_has_its_fields():
    made = More(1)._replace(second="x")
    assert type(made) is More and made == Ours(1, "x") and More._fields == Ours._fields and made.both == "1 x"


class Even(NamedTuple):
    """Numbers that are even, each as a number."""

    number: int = 0
    name: str = ""

    def _made(self) -> Even:
        if int(self.number) % 2:
            raise ValueError(self.number)
        return tuple.__new__(Even, (int(self.number), self.name))


def test_what_is_made_may_be_checked_and_mended_each_time() -> None:
    assert Even() == (0, "") and Even("4", name="x") == (4, "x") and Even._make(["6", "y"]) == (6, "y")  # type: ignore[arg-type]
    assert Even(4)._replace(number="8") == (8, "")
    assert pickle.loads(pickle.dumps(Even(2))) == Even(2)
    for wrong in (lambda: Even(3), lambda: Even(2)._replace(number=5), lambda: Even._make([1, ""])):
        with pytest.raises(ValueError, match=r"1|3|5"):
            wrong()
    with pytest.raises(TypeError, match="wrong"):
        Even(2)._replace(wrong=1)
