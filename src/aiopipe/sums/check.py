"""Checking files against a manifest: every entry gets a verdict, in the order of the manifest.

A line that does not say how it was hashed is tried by the length of its digest; where several algorithms
have that length (sha256 and BLAKE3, md5 and XXH128), the smallest of the first files that are there decides.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice, repeat
from operator import itemgetter

from aiopipe.errors import UsageError
from aiopipe.sums.algorithms import algorithm, canonical, known_algorithms, of_length
from aiopipe.sums.engine import HashOptions, run_kind
from aiopipe.sums.model import VANISHED, FileHash, Found
from aiopipe.sums.parse import Entry, Manifest
from aiopipe.sums.reader import Reader
from aiopipe.sums.wanted import wanted
from aiopipe.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Verdict", "check", "resolve_algorithms", "resolved"]

_PROBED = 64


class Verdict(NamedTuple):
    """What became of one entry: `ok`, `failed` (other bytes), `missing`, or `unreadable` with a reason."""

    entry: Entry
    status: str
    reason: str = ""


def check(
    manifest: Manifest,
    options: HashOptions,
    *,
    algorithms: tuple[str, ...] = (),
    base: bytes = b"",
    tick: Callable[[], None] | None = None,
) -> Iterator[list[Verdict]]:
    """Verdicts on a manifest's entries, many at a time.

    Names are relative to `base`, or to the current directory. `algorithms` says how lines without a tag were
    hashed. `options.algorithms` is not used. Symlinks are followed: the manifest named them.
    """
    runs = manifest.runs()
    first: list[Entry] = []
    while len(first) < _PROBED and (run := next(runs, None)) is not None:
        first += run
    by_width = resolve_algorithms(first[:_PROBED], manifest.shown, algorithms, base)
    waiting: deque[list[Entry]] = deque()
    prefix = base.rstrip(b"/") + b"/" if base else b""

    def items() -> Iterator[Found]:
        for entries in chain((first,), runs):
            for known, run in _alike(entries, by_width):
                for name in known:
                    algorithm(name)  # a missing wheel is said here, not in a lane
                waiting.append(run)
                names = [entry[0] for entry in run]
                if prefix:
                    names = [name if name.startswith(b"/") else prefix + name for name in names]
                yield Found(b"", wanted(names, map(_digests, run)), True, known)

    asked = chain.from_iterable(iter(waiting.popleft, None))  # there is one for every answer
    roots = [base or b"."]
    for results in run_kind("wanted", items(), options, algorithms=options.algorithms, roots=roots, tick=tick):
        entries = list(islice(asked, len(results)))
        if results.count(True) == len(results):
            yield list(map(_verdict_of, zip(entries, repeat("ok"), repeat(""))))
        else:
            yield [_verdict(entry, result) for entry, result in zip(entries, results, strict=True)]


_algorithms, _digests = itemgetter(1), itemgetter(2)
_verdict_of: Callable[[Any], Verdict] = partial(tuple.__new__, Verdict)  # its own constructor is a Python function


def _alike(entries: list[Entry], by_width: dict[int, tuple[str, ...]]) -> Iterator[tuple[tuple[str, ...], list[Entry]]]:
    """Neighbours that were hashed alike, and how."""
    kinds = set(map(_algorithms, entries))
    if len(kinds) == 1:  # as it is nearly always
        known = kinds.pop()
        widths = {len(digests[0]) for digests in map(_digests, entries)}
        if known or len(widths) == 1:
            yield known or by_width[widths.pop()], entries
            return
    run: list[Entry] = []
    kind: tuple[str, ...] = ()
    for entry in entries:
        known = entry[1] or by_width[len(entry[2][0])]
        if known != kind:
            if run:
                yield kind, run
            run, kind = [], known
        run.append(entry)
    if run:
        yield kind, run


def _verdict(entry: Entry, result: bool | tuple[str, ...] | FileHash) -> Verdict:
    if isinstance(result, FileHash):
        if not result.ok:
            return Verdict(entry, "missing" if result.status == VANISHED else "unreadable", result.reason)
        result = result.digests
    return Verdict(entry, "ok" if result in (True, entry.digests) else "failed")


class _ByWidth(dict[int, tuple[str, ...]]):
    def __missing__(self, width: int) -> tuple[str, ...]:
        # A length that did not occur among the first lines: the likeliest algorithm that is here.
        self[width] = (next(iter(_usable(of_length(width))), of_length(width)[0]),)
        return self[width]


def resolved(entry: Entry, by_width: dict[int, tuple[str, ...]]) -> tuple[str, ...]:
    """The algorithms of an entry, said by its line or found out."""
    return entry.algorithms or by_width[len(entry.digests[0])]


def resolve_algorithms(
    first: Iterable[Entry], shown: str, asked: tuple[str, ...], base: bytes
) -> dict[int, tuple[str, ...]]:
    """Which algorithm untagged digests of each length are.

    What was asked for comes first, then the manifest's own name (`B3SUMS`, `x.sha3-256`), then a trial.
    """
    by_width: dict[int, tuple[str, ...]] = _ByWidth()
    for name in asked:
        by_width[algorithm(name).width] = (algorithm(name).name,)
    untagged: dict[int, list[Entry]] = {}
    for entry in first:
        if not entry.algorithms:
            untagged.setdefault(len(entry.digests[0]), []).append(entry)
    for width, entries in untagged.items():
        if width in by_width:
            continue
        candidates = _usable(of_length(width))
        hinted = [name for name in candidates if _hint(shown) == name]
        trial = hinted or ([_tried(entries, candidates, base)] if len(candidates) > 1 else candidates)
        if trial and trial[0]:
            by_width[width] = (trial[0],)
    return by_width


def _usable(names: Iterable[str]) -> list[str]:
    found = []
    for name in names:
        try:
            found.append(algorithm(name).name)
        except UsageError:
            continue  # its wheel is not installed
    return found


def _hint(shown: str) -> str | None:
    """The algorithm that a manifest's file name tells of: SHA3-256SUMS, checks.b3, manifest-md5.txt."""
    low = os.path.basename(shown).lower()
    stem, suffix = os.path.splitext(low)
    words = {low.partition("sum")[0], suffix[1:], stem.rpartition("manifest-")[2]}
    known = set(known_algorithms())
    return next((canonical(word) for word in sorted(words) if canonical(word) in known), None)


def _tried(entries: list[Entry], candidates: list[str], base: bytes) -> str:
    """The first candidate under which the smallest file that is there has its digest; else the likeliest."""
    sized = []
    for entry in entries:
        path = os.path.join(base, entry.name) if base else entry.name
        try:
            sized.append((os.stat(path).st_size, path, entry))
        except (OSError, ValueError):
            continue
    for _, path, entry in sorted(sized, key=lambda each: each[0])[:2]:
        for name in candidates:
            [result] = Reader((name,)).run([path], follow=True, alone=True).results
            if isinstance(result, FileHash) and result.digests == entry.digests:
                return name
    return candidates[0]
