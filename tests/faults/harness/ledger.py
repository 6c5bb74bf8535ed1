"""What the ledger of a destination says, compared with what lies there.

It is read from a copy: a ledger that was left by a killed run must be found as it is by the next one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from blake3 import blake3

from aiopipe.errors import InputError
from aiopipe.job.ledger import FOLDER, Output, Range, Reader, open_ledger

__all__ = ["claims", "lies", "ranges"]

T = TypeVar("T")


def _copied(root: Path, found: Callable[[Reader], T], nothing: T) -> T:
    """What a copy of the ledger says; `nothing` where there is none yet."""
    with tempfile.TemporaryDirectory() as place, contextlib.suppress(InputError, sqlite3.Error, OSError):
        os.mkdir(f"{place}/{FOLDER}")
        for name in ("ledger.db", "ledger.db-wal"):
            if (root / FOLDER / name).exists():
                shutil.copyfile(root / FOLDER / name, f"{place}/{FOLDER}/{name}")
        with contextlib.closing(open_ledger(place)) as ledger:
            return found(ledger)
    return nothing


def claims(root: Path) -> dict[str, Output]:
    """The outputs that units called done say they have, by their paths; none where there is no ledger yet."""
    return _copied(
        root,
        lambda ledger: {
            str(root / os.fsdecode(output.path)): output
            for unit in ledger.units()
            if unit.state == "done"
            for output in unit.outputs
        },
        {},
    )


def ranges(root: Path) -> dict[str, list[Range]]:
    """The ranges of files that are not finished, by the path of the temporary that holds their output."""
    return _copied(
        root,
        lambda ledger: {str(root / os.fsdecode(some[0].temporary)): some for some in ledger.ranges().values()},
        {},
    )


def lies(root: Path) -> Iterator[str]:
    """Units that the ledger calls done, and whose output is not there as it says; and ranges of files likewise.

    The temporary of a range may be gone: it has become the output, or the disk was full. What is there must be true.
    """
    for path, output in claims(root).items():
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            yield f"{path}: {error.strerror}"
            continue
        if len(data) != output.version.size or blake3(data).digest() != output.blake3:
            yield f"{path}: {len(data)} bytes, not the {output.version.size} of the ledger"
    for path, some in ranges(root).items():
        with contextlib.suppress(FileNotFoundError):
            data = Path(path).read_bytes()
            for one in some:
                if blake3(data[: one.reached.length]).digest() != one.reached.blake3:
                    yield f"{one.key}: the {one.reached.length} bytes of its output are others"
