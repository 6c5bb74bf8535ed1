from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aiopipe.sums.alike import Alike, Entry, Kept, Sizes

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


@given(st.lists(st.integers(0, 8), max_size=60), st.integers(1, 5), st.integers(1, 7))
def test_files_of_one_size_are_a_family_and_a_large_one_comes_in_parts(sizes: list[int], part: int, most: int):
    plain: dict[int, list[tuple[int, bytes]]] = {}
    for number, size in enumerate(sizes):
        plain.setdefault(size, []).append((number, b"%d" % number))
    wanted = {size: found for size, found in plain.items() if len(found) > 1}
    for in_memory in (1000, most):
        with Sizes(in_memory) as files:
            for start in range(0, len(sizes), 3):
                numbers = range(start, min(start + 3, len(sizes)))
                files.extend([sizes[each] for each in numbers], [b"%d" % each for each in numbers])
            assert files.count == len(sizes)
            told: dict[int, list[tuple[int, bytes]]] = {}
            for size, found, paths, is_whole in files.families(part):
                assert len(found) <= part
                assert is_whole == (len(wanted[size]) <= part)
                told.setdefault(size, []).extend(zip(found, paths, strict=True))
            assert told == wanted


@given(st.lists(st.binary(max_size=5), max_size=30), st.integers(1, 9))
def test_what_is_kept_comes_back_in_its_order(names: list[bytes], most: int):
    with Kept(most) as kept:
        for row in enumerate(names):
            kept.add(row)
        assert list(kept) == list(enumerate(names))
        assert list(kept) == list(enumerate(names))
