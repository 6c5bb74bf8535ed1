"""The order of the calls that make an output last, checked on a disk that takes its time.

Every sync is held back for as long as the victim goes on without it, so whoever does not wait for the end of one
is found out. The rules, for every rename that makes an output visible:

1. Whatever was written to the file was followed by a sync of it (or of its file system) that had ended.
2. Nothing is written to it any more.
3. Before the ledger calls its unit done, and before the run ends, a sync of its directory has ended; so has one
   of the parent of each directory that was made for it.

And for every range of a file that the ledger calls done: a sync of the bytes of its output has ended, and one of the
directory that the temporary is in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tests.faults.harness.ledger import claims, ranges
from tests.faults.harness.seccomp import Call, Decision

__all__ = ["Protocol"]

_WRITES = {"write", "writev", "pwrite64", "pwritev", "copy_file_range", "ftruncate"}
_SYNCS = {"fsync", "fdatasync", "syncfs"}
_RENAMES = {"rename", "renameat", "renameat2"}


class Protocol:
    """Watches the calls below `root`; `wrong` is what broke a rule."""

    names = _WRITES | _SYNCS | _RENAMES | {"mkdir", "mkdirat"}

    def __init__(self, root: str) -> None:
        self.root = root
        self.dirty: set[str] = set()  # written since the last sync of them that has ended
        self.directories: dict[str, set[str]] = {}  # with the entries in them that are not known to last
        self.wrong: list[str] = []
        self.renames = 0
        self.ranges = 0  # that were seen in the ledger
        self._covered: dict[int, tuple[set[str], dict[str, set[str]]]] = {}
        self._written: dict[str, int] = {}  # bytes
        self._synced: dict[str, int] = {}
        self._named: set[str] = set()  # in directories synced since
        self._reach: dict[int, tuple[dict[str, int], set[str]]] = {}

    def __call__(self, call: Call) -> Decision:
        path = call.paths[-1]
        if not path.startswith(self.root):
            return None
        if call.name in _SYNCS:
            # It covers what was done before it began: what comes while it runs may come too late for it.
            everything = call.name == "syncfs"
            self._covered[id(call)] = (
                set(self.dirty) if everything else {path} & self.dirty,
                {d: set(p) for d, p in self.directories.items() if everything or d == path},
            )
            self._reach[id(call)] = (
                {p: n for p, n in self._written.items() if everything or p == path},
                {p for p in self._written if everything or os.path.dirname(p) == path},
            )
            return "slow"
        if call.name in _WRITES:
            self._written[path] = self._written.get(path, 0) + (call.arguments[2] if call.name == "write" else 0)
            self._write(path)
        elif call.name in _RENAMES:
            self._rename(call.paths[0], path)
        else:
            self._entered(path)
        return None

    def _entered(self, path: str) -> None:
        self.directories.setdefault(os.path.dirname(path), set()).add(path)

    def _write(self, path: str) -> None:
        if is_ledger(path):
            self.wrong += [f"{p} is done, says the ledger, and {d} is not synced" for d, p in self._claimed()]
            return
        self.dirty.add(path)
        if not os.path.basename(path).startswith(".aiopipe") and "/.aiopipe/" not in path:
            self.wrong.append(f"{path} is written under its own name")

    def _rename(self, source: str, target: str) -> None:
        self.renames += 1
        if source in self.dirty:
            self.wrong.append(f"{target} gets its name, and its bytes are not synced")
        self._entered(target)

    def _unsettled(self) -> Iterator[tuple[str, str]]:
        return ((d, p) for d, paths in self.directories.items() for p in paths if "/.aiopipe" not in p)

    def _claimed(self) -> Iterator[tuple[str, str]]:
        """Of those, what the ledger on the disk has an output at, or below."""
        named = claims(Path(self.root))
        return ((d, p) for d, p in self._unsettled() if any(f"{n}/".startswith(f"{p}/") for n in named))

    def released(self, call: Call) -> None:
        """A sync that was held back may end."""
        self._look_at_ranges()
        written, named = self._reach.pop(id(call))
        self._synced |= written
        self._named |= named
        files, directories = self._covered.pop(id(call))
        self.dirty -= files
        for directory, paths in directories.items():
            self.directories[directory] -= paths

    def _look_at_ranges(self) -> None:
        """What the ledger on the disk says of ranges, while syncs are still to end."""
        for path, some in ranges(Path(self.root)).items():
            length = some[-1].reached.length
            self.ranges = max(self.ranges, len(some))
            if self._synced.get(path, 0) < length or path not in self._named:
                self.wrong.append(f"{some[-1].key} is done, says the ledger, and its bytes are not synced")

    def finish(self) -> list[str]:
        """The run has ended well: what is wrong in all."""
        self.wrong += [f"{p} renamed, and {d} not synced at the end" for d, p in self._unsettled()]
        return self.wrong


def is_ledger(path: str) -> bool:
    """Whether the path is the ledger's database, or its log."""
    return "/.aiopipe/" in path and ".tmp" not in path
