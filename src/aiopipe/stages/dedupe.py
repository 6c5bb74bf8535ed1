"""`dedupe`: the first of each kind, exactly, in stated memory."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from aiopipe import kernels as pc
from aiopipe.arrays import Mask, byte_scalar
from aiopipe.options import option, strings
from aiopipe.stage import Context, Flow, Scope

__all__ = ["Dedupe"]

_PER_KEY = 100  # bytes that a key costs in a set, beside its own


@dataclass(frozen=True, repr=False)
class Dedupe(Flow):
    """Keep the first record of each kind: records are alike when their COLUMNS (all, if none are named) are equal.

    Exact: keys are compared whole, never by hash alone. They are held in memory up to --memory, and in a
    temporary file on disk beyond. Kept records leave as the bytes they came in.
    """

    word: ClassVar[str] = "dedupe"
    example: ClassVar[str] = (
        "aiopipe pipe read 'sample_data/flights/*.csv' then dedupe carrier then select carrier then write -"
    )

    columns: Any = option((), kind="texts", positional="many", metavar="[COLUMN]", help="columns that must be equal")
    per_file: bool = option(False, kind="flag", help="compare within each file only")
    memory: Any = option(
        64_000_000,
        kind="size",
        metavar="SIZE",
        help="memory for keys before they go to disk (default: 64MB)",
        result=False,
    )

    def __init__(self, *columns: Any, per_file: bool = False, memory: int | str = 64_000_000) -> None:
        names = tuple(n for c in columns for n in strings(c))
        object.__setattr__(self, "columns", names)
        object.__setattr__(self, "per_file", per_file)
        object.__setattr__(self, "memory", memory)
        self.__post_init__()

    @classmethod
    def build(cls, options: Any) -> Dedupe:
        """From named options."""
        rest = dict(options)
        return cls(*strings(rest.pop("columns", ())), **rest)

    @property
    def per_unit(self) -> bool:
        """Only where it compares within each file."""
        return self.per_file

    async def flow(self, parcels: AsyncIterator[Any], scope: Scope, context: Context) -> AsyncIterator[Any]:
        """The batches without records seen before."""
        with contextlib.closing(_Seen(self.memory)) as seen:
            async for batch in parcels:
                if batch.columns:
                    batch = batch.filter(await context.hop(self._fresh, batch, seen))
                yield batch

    def _fresh(self, batch: Any, seen: _Seen) -> Mask:
        keys = _keys([batch.values(n) for n in self.columns or batch.names])
        if not self.per_file:
            return seen.fresh(keys)
        out, at = [], 0
        for segment, count in zip(batch.segments, batch.counts(), strict=True):
            if segment.file.index != seen.file:
                seen.forget(segment.file.index)
            out.append(seen.fresh(keys[at : at + count]))
            at += count
        return np.concatenate(out) if out else np.zeros(0, np.bool_)


def _keys(columns: list[Any]) -> list[bytes]:
    """One byte string a record, equal just when all values are equal: values joined with their lengths."""
    plain = [c.view(pa.binary()) for c in columns]
    if len(plain) == 1:
        keys: list[bytes] = plain[0].to_pylist()
        return keys
    parts = []
    for column in plain:
        parts += [pc.cast(pc.binary_length(column), pa.string()).view(pa.binary()), column]
    joined: list[bytes] = pc.binary_join_element_wise(*parts, byte_scalar(b":")).to_pylist()
    return joined


class _Seen:
    """The keys so far: a set up to the budget, then a table on disk."""

    def __init__(self, budget: int) -> None:
        self.file = -1
        self._budget = budget
        self._keys: set[bytes] = set()
        self._size = 0
        self._table: sqlite3.Connection | None = None
        self._path = ""

    def forget(self, file: int) -> None:
        """Start anew for the file with this index."""
        self.close()
        self.file = file
        self._keys, self._size = set(), 0

    def fresh(self, keys: list[bytes]) -> Mask:
        """Which keys have not been seen, remembering them all."""
        if self._table is not None:
            return self._fresh_on_disk(keys)
        known, found = self._keys, np.zeros(len(keys), np.bool_)
        for i, key in enumerate(keys):
            if key not in known:
                known.add(key)
                found[i] = True
                self._size += len(key) + _PER_KEY
        if self._size > self._budget:
            self._spill()
        return found

    def _spill(self) -> None:
        fd, self._path = tempfile.mkstemp(prefix="aiopipe-dedupe-", suffix=".db")
        os.close(fd)
        table = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        table.execute("PRAGMA journal_mode = OFF")
        table.execute("PRAGMA synchronous = OFF")
        table.execute(f"PRAGMA cache_size = -{max(self._budget // 1024, 256)}")
        table.execute("CREATE TABLE seen (key BLOB PRIMARY KEY) WITHOUT ROWID")
        table.execute("BEGIN")
        table.executemany("INSERT INTO seen VALUES (?)", ((k,) for k in sorted(self._keys)))
        self._keys, self._table = set(), table

    def _fresh_on_disk(self, keys: list[bytes]) -> Mask:
        assert self._table is not None
        insert = self._table.execute
        return np.fromiter(
            (insert("INSERT OR IGNORE INTO seen VALUES (?)", (k,)).rowcount == 1 for k in keys), np.bool_, len(keys)
        )

    def close(self) -> None:
        """Remove the table, if there is one."""
        if self._table is not None:
            self._table.close()
            self._table = None
            with contextlib.suppress(OSError):
                os.unlink(self._path)
