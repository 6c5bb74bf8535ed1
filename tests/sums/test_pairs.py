from __future__ import annotations

import random

import pytest

from aiopipe.sums.pairs import Pairs, walk_order
from aiopipe.sums.parse import Entry


def entries(names: list[int]) -> list[Entry]:
    return [Entry(b"%d/%d" % (n % 7, n), (), (f"{n:064x}",), line) for line, n in enumerate(names, 1)]


def runs(made: list[Entry], size: int):
    return (made[start : start + size] for start in range(0, len(made), size))


@pytest.mark.parametrize("most", [1, 10, 100_000])
@pytest.mark.parametrize("order", ["walk", "shuffled", "reversed"])
def test_the_pairs_and_what_is_left_do_not_depend_on_order_or_memory(most: int, order: str):
    dice = random.Random(5)
    old, new = entries(dice.sample(range(900), 500)), entries(dice.sample(range(900), 500))
    for each in (old, new):
        each.sort(key=lambda entry: walk_order(entry.name))
    if order == "shuffled":
        dice.shuffle(new)
    if order == "reversed":
        new.reverse()
    both = {entry.name for entry in old} & {entry.name for entry in new}
    with Pairs(runs(old, 13), runs(new, 17), bytes, most) as pairs:
        found = list(pairs)
        assert all(first.name == second.name and first in old and second in new for first, second in found)
        assert sorted(first.name for first, _ in found) == sorted(both)
        for side, made in enumerate((old, new)):
            left = [entry for entry in made if entry.name not in both]
            assert list(pairs.left(side)) == sorted(left, key=lambda entry: entry.line)


def test_in_one_order_the_first_pair_is_there_before_the_streams_are_read_on():
    read = 0

    def watched(made: list[Entry]):
        nonlocal read
        for run in runs(made, 10):
            read += len(run)
            yield run

    made = sorted(entries(list(range(1000))), key=lambda entry: walk_order(entry.name))
    with Pairs(watched(made[200:]), watched(made), bytes) as pairs:  # the first 200 are new
        assert next(iter(pairs))[0] == made[200]
        assert read <= 230
        assert max(map(len, pairs._waiting)) <= 210
