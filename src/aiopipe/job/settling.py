"""Which files have come to rest: pure bookkeeping over what was seen when, without a disk and without a clock.

A file is ready once its size, time stamp and inode have stayed the same for the settle time, as seen by repeated
looks; or at first sight, if its time stamp is older than that: it was there before, or was moved in whole. A file
that changes is ready again later. A file that failed stays aside until it changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from aiopipe.tuples import NamedTuple

__all__ = ["Settling", "Signature"]


class Signature(NamedTuple):
    """What tells one state of a file from another without reading it."""

    size: int
    mtime_ns: int
    inode: int


@dataclass(slots=True)
class _File:
    signature: Signature
    since: float  # when this state was seen first
    at_rest: bool
    state: str = "waiting"  # "done", "failed"


class Settling:
    """The files under watch. settle: seconds without a change that make a file ready."""

    def __init__(self, settle: float) -> None:
        self.settle = settle
        self._files: dict[str, _File] = {}

    def look(self, found: Mapping[str, Signature], now: float, wall: float) -> list[str]:
        """Take in what is there: all files with their signatures; those that are gone.

        now: a steady clock; wall: that of the files.
        """
        gone = sorted(self._files.keys() - found.keys())
        for path in gone:
            del self._files[path]
        for path, signature in found.items():
            known = self._files.get(path)
            if known is not None and known.signature == signature:
                continue
            new = known is None or known.signature.inode != signature.inode
            old = wall - signature.mtime_ns / 1e9 >= self.settle
            self._files[path] = _File(signature, now, at_rest=new and old)
        return gone

    def ready(self, now: float) -> list[str]:
        """Files at rest that nobody has dealt with, in bytewise order of their names."""
        waiting = ((path, file) for path, file in self._files.items() if file.state == "waiting")
        return sorted(path for path, file in waiting if file.at_rest or now - file.since >= self.settle)

    def wait(self, now: float) -> float | None:
        """Seconds until the next file can be at rest; None where none is waiting."""
        left = [file.since + self.settle - now for file in self._files.values() if file.state == "waiting"]
        return max(0.0, min(left)) if left else None

    def done(self, paths: Iterable[str]) -> None:
        """These were processed in the state in which they were ready."""
        self._mark(paths, "done")

    def failed(self, paths: Iterable[str]) -> None:
        """These cannot be processed as they are."""
        self._mark(paths, "failed")

    def _mark(self, paths: Iterable[str], state: str) -> None:
        for path in paths:
            if path in self._files:
                self._files[path].state = state

    def with_state(self, state: str) -> list[str]:
        """The files in a state: "waiting", "done" or "failed"."""
        return sorted(path for path, file in self._files.items() if file.state == state)

    def may_read(self, path: str, signature: Signature, group: Collection[str]) -> bool:
        """Whether a round over `group` may see a file in this state: its own files, and those done before."""
        file = self._files.get(path)
        return file is not None and file.signature == signature and (path in group or file.state == "done")
