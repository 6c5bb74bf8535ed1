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
from aiopipe.sums.model import OK, UNSTABLE, VANISHED, FileHash, Found, Problem, Signature
from aiopipe.sums.parse import Entry, Manifest
from aiopipe.sums.walk import Walk

__all__ = ["Audit", "Finding", "diff", "normal"]


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
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    return (b"/" if name.startswith(b"/") else b"") + b"/".join(parts)


class Audit:
    """A tree against a manifest: iterate it for findings; `counts` adds up. `on_result` hears the new state.

    Holds the manifest in memory: some 500 bytes for each of its entries.
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
        entries = list(manifest)
        self.tagged = bool(entries and entries[0].algorithms)
        self.prefix = _common_prefix(entries, root)
        base = b"" if self.prefix else root
        self._by_width = resolve_algorithms(entries[:64], manifest.shown, algorithms, base)
        self._index = {self._key(entry.name): entry for entry in entries}
        self.algorithms = resolved(entries[0], self._by_width) if entries else algorithms or options.algorithms
        self.dotted = bool(entries) and entries[0].name.startswith(b"./") and not self.prefix

    def _key(self, name: bytes) -> bytes:
        """An entry's name as seen from the root."""
        plain = normal(name)
        if self.prefix and plain.startswith(self.prefix):
            return plain[len(self.prefix) :]
        if plain.startswith(b"/"):
            full = os.path.abspath(self._root).rstrip(b"/") + b"/"
            return plain[len(full) :] if plain.startswith(full) else plain
        return plain

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
            below = self._below(item.prefix + b"x")[:-1]
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
        unknown: list[tuple[bytes, tuple[str, ...]]] = []
        for batch in run_batches(self._items(), self._options, roots=[self._root], tick=self._tick):
            for result in batch:
                key = self._below(result.path)
                entry = self._index.get(key)
                if result.status == VANISHED:
                    continue  # missing, if it was in the manifest; never seen, if not
                if entry is not None:
                    del self._index[key]
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


def _common_prefix(entries: list[Entry], root: bytes) -> bytes:
    """`root/` where every entry is named from where the root was named, else nothing: named from the root."""
    prefix = normal(root) + b"/"
    if prefix == b"/" or not entries:
        return b""
    return prefix if all(normal(entry.name).startswith(prefix) for entry in entries) else b""


def diff(old: Manifest, new: Manifest) -> Iterator[Finding]:
    """How two manifests differ; no file is read.

    Entries are compared by the algorithms that both have; an entry with none in common is `incomparable`.
    """
    index = {normal(entry.name): entry for entry in old}
    unknown: list[tuple[bytes, Entry]] = []
    for entry in new:
        known = index.pop(normal(entry.name), None)
        if known is None:
            unknown.append((entry.name, entry))
            continue
        yield Finding(_entries_compared(known, entry), entry.name)
    ours, theirs = _digests(index.values()), _digests(each for _, each in unknown)
    shared = _shared(ours, theirs)
    gone = ((_by(entry, shared), entry.name) for entry in index.values())
    yield from _moves(gone, [(name, _by(entry, shared)) for name, entry in unknown])


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
    ours, theirs = _named(old), _named(new)
    common = ours.keys() & theirs.keys()
    if not common:
        return "incomparable"
    if all(ours[name] == theirs[name] for name in common):
        return "ok"
    if old.mtime_ns is not None and (old.size, old.mtime_ns) == (new.size, new.mtime_ns):
        return "bit rot"
    return "changed"
