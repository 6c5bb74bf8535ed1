"""Digests remembered in one SQLite file, per file and per algorithm, so that only what changed is read.

A lane looks up whole runs of names in one query and stats each file; what is unchanged is not opened. New
digests are recorded as they are made, not as they are printed, and committed every second, so a run that
was killed continues where it was. A row is trusted only where the file's times are older than the moment of
hashing by more than 2 seconds: on file systems with coarse times a later change may not show in them.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiopipe.errors import InputError, OutputError, UsageError
from aiopipe.sums.model import OK, FileHash, Signature
from aiopipe.sums.reader import Outcome, Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from aiopipe.sums.reader import Results

__all__ = ["CacheOptions", "CacheWriter", "CachedReader", "duration"]

_RACY_NS = 2_000_000_000
_BITS = (1 << 63) - 1  # SQLite's integers are signed; some file systems use all 64 bits of an inode number
_APPLICATION = 0x61696F70  # "aiop"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS digests (
  directory BLOB NOT NULL, name BLOB NOT NULL, algorithm TEXT NOT NULL,
  size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
  ino INTEGER NOT NULL, dev INTEGER NOT NULL, digest TEXT NOT NULL, hashed_at_ns INTEGER NOT NULL,
  PRIMARY KEY (directory, name, algorithm)
) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """Which cache, and when a remembered digest holds.

    `key` names what must be equal: `ctime` (size, both times and the inode; the safest), `mtime` (size,
    time of modification and inode; a chmod or a new hard link changes nothing), `size+mtime` (for trees that
    were copied with their times). Digests older than `rehash_older` seconds are made again; with 0 all of them.
    """

    path: str
    key: str = "ctime"
    rehash_older: float | None = None

    def __post_init__(self) -> None:
        if self.key not in ("ctime", "mtime", "size+mtime"):
            raise UsageError(f"cache key {self.key!r}", hint="use ctime, mtime or size+mtime")

    def files(self) -> frozenset[bytes]:
        """The files that make up the cache, resolved: a walk leaves them out."""
        full = os.path.realpath(os.fsencode(self.path))
        return frozenset({full, full + b"-wal", full + b"-shm", full + b"-journal"})


def duration(text: str) -> float:
    """Seconds in a duration such as `30d`, `12h`, `5m`, `90s`; raises UsageError for anything else.

    >>> duration("30d"), duration("90")
    (2592000.0, 90.0)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw]?)", text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no duration", hint="write 30d, 12h, 5m or 90s")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[match[2]]


_ALL = """
SELECT name, size, mtime_ns, ctime_ns, ino, digest, hashed_at_ns, algorithm FROM digests
WHERE directory = ? AND name BETWEEN ? AND ?
"""
_BELOW = "SELECT DISTINCT directory FROM digests WHERE directory = ? OR directory > ? AND directory < ?"
_ONE = _ALL.replace(", algorithm FROM", " FROM") + "AND algorithm = ?"


class _Row(NamedTuple):
    name: bytes
    size: int
    mtime_ns: int
    ctime_ns: int
    ino: int
    digest: str
    hashed_at_ns: int


class CachedReader(Reader):
    """A reader that looks into the cache first. Its connection belongs to the thread that made it."""

    def __init__(self, algorithms: Sequence[str], options: CacheOptions, **more: Any) -> None:
        super().__init__(algorithms, **more)
        self._options = options
        self._connection = sqlite3.connect(f"file:{_quoted(options.path)}?mode=ro", uri=True, timeout=30)
        self._times = {"ctime": (True, True), "mtime": (False, True), "size+mtime": (False, False)}[options.key]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def run(
        self,
        paths: Sequence[bytes],
        *,
        follow: bool = False,
        alone: bool = False,
        algorithms: tuple[str, ...] = (),
        seconds: float = 0.040,
    ) -> Outcome:
        """As `Reader.run`; results from the cache have `how` = `cache`.

        A file that is read again and has another digest under the same size and times has `how` = `rot`.
        """
        begin, begun_ns = time.perf_counter(), time.time_ns()
        if alone:  # it was looked up when it was handed back as large; only a bit-rot verdict is missing
            outcome = super().run(paths, follow=follow, alone=True, algorithms=algorithms, seconds=seconds)
            rows = self._rows(paths, algorithms or self._asked)
            judged: Results = [
                self._judged(each, rows.get(each.path)) if isinstance(each, FileHash) else each
                for each in outcome.results
            ]
            return outcome._replace(results=judged)
        wanted = algorithms or self._asked
        rows = self._rows(paths, wanted)
        results: Results = []
        missing: list[int] = []
        stat, older = os.stat, self._options.rehash_older
        # 0 is everything, also what seems to have been hashed in the future.
        oldest = 0 if older is None else begun_ns - int(older * 1e9) if older else _BITS
        with_ctime, with_inode = self._times
        make: Any = tuple.__new__
        for place, path in enumerate(paths):
            row = rows.get(path)
            if row is not None:
                _, size, mtime, ctime, ino, digest, hashed = row
                try:
                    status = stat(path, follow_symlinks=follow)
                except OSError:
                    status = None
                # In one expression and not in a function: it is asked a hundred thousand times a second.
                if (
                    status is not None
                    and hashed >= oldest
                    and status.st_size == size
                    and (found := status.st_mtime_ns) == mtime
                    and found < hashed - _RACY_NS
                    and (not with_ctime or ((changed := status.st_ctime_ns) == ctime and changed < hashed - _RACY_NS))
                    and (not with_inode or status.st_ino & _BITS == ino)
                    and status.st_mode & 0o170000 == 0o100000
                ):
                    signature = make(
                        Signature,
                        (size, found, status.st_ctime_ns, status.st_ino, status.st_dev),
                    )
                    results.append(make(FileHash, (path, OK, tuple(digest.split(" ")), signature, "", "cache")))
                    continue
            results.append(None)
            missing.append(place)
        if not missing:
            return Outcome(results, time.perf_counter() - begin, begun_ns)
        rest = super().run([paths[place] for place in missing], follow=follow, algorithms=algorithms, seconds=seconds)
        for place, result in zip(missing, rest.results, strict=False):
            results[place] = self._judged(result, rows.get(result.path)) if isinstance(result, FileHash) else result
        if len(rest.results) < len(missing):
            del results[missing[len(rest.results)] :]
        return Outcome(results, time.perf_counter() - begin, begun_ns)

    def _judged(self, result: FileHash, row: _Row | None) -> FileHash:
        """Mark a digest that changed though nothing else did: nobody wrote, so the disk did."""
        signature = result.signature
        if (
            row is not None
            and signature is not None
            and result.digests != tuple(row.digest.split(" "))
            and (row.size, row.mtime_ns, row.ctime_ns, row.ino)
            == (signature.size, signature.mtime_ns, signature.ctime_ns, signature.ino & _BITS)
            and max(row.mtime_ns, row.ctime_ns) < row.hashed_at_ns - _RACY_NS
        ):
            return result._replace(how="rot")
        return result

    def _rows(self, paths: Sequence[bytes], algorithms: tuple[str, ...]) -> dict[bytes, _Row]:
        """What is remembered of these paths, where every one of the algorithms is."""
        rows: dict[bytes, _Row] = {}
        start = 0
        while start < len(paths):
            prefix = paths[start][: paths[start].rfind(b"/") + 1]
            stop = start + 1
            while stop < len(paths) and paths[stop].startswith(prefix) and b"/" not in paths[stop][len(prefix) :]:
                stop += 1
            self._directory(rows, prefix, [path[len(prefix) :] for path in paths[start:stop]], algorithms)
            start = stop
        return rows

    def _directory(
        self, rows: dict[bytes, _Row], prefix: bytes, names: list[bytes], algorithms: tuple[str, ...]
    ) -> None:
        place = (_absolute(prefix), min(names), max(names))
        make: Any = tuple.__new__
        if len(algorithms) == 1:
            for values in self._connection.execute(_ONE, (*place, algorithms[0])):
                rows[prefix + values[0]] = make(_Row, values)
            return
        several: dict[bytes, dict[str, _Row]] = {}
        for *values, algorithm in self._connection.execute(_ALL, place):
            several.setdefault(values[0], {})[algorithm] = _Row(*values)
        for name, by in several.items():
            if all(each in by for each in algorithms):
                chosen = [by[each] for each in algorithms]
                if len({each[:5] for each in chosen}) == 1:  # all of one version of the file
                    digests = " ".join(each.digest for each in chosen)
                    hashed = min(each.hashed_at_ns for each in chosen)
                    rows[prefix + name] = chosen[0]._replace(digest=digests, hashed_at_ns=hashed)


class CacheWriter:
    """The one connection that writes; makes the file if need be. Close it, or use it as a context."""

    def __init__(self, options: CacheOptions) -> None:
        self._path = options.path
        try:
            self._connection = sqlite3.connect(options.path, timeout=30, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise OutputError(
                    f"{options.path}: the cache cannot be opened: {error}", hint="choose another --cache"
                ) from error
            raise InputError(
                f"{options.path}: is no cache of aiopipe: {error}",
                hint="choose another --cache, or remove it",
            ) from error
        self._pending = False
        self._lock = threading.Lock()  # lanes record as they go
        self._over = threading.Event()
        self._timer = threading.Thread(target=self._commit_often, name="aiopipe-hash-cache", daemon=True)
        self._timer.start()

    def _prepare(self) -> None:
        execute = self._connection.execute
        application = execute("PRAGMA application_id").fetchone()[0]
        if application not in (0, _APPLICATION) or (
            application == 0 and execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        ):
            raise sqlite3.DatabaseError("it is another program's database")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = NORMAL")
        execute(f"PRAGMA application_id = {_APPLICATION}")
        execute(_SCHEMA)
        execute("BEGIN")

    def record(self, results: Iterable[FileHash], algorithms: tuple[str, ...], begun_ns: int) -> None:
        """Remember digests that were made from `begun_ns` on; committed within a second."""
        rows = []
        for path, status, digests, signature, _, how in results:
            if status != OK or signature is None or how == "cache":
                continue
            cut = path.rfind(b"/") + 1
            size, mtime, ctime, ino, dev = signature
            place = (_absolute(path[:cut]), path[cut:])
            for algorithm, digest in zip(algorithms, digests, strict=True):
                rows.append((*place, algorithm, size, mtime, ctime, ino & _BITS, dev & _BITS, digest, begun_ns))
        if not rows:
            return
        with self._lock:
            self._connection.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            self._pending = True

    def prune(self, roots: Iterable[bytes]) -> int:
        """Forget the files below these roots that are no longer there; how many they were.

        What cannot be looked at (a directory without permission) is kept.
        """
        forgotten = 0
        with self._lock:
            execute = self._connection.execute
            for root in map(os.path.abspath, roots):
                below = root.rstrip(b"/")
                bounds = (root, below + b"/", below + b"0")  # 0 is what follows a slash
                found = execute(
                    "SELECT DISTINCT directory FROM digests WHERE directory = ? OR directory > ? AND directory < ?",
                    bounds,
                ).fetchall()
                for (directory,) in found:
                    forgotten += self._forget_missing(directory)
            self._pending = True
        return forgotten

    def _forget_missing(self, directory: bytes) -> int:
        try:
            there = set(os.listdir(directory))
        except (FileNotFoundError, NotADirectoryError):
            there = set()
        except OSError:
            return 0
        names = self._connection.execute("SELECT DISTINCT name FROM digests WHERE directory = ?", (directory,))
        gone = [(directory, name) for (name,) in names.fetchall() if name not in there]
        self._connection.executemany("DELETE FROM digests WHERE directory = ? AND name = ?", gone)
        return len(gone)

    def commit(self) -> None:
        """Make everything recorded so far last."""
        with self._lock:
            if self._pending:
                self._connection.execute("COMMIT")
                self._connection.execute("BEGIN")
                self._pending = False

    def _commit_often(self) -> None:
        # A thread and not a look at the clock in `record`: after the last small file there may be hours of
        # one large one, and a run killed then must not have forgotten the small ones.
        while not self._over.wait(1):
            try:
                self.commit()
            except sqlite3.Error:
                return  # a full disk, say; `close` tries again and tells

    def close(self) -> None:
        """Commit and close; raises OutputError where the disk does not take it."""
        self._over.set()
        self._timer.join()
        with self._lock:
            try:
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise OutputError(
                    f"{self._path}: the cache cannot be written: {error}", hint="is the disk full?"
                ) from error
            finally:
                self._connection.close()

    def __enter__(self) -> CacheWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_directories: dict[tuple[bytes, bytes], bytes] = {}


def _absolute(prefix: bytes) -> bytes:
    """The absolute directory of a prefix: the cache outlives the current directory."""
    here = os.getcwdb()
    key = (here, prefix)
    if key not in _directories:
        if len(_directories) > 4096:
            _directories.clear()
        _directories[key] = os.path.abspath(prefix or b".")
    return _directories[key]


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(os.path.abspath(path), errors="surrogateescape")
