"""What the ledger of a destination says, compared with what lies there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["lies"]


def lies(root: Path) -> Iterator[str]:
    """Units that the ledger calls done, and whose output is not there as it says."""
    yield from ()
