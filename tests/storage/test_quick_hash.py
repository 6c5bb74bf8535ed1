"""Signatures and hashes of files."""

from __future__ import annotations

import os

import pytest

from aiopipe.storage.version import Checksum, quick_hash


@pytest.mark.parametrize(
    "size", [0, 1, 5000, 128 << 10, (128 << 10) + 1, 256 << 10, (256 << 10) + 1, 1 << 20, 3_000_001]
)
def test_bytes_in_one_go_have_the_hash_of_bytes_that_stream_by(size: int) -> None:
    data = os.urandom(size)
    checksum = Checksum(quick=True)
    for at in range(0, size, 70_000):
        checksum.update(data[at : at + 70_000])
    assert quick_hash(data) == checksum.digest()
