"""A directory that a run writes into: its lock, its ledger, what a killed run left, what has no input any more."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator, Sequence

from aiopipe.job.ledger import FOLDER, Key, Ledger, Output, Reader
from aiopipe.job.lock import Lock
from aiopipe.job.mends import recover
from aiopipe.job.operations import begin_run, disown, drop_ranges, end_run, forget, use_pipeline
from aiopipe.job.ranges import remove, remove_temporaries, still_there
from aiopipe.storage.version import Version, checksum_of
from aiopipe.storage.write import attempt, make_directories, sync_directories, temporary_of, trouble

__all__ = ["Destination", "lock_path"]


def lock_path(destination: str) -> str:
    """Where the lock of a destination is."""
    return os.path.join(destination, FOLDER, "lock")


class Destination:
    """A directory with its ledger, locked from `Destination(...)` to `close()`. Every method blocks.

    files: what this run makes elsewhere, so with temporaries beside it. LockedError where another run is on;
    OutputError where the directory or its ledger cannot be written.
    """

    def __init__(self, path: str, files: Sequence[str] = ()) -> None:
        self.path = path
        folder = os.path.join(path, FOLDER)
        try:
            sync_directories(make_directories(folder))
        except OSError as error:
            raise trouble(folder, error) from None
        self._lock = Lock(lock_path(path), path)
        try:
            self.ledger = Ledger(path)
        except BaseException:
            self._lock.close()
            raise
        self.reader: Reader | None = None
        try:
            self.reader = self.ledger.reader()
            self._sweep()
            recover(self.ledger, self.reader, path)  # before rejects of units that are not done are forgotten
            places = [os.path.dirname(os.path.abspath(f)) for f in files]
            self.run: int = self.ledger.ask(begin_run(attempt(), socket.gethostname(), places))
        except BaseException:
            self._close()
            raise

    def use(self, digest: str, parts: dict[str, str]) -> int:
        """Note which pipeline is run; its id in the ledger."""
        found: int = self.ledger.ask(use_pipeline(self.run, digest, parts))
        return found

    def close(self, outcome: str) -> None:
        """Note how the run ended ("done", "stopped" or "failed"), commit everything, let go of the lock."""
        try:
            with contextlib.suppress(Exception):  # the ledger is broken: `close` below says so
                self.ledger.submit(end_run(self.run, outcome))
        finally:
            self._close()

    def _close(self) -> None:
        try:
            if self.reader is not None:
                self.reader.close()
            self.ledger.close()
        finally:
            self._lock.close()

    def _sweep(self) -> None:
        """Remove the temporaries of runs that never said they had ended: no other files, and no live run's."""
        assert self.reader is not None
        kept = self._sweep_ranges(self.reader)
        unclean = self.reader.unclean()
        dead = {str(r["attempt"]) for r in unclean} - {attempt()}
        if not dead:
            return
        found = [
            path
            for path in [*_below(self.path), *_in(p for r in unclean for p in r["places"])]
            if temporary_of(os.path.basename(path)) in dead and os.path.relpath(path, self.path) not in kept
        ]
        remove(found)

    def _sweep_ranges(self, reader: Reader) -> set[str]:
        """Forget what was done of files whose input, or whose temporary, is gone; the temporaries that are kept."""
        kept, gone = set(), []
        for path, ranges in reader.ranges().items():
            if os.path.lexists(ranges[-1].source) and still_there(ranges, self.path):
                kept |= {os.path.normpath(os.fsdecode(r.temporary)) for r in ranges}
            else:
                remove_temporaries(ranges, self.path)
                gone.append(path)
        if gone:
            self.ledger.submit(drop_ranges(gone))
        return kept

    def prune(self) -> int:
        """Remove outputs that the ledger owns and that no input stands behind any more; how many.

        An output that is not what was written is somebody else's by now, and stays.
        """
        assert self.reader is not None
        gone: list[Key] = []
        unneeded = list(self.reader.unowned())
        for unit in self.reader.units():
            if unit.source and not os.path.lexists(unit.source):
                gone.append(unit.key)
                unneeded += unit.outputs
        # First the rows stop claiming them, then they go, then they are forgotten: wherever this ends, the next
        # run goes on from there.
        self.ledger.wait(self.ledger.submit(disown(gone)))
        removed = [os.path.join(self.path, os.fsdecode(o.path)) for o in unneeded if self._remove(o)]
        sync_directories({os.path.dirname(p) for p in removed if os.path.isdir(os.path.dirname(p))})
        self.ledger.wait(self.ledger.submit(forget([o.path for o in unneeded])))
        return len(removed)

    def _remove(self, output: Output) -> bool:
        path = os.path.join(self.path, os.fsdecode(output.path))
        try:
            now = Version.of(os.stat(path, follow_symlinks=False))
            if now != output.version:
                found = checksum_of(path)
                if found is None or found[1] != output.blake3:
                    return False
            os.unlink(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise trouble(path, error) from None
        directory = os.path.dirname(path)
        with contextlib.suppress(OSError):  # not empty
            while os.path.normpath(directory) != os.path.normpath(self.path):
                os.rmdir(directory)
                directory = os.path.dirname(directory)
        return True


def _below(root: str) -> Iterator[str]:
    for directory, _, names in os.walk(root):
        for name in names:
            yield os.path.join(directory, name)


def _in(directories: Iterable[bytes]) -> Iterator[str]:
    for directory in dict.fromkeys(directories):
        with contextlib.suppress(OSError):
            for name in os.listdir(os.fsdecode(directory)):
                yield os.path.join(os.fsdecode(directory), name)
