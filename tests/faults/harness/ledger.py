"""What the ledger of a destination says, compared with what lies there.

It is read from a copy: a ledger that was left by a killed run must be found as it is by the next one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from aiopipe.errors import InputError
from aiopipe.job.ledger import FOLDER, Output, open_ledger

__all__ = ["claims", "lies"]


def claims(root: Path) -> dict[str, Output]:
    """The outputs that units called done say they have, by their paths; none where there is no ledger yet."""
    with tempfile.TemporaryDirectory() as place, contextlib.suppress(InputError, sqlite3.Error, OSError):
        os.mkdir(f"{place}/{FOLDER}")
        for name in ("ledger.db", "ledger.db-wal"):
            if (root / FOLDER / name).exists():
                shutil.copyfile(root / FOLDER / name, f"{place}/{FOLDER}/{name}")
        with contextlib.closing(open_ledger(place)) as ledger:
            return {
                str(root / os.fsdecode(output.path)): output
                for unit in ledger.units()
                if unit.state == "done"
                for output in unit.outputs
            }
    return {}


def lies(root: Path) -> Iterator[str]:
    """Units that the ledger calls done, and whose output is not there as it says."""
    for path, output in claims(root).items():
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            yield f"{path}: {error.strerror}"
            continue
        if len(data) != output.version.size or hashlib.sha256(data).digest() != output.sha256:
            yield f"{path}: {len(data)} bytes, not the {output.version.size} of the ledger"
