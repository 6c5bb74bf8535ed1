"""Outputs that get what they lacked: how the ledger and the disk stay in step while one is replaced.

Before an output is replaced, its unit stops saying "done": its state is "mending", and its message says what the
output was, what it will be, and what is then to stand in the ledger. So whoever opens the ledger after a kill can tell
by the bytes of the output which of the two it is, and make the unit "done" again either way (`recover`). Where it is
neither, the unit stays undone, and the next run does it.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from aiopipe.job.ledger import Key, Ledger, Output, Reader, Unit
from aiopipe.job.operations import add_rejects, finish_units
from aiopipe.storage.version import Version, checksum_of

__all__ = ["Mend", "begin_mend", "finish_mend", "recover"]


@dataclass(frozen=True, slots=True)
class Mend:
    """What becomes of a unit: records that its output gains, and the rejects that it keeps, as rows of a rejects file.

    why: what `aiopipe why` says the output comes from.
    """

    unit: Unit
    gained: int
    left: tuple[dict[str, Any], ...]
    why: str

    @property
    def mended(self) -> Unit:
        """The unit as it is to stand in the ledger; its outputs are not known yet."""
        unit = self.unit
        return replace(unit, given=unit.given + self.gained, rejected=len(self.left), message="", state="done")


def begin_mend(mend: Mend, blake3: bytes) -> Any:
    """An operation: the unit's output is about to be replaced by one with this hash."""
    unit = mend.unit
    message = json.dumps(
        {"old": unit.outputs[0].blake3.hex(), "new": blake3.hex(), "gained": mend.gained, "why": mend.why,
         "left": mend.left}
    )  # fmt: skip
    text = "UPDATE units SET state = 'mending', message = ? WHERE path = ? AND start = ? AND state = 'done'"
    return lambda c: c.execute(text, (message, unit.key.path, unit.key.start))


def finish_mend(mend: Mend, outputs: Sequence[Output]) -> Any:
    """An operation: the unit has these outputs, and what was set aside of it is what is left."""
    unit = replace(mend.mended, outputs=tuple(outputs), made=len(outputs))

    def operation(connection: sqlite3.Connection) -> None:
        finish_units([unit])(connection)
        place = (unit.run, unit.number, unit.key.start)
        connection.execute("DELETE FROM rejects WHERE run = ? AND number = ? AND start = ?", place)
        add_rejects(*place, 0, mend.left)(connection)
        connection.execute(
            "UPDATE units SET why = ? WHERE path = ? AND start = ?", (mend.why, unit.key.path, unit.key.start)
        )

    return operation


def recover(ledger: Ledger, reader: Reader, destination: str) -> None:
    """Settle what a killed replay left between two states. Blocks; the destination is locked."""
    for key in reader.in_state("mending"):
        unit = reader.unit(key)
        if unit is None or len(unit.outputs) != 1:
            continue
        said = json.loads(unit.message)
        [old] = unit.outputs
        found = _found(os.path.join(destination, os.fsdecode(old.path)))
        if found is None:
            continue
        version, blake3 = found
        if blake3.hex() == said["old"]:
            ledger.submit(_undo(key))
        elif blake3.hex() == said["new"]:
            mend = Mend(unit, said["gained"], tuple(said["left"]), said["why"])
            ledger.submit(finish_mend(mend, [Output(old.path, version, blake3)]))
    ledger.wait()


def _found(path: str) -> tuple[Version, bytes] | None:
    try:
        return checksum_of(path)
    except OSError:
        return None


def _undo(key: Key) -> Any:
    text = "UPDATE units SET state = 'done', message = NULL WHERE path = ? AND start = ?"
    return lambda c: c.execute(text, key[:2])
