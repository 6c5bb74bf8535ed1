from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aiopipe.sums.alike import Alike, Entry, Sizes

FILES = st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc")), max_size=40)


def entry(place: int, size: int) -> Entry:
    # Inode numbers use all 64 bits on some file systems; times before 1970 are negative.
    return Entry(place, b"name \xff %d" % place, size, -place, 2**62, 2**64 - 1 - place, 2**63)


@given(FILES, st.integers(1, 10))
def test_groups_are_the_same_however_many_fit_in_memory(files: list[tuple[int, str]], most: int):
    plain: dict[tuple[int, str], list[Entry]] = {}
    with Alike(most) as few, Alike(1000) as many:
        # The last place first: places come from several lanes of work.
        for place, (size, digest) in reversed(list(enumerate(files))):
            plain.setdefault((size, digest), []).insert(0, entry(place, size))
            for each in (few, many):
                each.add(digest, entry(place, size))
        wanted = [(digest, found) for (_, digest), found in plain.items() if len(found) > 1]
        wanted.sort(key=lambda each: each[1][0].place)
        assert list(few.groups()) == list(many.groups()) == wanted


@given(st.lists(st.integers(0, 8), max_size=60), st.integers(1, 5))
def test_the_first_of_a_size_is_given_once_to_the_second(sizes: list[int], most: int):
    with Sizes(most) as first:
        for number, size in enumerate(sizes):
            found = first.second(size, number, b"%d" % number, number % 2 == 0)
            before = [other for other in range(number) if sizes[other] == size]
            if not before:
                assert found is False
            elif len(before) == 1:
                assert found == (before[0], b"%d" % before[0], before[0] % 2 == 0)
            else:
                assert found is True
