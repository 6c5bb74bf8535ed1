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
from typing import NamedTuple

from aiopipe.sums.algorithms import of_length
from aiopipe.sums.check import resolve_algorithms, resolved
from aiopipe.sums.engine import HashOptions, run_batches
from aiopipe.sums.index import Index
from aiopipe.sums.model import OK, UNSTABLE, VANISHED, FileHash, Found, Problem, Signature
from aiopipe.sums.pairs import Pairs
from aiopipe.sums.parse import Entry, Manifest
from aiopipe.sums.walk import Walk

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
        self._options = options
        self._walk = walk
        self.on_result: Callable[[FileHash], None] | None = None
        self._tick = tick
        self._index = Index()
        first: list[Entry] = []
        prefix = normal(root) + b"/"
        full = os.path.abspath(root).rstrip(b"/") + b"/"
        below = prefix != b"/"  # as long as every entry is named from where the root was named
        for entry in _watched(manifest, tick):
            if len(first) < _PROBED:
                first.append(entry)
            plain = normal(entry.name)
            below = below and plain.startswith(prefix)
            self._index.add(plain[len(full) :] if plain.startswith(full) else plain, entry)
        self._index.seal()
        self.tagged = bool(first and first[0].algorithms)
        self.prefix = prefix if below and first else b""
        self._by_width = resolve_algorithms(first, manifest.shown, algorithms, b"" if self.prefix else root)
        self.algorithms = resolved(first[0], self._by_width) if first else algorithms or options.algorithms
        self.dotted = bool(first) and first[0].name.startswith(b"./") and not self.prefix

    def _key(self, below: bytes) -> bytes:
        """What a name as seen from the root has in the index."""
        return self.prefix + below

    def _below(self, path: bytes) -> bytes:
        """A walked path as seen from the root."""
        return path[len(self._root.rstrip(b"/")) + 1 :]

    def named(self, path: bytes) -> bytes:
        """A walked path as the manifest would name it."""
        return (self.prefix or (b"./" if self.dotted else b"")) + self._below(path)

    def _items(self) -> Iterator[Found | Problem]:
        for item in self._walk:
            if isinstance(item, Problem):
                yield item
                continue
            below = self._key(self._below(item.prefix + b"x")[:-1])
            kind: tuple[str, ...] | None = None
            run: list[bytes] = []
            for name in item.names:
                entry = self._index.get(below + name)
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
        unknown: list[tuple[bytes, tuple[str, ...]]] = []
        for batch in run_batches(self._items(), self._options, roots=[self._root], tick=self._tick):
            for result in batch:
                if result.status == VANISHED:
                    continue  # missing, if it was in the manifest; never seen, if not
                entry = self._index.pop(self._key(self._below(result.path)))
                if self.on_result is not None:
                    self.on_result(_current(result, entry))
                if result.status != OK:
                    status = "unstable" if result.status == UNSTABLE else "unreadable"
                    yield self._count(Finding(status, result.path, reason=result.reason))
                elif entry is None:
                    unknown.append((result.path, result.digests))
                else:
                    yield self._count(Finding(_compared(entry, result), result.path))
        left = ((entry.digests, entry.name) for entry in self._index.values())
        yield from map(self._count, _moves(left, unknown))

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


def _watched(manifest: Manifest, tick: Callable[[], None] | None) -> Iterator[Entry]:
    """The entries of a manifest; a million take seconds, and `tick` is called now and then meanwhile."""
    for number, entry in enumerate(manifest):
        if tick is not None and not number % 1024:
            tick()
        yield entry


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
