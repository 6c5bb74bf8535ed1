"""The quick hash of a file, taken at once, in pieces, or by several who each see a stretch of it."""

from __future__ import annotations

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from aiopipe.storage import version
from aiopipe.storage.version import HASHED, Checksum


def quick(*parts: bytes) -> Checksum:
    found = Checksum(quick=True)
    for part in parts:
        found.update(part)
    return found


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(version, "HASHED", 8)
    return 8


@given(data=st.binary(max_size=70), cuts=st.lists(st.integers(0, 70), max_size=6), at=st.integers(0, 8))
def test_however_it_comes(data: bytes, cuts: list[int], at: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(version, "HASHED", 8)
        places = [0, *sorted(cuts), len(data)]
        pieces = [data[a:b] for a, b in zip(places, places[1:], strict=False)]
        whole = quick(data)
        assert quick(*pieces).digest() == whole.digest()
        assert quick(*pieces).count == len(data)
        assert quick(*pieces).copy().digest() == whole.digest()
        head = min(at * 8, len(data) // 8 * 8)
        stretches = quick(data[:head])
        stretches.extend(quick(data[head:]).blocks, len(data) - head)
        assert (stretches.digest(), stretches.count) == (whole.digest(), len(data))
        assert stretches.copy().digest() == whole.digest()


def test_of_one_block_it_is_the_plain_hash() -> None:
    for size in (0, 5, HASHED):
        assert quick(bytes(size)).digest() == xxhash.xxh3_128_digest(bytes(size))
    blocks = xxhash.xxh3_128_digest(bytes(HASHED)) + xxhash.xxh3_128_digest(b"\0")
    assert quick(bytes(HASHED + 1)).digest() == xxhash.xxh3_128_digest(blocks)


@given(data=st.binary(min_size=1, max_size=60), at=st.integers(0, 59), bit=st.integers(0, 7))
def test_any_bit_tells(data: bytes, at: int, bit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(version, "HASHED", 8)
        other = bytearray(data)
        other[at % len(data)] ^= 1 << bit
        assert quick(bytes(other)).digest() != quick(data).digest()


def test_what_does_not_fit_is_refused(small_blocks: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        quick(b"abc").extend(quick(b"12345678").blocks, 8)
    with pytest.raises(ValueError, match="do not fit"):
        quick(b"12345678").extend(b"", 8)
    ended = quick(b"12345678")
    ended.extend(quick(b"abc").blocks, 3)
    with pytest.raises(AttributeError):  # what is behind the end of a file is nothing
        ended.update(b"d")
