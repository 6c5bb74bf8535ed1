from __future__ import annotations

import hashlib

import pytest

from aiopipe.errors import UnknownNameError, UsageError
from aiopipe.sums import algorithm, known_algorithms
from aiopipe.sums.algorithms import of_length, of_tag

# Published test vectors: FIPS 180-4, RFC 1321, RFC 7693, BLAKE3's and xxHash's own, RFC 3720 B.4.
VECTORS = [
    ("md5", b"abc", "900150983cd24fb0d6963f7d28e17f72"),
    ("sha1", b"abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
    ("sha256", b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ("blake3", b"", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
    ("xxh64", b"", "ef46db3751d8e999"),
    ("xxh128", b"", "99aa06d3014798d86001c324468d497f"),
    ("xxh3", b"", "2d06800538d394c2"),
    ("xxh32", b"", "02cc5d05"),
    ("crc32", b"123456789", "cbf43926"),
    ("crc32c", b"123456789", "e3069283"),
    ("crc32c", b"\0" * 32, "8a9136aa"),
    ("blake2b-256", b"", "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"),
]


@pytest.mark.parametrize(("name", "data", "expected"), VECTORS)
def test_the_published_vectors_come_out_at_once_and_in_pieces(name: str, data: bytes, expected: str):
    each = algorithm(name)
    assert each.once(data) == expected
    hasher = each.new()
    for byte in data:
        hasher.update(memoryview(bytearray([byte])))
    assert hasher.hexdigest() == expected
    assert each.width == len(expected)


@pytest.mark.parametrize("name", known_algorithms())
def test_every_known_name_works_and_its_tag_and_length_lead_back_to_it(name: str):
    each = algorithm(name)
    digest = each.once(b"data")
    assert len(digest) == each.width
    assert of_tag(each.tag) == name
    assert name in of_length(each.width) or name in ("sha512_224", "sha512_256")
    hasher = each.new()
    hasher.update(b"da")
    hasher.update(memoryview(b"ta"))
    assert hasher.hexdigest() == digest


@pytest.mark.parametrize("spelling", ["SHA-256", "Sha256", " sha256 "])
def test_the_usual_spellings_are_understood(spelling: str):
    assert algorithm(spelling).name == "sha256"


def test_a_blake2_length_is_that_of_b2sum():
    assert algorithm("blake2b-128").once(b"x") == hashlib.blake2b(b"x", digest_size=16).hexdigest()
    assert algorithm("blake2b-512") == algorithm("blake2b-512")
    assert algorithm("blake2b-512").tag == "BLAKE2b"
    for bad in ("blake2b-7", "blake2b-520", "blake2s-512", "blake2b-0"):
        with pytest.raises(UsageError, match="multiple of 8"):
            algorithm(bad)


def test_a_wrong_name_is_told_the_likely_one():
    with pytest.raises(UnknownNameError, match="did you mean sha256"):
        algorithm("sha265")


def test_a_missing_wheel_says_what_to_install(monkeypatch):
    import sys

    from aiopipe.sums.algorithms import algorithm as cached

    cached.cache_clear()
    monkeypatch.setitem(sys.modules, "blake3", None)
    with pytest.raises(UsageError, match=r"pip install 'aiopipe-csv\[hashes\]'"):
        cached("blake3")
    cached.cache_clear()
