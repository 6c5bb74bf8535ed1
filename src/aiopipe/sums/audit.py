"""What became of a tree since its manifest was written, and how two manifests differ.

Every file seen gets one word, and the words add up to the files seen:

    ok          the digest is the same
    changed     it is not
    bit rot     it is not, though size and time of modification are those of the manifest: nobody wrote
    moved       known by its digest under a name that is gone
    new         not in the manifest
    unreadable, unstable    no digest could be made

`missing` counts the manifest's entries that are nowhere. Only manifests that hold size and time (JSON lines,
CSV) can tell bit rot from a change.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from aiopipe.sums.algorithms import of_length
from aiopipe.sums.check import resolve_algorithms, resolved
from aiopipe.sums.engine import HashOptions, run_batches
from aiopipe.sums.index import Index
from aiopipe.sums.model import OK, UNSTABLE, VANISHED, FileHash, Found, Problem, Signature
from aiopipe.sums.pairs import Pairs, walk_order
from aiopipe.sums.parse import Entry, Manifest
from aiopipe.sums.walk import Walk
from aiopipe.tuples import NamedTuple

__all__ = ["Audit", "Finding", "diff", "normal"]

_PROBED = 64


class Finding(NamedTuple):
    """One word about one file: `was` is its old name where it moved, `reason` why there is no digest."""

    status: str
    name: bytes
    was: bytes = b""
    reason: str = ""


def normal(name: bytes) -> bytes:
    """A name without `./`, `//` and a trailing slash, so that two spellings of one place meet.

    >>> normal(b"./a//b"), normal(b"a/../b")
    (b'a/b', b'a/../b')
    """
    if b"//" not in name and b"./" not in name and name[-1:] not in (b"/", b"."):
        return name  # as most are
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    return (b"/" if name.startswith(b"/") else b"") + b"/".join(parts)


class Audit:
    """A tree against a manifest: iterate it for findings; `counts` adds up. `on_result` hears the new state.

    The manifest is read on as the walk goes on, so a difference is told as soon as the walk has come to it, where the
    manifest is in the order of a walk (as `aiopipe hash` writes it). One in another order is taken in whole when that
    is seen. Findings are the same, and in the same order, for any number of lanes.

    Holds in memory what is new, moved or missing: some 400 bytes for each such file. See `Index` for the manifest.
    """

    def __init__(
        self,
        manifest: Manifest,
        root: bytes,
        options: HashOptions,
        walk: Walk,
        *,
        algorithms: tuple[str, ...] = (),
        tick: Callable[[], None] | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._root = root
        self._cut = len(root.rstrip(b"/")) + 1
        self._options = options
        self._walk = walk
        self.on_result: Callable[[FileHash], None] | None = None
        self._tick = tick
        self._index = Index()
        self._full = os.path.abspath(root).rstrip(b"/") + b"/"
        self._runs = _watched_runs(manifest, tick)
        self._reached: bytes | None = b""  # by the manifest, in the order of a walk; None where all of it is in
        self._in_order = True
        self._strange: set[bytes] = set()  # paths of which no line has been read
        self._failed: list[bytes] = []  # those among them that cannot be read
        first: list[Entry] = []
        while len(first) < _PROBED and (run := next(self._runs, None)) is not None:
            first += run
        self.prefix = self._prefix([normal(entry[0]) for entry in first[:_PROBED]])
        self._take(first)
        self.tagged = bool(first and first[0].algorithms)
        self._by_width = resolve_algorithms(first[:_PROBED], manifest.shown, algorithms, b"" if self.prefix else root)
        self.algorithms = resolved(first[0], self._by_width) if first else algorithms or options.algorithms
        self.dotted = bool(first) and first[0].name.startswith(b"./") and not self.prefix

    def _prefix(self, names: list[bytes]) -> bytes:
        """What names begin with that are seen from where the root was named; empty for those seen from the root."""
        prefix = normal(self._root) + b"/"
        if not names or prefix == b"/" or not all(name.startswith(prefix) for name in names):
            return b""
        below = self._root.rstrip(b"/") + b"/"
        # A directory may hold one of its own name: then what is there tells.
        inside = sum(os.path.lexists(below + name) for name in names)
        outside = sum(os.path.lexists(below + name[len(prefix) :]) for name in names)
        return prefix if outside >= inside else b""

    def _take(self, run: list[Entry]) -> None:
        """Take in entries of the manifest."""
        index, full, cut = self._index, self._full, len(self.prefix)
        keys: list[bytes] = []
        for entry in run:
            plain = normal(entry[0])
            key = plain[len(full) :] if plain.startswith(full) else plain
            index.add(key, entry)
            keys.append(walk_order(key[cut:]))
        if self._in_order and run:
            ordered = sorted(keys)
            self._in_order = keys == ordered and (self._reached or b"") <= keys[0]
            self._reached = keys[-1]

    def _read_on(self, below: bytes | None) -> None:
        """Read the manifest until it is past a name as seen from the root, or to its end."""
        order = walk_order(below) if below is not None else b""
        while self._reached is not None and (below is None or not self._in_order or self._reached <= order):
            run = next(self._runs, None)
            if run is None:
                self._reached = None
            else:
                self._take(run)

    def _key(self, path: bytes) -> bytes:
        """What a walked path has in the index."""
        return self.prefix + path[self._cut :]

    def _below(self, path: bytes) -> bytes:
        """A walked path as seen from the root."""
        return path[self._cut :]

    def named(self, path: bytes) -> bytes:
        """A walked path as the manifest would name it."""
        return (self.prefix or (b"./" if self.dotted else b"")) + self._below(path)

    def _items(self, items: Iterable[Found | Problem]) -> Iterator[Found | Problem]:
        """What is to be hashed, and by which algorithms."""
        for item in items:
            if isinstance(item, Problem):
                yield item
                continue
            self._read_on(self._below(item.prefix + item.names[-1]))
            prefix = item.prefix
            kind: tuple[str, ...] | None = None
            run: list[bytes] = []
            for name in item.names:
                entry = self._index.get(self._key(prefix + name))
                if entry is None:
                    self._strange.add(prefix + name)
                wanted = self.algorithms if entry is None else resolved(entry, self._by_width)
                if wanted != kind:
                    if run:
                        yield item._replace(names=run, algorithms=kind or ())
                    kind, run = wanted, []
                run.append(name)
            if run:
                yield item._replace(names=run, algorithms=kind or ())

    def __iter__(self) -> Iterator[Finding]:
        """Findings in the order of the walk; then what moved or is new, and what is missing."""
        with self._index:
            yield from self._findings()

    def _findings(self) -> Iterator[Finding]:
        if self.on_result is not None:
            self._read_on(None)  # what is told of a file must be the last word
        unknown: list[tuple[bytes, tuple[str, ...]]] = []
        yield from self._looked(self._walk, unknown)
        self._read_on(None)
        if not self._in_order:
            # Some may have been walked before their line was read: once more, now that all of it is known.
            for path in self._failed:
                self._index.pop(self._key(path))
            late = [path for path, _ in unknown if self._index.get(self._key(path)) is not None]
            if late:
                known = set(late)
                self._strange -= known
                unknown = [each for each in unknown if each[0] not in known]
                yield from self._looked([Found(b"", late, self._walk.options.symlinks == "follow")], unknown)
        left = ((entry.digests, entry.name) for entry in self._index.values())
        yield from map(self._count, _moves(left, unknown))

    def _looked(
        self, items: Iterable[Found | Problem], unknown: list[tuple[bytes, tuple[str, ...]]]
    ) -> Iterator[Finding]:
        """What became of files that the manifest knows; others go to `unknown`."""
        for batch in run_batches(self._items(items), self._options, roots=[self._root], tick=self._tick):
            for result in batch:
                if result.status == VANISHED:
                    continue  # missing, if it was in the manifest; never seen, if not
                # One that was not known when it was given to be hashed may be known by now: that would be luck.
                strange = result.path in self._strange
                entry = None if strange else self._index.pop(self._key(result.path))
                if self.on_result is not None:
                    self.on_result(_current(result, entry))
                if result.status != OK:
                    if entry is None:
                        self._failed.append(result.path)
                    status = "unstable" if result.status == UNSTABLE else "unreadable"
                    yield self._count(Finding(status, result.path, reason=result.reason))
                elif entry is None:
                    unknown.append((result.path, result.digests))
                else:
                    yield self._count(Finding(_compared(entry, result), result.path))

    def _count(self, finding: Finding) -> Finding:
        self.counts[finding.status] += 1
        return finding


def _compared(entry: Entry, result: FileHash) -> str:
    if entry.digests == result.digests:
        return "ok"
    signature = result.signature
    if signature is not None and (entry.size, entry.mtime_ns) == (signature.size, signature.mtime_ns):
        return "bit rot"
    return "changed"


def _current(result: FileHash, entry: Entry | None) -> FileHash:
    """What an updated manifest should say: the new digest, or the old where none could be made."""
    if result.status == OK or entry is None:
        return result
    old = Signature(entry.size or 0, entry.mtime_ns or 0, 0, 0, 0)
    return FileHash(result.path, OK, entry.digests, old)


def _moves(
    gone: Iterable[tuple[tuple[str, ...], bytes]], unknown: list[tuple[bytes, tuple[str, ...]]]
) -> Iterator[Finding]:
    """Pairs names that are gone with new ones of the same digest; what is left over is missing or new."""
    by_digest: dict[tuple[str, ...], list[bytes]] = {}
    for digests, name in gone:
        by_digest.setdefault(digests, []).append(name)
    for path, digests in unknown:
        names = by_digest.get(digests)
        if names:
            yield Finding("moved", path, names.pop(0))
        else:
            yield Finding("new", path)
    for name in sorted(name for names in by_digest.values() for name in names):
        yield Finding("missing", name)


def diff(old: Manifest, new: Manifest, tick: Callable[[], None] | None = None) -> Iterator[Finding]:
    """How two manifests differ; no file is read. What both have comes first, as soon as both have told of it.

    For manifests in one order that is the order of both, and the first difference is there at once. Then comes what is
    new or moved, in the order of the new one, and what is missing, by name. Entries are compared by the algorithms
    that both have; an entry with none in common is `incomparable`.
    """
    with Pairs(_watched_runs(old, tick), _watched_runs(new, tick), normal) as pairs:
        for known, entry in pairs:
            yield Finding(_entries_compared(known, entry), entry.name)
        unknown = list(pairs.left(1))
        shared = _shared(_digests(pairs.left(0)), _digests(unknown))
        gone = ((_by(entry, shared), entry.name) for entry in pairs.left(0))
        yield from _moves(gone, [(entry.name, _by(entry, shared)) for entry in unknown])


def _watched_runs(manifest: Manifest, tick: Callable[[], None] | None) -> Iterator[list[Entry]]:
    for run in manifest.runs():
        if tick is not None:
            tick()
        yield run


def _digests(entries: Iterable[Entry]) -> set[str]:
    return {name for entry in entries for name in _named(entry)}


def _shared(ours: set[str], theirs: set[str]) -> str:
    return min(ours & theirs, default="")


def _by(entry: Entry, algorithm: str) -> tuple[str, ...]:
    """What an entry is known by when names do not help; its own name where nothing is in common."""
    digest = _named(entry).get(algorithm)
    return (digest,) if digest is not None else (f"{entry.line} {os.fsdecode(entry.name)!a}",)


def _named(entry: Entry) -> dict[str, str]:
    if entry.algorithms:
        return dict(zip(entry.algorithms, entry.digests, strict=True))
    # Without a tag, the length tells: every algorithm it may be. Equal digests are equal under any of them.
    return dict.fromkeys(of_length(len(entry.digests[0])), entry.digests[0])


def _entries_compared(old: Entry, new: Entry) -> str:
    if old.digests == new.digests and old.algorithms == new.algorithms:
        return "ok"  # as most are
    ours, theirs = _named(old), _named(new)
    common = ours.keys() & theirs.keys()
    if not common:
        return "incomparable"
    if all(ours[name] == theirs[name] for name in common):
        return "ok"
    if old.mtime_ns is not None and (old.size, old.mtime_ns) == (new.size, new.mtime_ns):
        return "bit rot"
    return "changed"
