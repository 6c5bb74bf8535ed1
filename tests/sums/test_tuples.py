from __future__ import annotations

import copy
import pickle
import typing

import pytest

from aiopipe.sums.tuples import NamedTuple


class Ours(NamedTuple):
    """A pair."""

    first: int
    second: str = "two"

    @property
    def both(self) -> str:
        return f"{self.first} {self.second}"


class Theirs(typing.NamedTuple):
    first: int
    second: str = "two"


@pytest.mark.parametrize(("values", "named"), [((1,), {}), ((1, "x"), {}), ((), {"first": 1}), ((1,), {"second": "y"})])
def test_they_are_made_and_shown_as_those_of_typing(values: tuple, named: dict):
    ours, theirs = Ours(*values, **named), Theirs(*values, **named)
    assert ours == theirs and hash(ours) == hash(theirs)
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert ours._asdict() == theirs._asdict() and Ours._fields == Theirs._fields
    assert Ours._field_defaults == Theirs._field_defaults and Ours.__match_args__ == Theirs.__match_args__
    assert ours._replace(first=7) == theirs._replace(first=7)
    assert (ours.first, ours.second, ours.both) == (theirs.first, theirs.second, f"{ours.first} {ours.second}")


@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), ((1, "x", 2), {}), ((1,), {"first": 1}), ((1,), {"third": 3}), ((), {"second": "x"})],
)
def test_they_refuse_what_those_of_typing_refuse(values: tuple, named: dict):
    for kind in (Ours, Theirs):
        with pytest.raises(TypeError):
            kind(*values, **named)


def test_they_are_copied_and_pickled_and_hold_nothing_else():
    made = Ours(1)
    assert type(pickle.loads(pickle.dumps(made))) is Ours and pickle.loads(pickle.dumps(made)) == made
    assert copy.deepcopy(made) == made and Ours._make([1, "two"]) == made
    with pytest.raises(AttributeError):
        made.first = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        made.other = 2  # type: ignore[attr-defined]
    match made:
        case Ours(first, second):
            assert (first, second) == (1, "two")
