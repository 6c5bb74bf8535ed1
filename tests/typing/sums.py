"""What a type checker is told about `aiopipe.sums`; checked by mypy, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import assert_type

from aiopipe.sums import FileHash, Signature, WalkOptions, hash_batches, hash_files


async def results_are_typed() -> None:
    assert_type(hash_files("photos"), AsyncIterator[FileHash])
    async for result in hash_files([Path("a"), Path("b")], ("sha256", "md5"), walk=WalkOptions(hidden=False)):
        assert_type(result.path, bytes)
        assert_type(result.digests, tuple[str, ...])
        assert_type(result.signature, Signature | None)
    async for batch in hash_batches("photos", jobs=2):
        assert_type(batch, list[FileHash])


async def wrong_options_are_refused() -> None:
    hash_files(1)  # type: ignore[arg-type]
    hash_files("photos", jobs="two")  # type: ignore[arg-type]
