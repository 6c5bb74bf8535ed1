from __future__ import annotations

import random

import pytest

from aiopipe.sums.index import Index
from aiopipe.sums.parse import Entry


def entry(number: int) -> Entry:
    return Entry(b"n%d\xff" % number, ("sha256",), (f"{number:064x}",), number, number, None)


@pytest.mark.parametrize("most", [1, 7, 10_000])
def test_it_is_a_dictionary_wherever_its_entries_are(most: int):
    dice = random.Random(7)
    plain: dict[bytes, Entry] = {}
    with Index(most) as index:
        for number in range(500):
            key = b"%d" % dice.randrange(300)
            plain[key] = entry(number)
            index.add(key, entry(number))
        assert all(index.get(b"%d" % key) == plain.get(b"%d" % key) for key in range(310))
        for key in range(0, 310, 3):
            assert index.pop(b"%d" % key) == plain.pop(b"%d" % key, None)
            assert index.pop(b"%d" % key) is None
        for number in range(290, 330):  # more may come when some have gone
            plain[b"%d" % number] = entry(number)
            index.add(b"%d" % number, entry(number))
        assert index.pop(b"300") == plain.pop(b"300")
        assert index.get(b"300") is None
        assert list(index.values()) == [plain[key] for key in sorted(plain)]


def test_only_so_many_are_in_memory():
    with Index(10) as index:
        for number in range(95):
            index.add(b"%d" % number, entry(number))
        assert len(index._entries) < 10
        assert len(list(index.values())) == 95
        assert index._entries == {}
