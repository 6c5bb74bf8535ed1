"""Answers kept in an SQLite file from one run to the next, so that a run asks only for what it does not know.

Only answers that could be used are kept, as the texts that `into` took from them. Every method blocks: the loop
calls them in a thread.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aiopipe.errors import InputError, OutputError

__all__ = ["Answer", "Cache"]

_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key BLOB PRIMARY KEY, saved REAL NOT NULL, etag TEXT NOT NULL, modified TEXT NOT NULL, texts TEXT NOT NULL
) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a request. saved: Unix time. etag, modified: the answer's own headers, or nothing."""

    key: bytes
    saved: float
    etag: str
    modified: str
    texts: tuple[str, ...]


class Cache:
    """An open file; other runs may use it at the same time."""

    def __init__(self, path: str) -> None:
        """InputError where the path is no such file."""
        self._path = path
        self._lock = threading.Lock()
        try:
            parent = os.path.dirname(path)
            if parent:
                os.makedirs(parent, exist_ok=True)
            self._base = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"the cache {path} cannot be opened: {error}", stage="fetch", hint="name a file") from None
        try:
            version = self._base.execute("PRAGMA user_version").fetchone()[0]
            tables = self._base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if version != _VERSION and tables:
                raise sqlite3.DatabaseError("it holds something else, or is of another version")
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=NORMAL")
            self._base.execute(_SCHEMA)
            self._base.execute(f"PRAGMA user_version={_VERSION}")
        except sqlite3.Error as error:
            self._base.close()
            raise InputError(
                f"{path} is no cache of answers: {error}", stage="fetch", hint="name another file, or delete this one"
            ) from None

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Answer]:
        """The answers to those of the requests that are known."""
        found = {}
        with self._lock:
            for start in range(0, len(keys), 500):
                some = keys[start : start + 500]
                places = ",".join("?" * len(some))
                rows = self._base.execute(
                    f"SELECT key, saved, etag, modified, texts FROM answers WHERE key IN ({places})", some
                )
                for key, saved, etag, modified, texts in rows:
                    found[key] = Answer(key, saved, etag, modified, tuple(json.loads(texts)))
        return found

    def keep(self, answers: Iterable[Answer]) -> None:
        """Add answers, all of them in one transaction; OutputError where that fails."""
        rows = [(a.key, a.saved, a.etag, a.modified, json.dumps(a.texts, ensure_ascii=False)) for a in answers]
        try:
            with self._lock:
                self._base.execute("BEGIN IMMEDIATE")
                try:
                    self._base.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", rows)
                    self._base.execute("COMMIT")
                except BaseException:
                    self._base.execute("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            raise OutputError(
                f"the cache {self._path} cannot be written: {error}", stage="fetch", hint="make room, or name another"
            ) from None

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._base.close()
