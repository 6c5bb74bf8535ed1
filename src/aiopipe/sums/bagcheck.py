"""Everything wrong with a bag (RFC 8493 section 3): complete, and valid where every digest is right."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

from aiopipe.errors import InputError, UnknownNameError
from aiopipe.sums.algorithms import algorithm, known_algorithms
from aiopipe.sums.engine import HashOptions, run_batches
from aiopipe.sums.model import OK, Found, Problem
from aiopipe.sums.parse import Entry, open_manifest
from aiopipe.sums.walk import Walk

__all__ = ["BagCheck"]

_MANIFEST = re.compile(rb"(tag)?manifest-([a-z0-9]+)\.txt")


@dataclass(slots=True)
class BagCheck:
    """A bag being validated: iterate it for problems, each a line of text; none means it is valid.

    With `fast`, only the tag files, the completeness and the Payload-Oxum are looked at. Raises InputError
    for a directory that is no bag at all.
    """

    root: bytes
    options: HashOptions
    fast: bool = False
    tick: Callable[[], None] | None = None
    files: int = 0
    size: int = 0
    _expected: dict[bytes, dict[str, str]] = field(default_factory=dict)
    _tags: dict[bytes, dict[str, str]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[str]:
        """Problems, in the order in which they are found."""
        declaration = self._path(b"bagit.txt")
        if not os.path.isfile(declaration):
            raise InputError(f"{os.fsdecode(self.root)}: is no bag: it has no bagit.txt", hint="aiopipe bag create")
        version = yield from self._declaration(declaration)
        if not os.path.isdir(self._path(b"data")):
            yield "data: the payload directory is missing"
            return
        manifests = yield from self._manifests()
        if not manifests:
            yield "there is no payload manifest (manifest-ALG.txt)"
        present = yield from self._present()
        yield from self._complete(present, manifests, version)
        yield from self._oxum()
        if not self.fast:
            yield from self._digests(self._expected, present)
        yield from self._digests(self._tags, {name: name for name in self._tags})

    def _path(self, name: bytes) -> bytes:
        return os.path.join(self.root, name)

    def _declaration(self, path: bytes) -> Generator[str, None, tuple[int, int]]:
        with open(path, "rb") as file:
            text = file.read(10_000)
        found = re.fullmatch(
            rb"BagIt-Version: (\d+)\.(\d+)\s*\r?\nTag-File-Character-Encoding: ([A-Za-z0-9_.-]+)\s*", text
        )
        if found is None:
            yield "bagit.txt: its two lines are not those of RFC 8493 section 2.1.1"
            return 1, 0
        if found[3].upper() not in (b"UTF-8", b"UTF8"):
            yield f"bagit.txt: the encoding {found[3].decode()} is not understood; UTF-8 is"
        version = int(found[1]), int(found[2])
        if version > (1, 0):
            yield f"bagit.txt: version {version[0]}.{version[1]} is newer than this program"
        return version

    def _manifests(self) -> Generator[str, None, list[str]]:
        """Reads every manifest; returns the algorithms of the payload's."""
        algorithms: list[str] = []
        words = {re.sub(r"[^a-z0-9]", "", name): name for name in known_algorithms()}
        for name in sorted(os.listdir(self.root)):
            match = _MANIFEST.fullmatch(name)
            if match is None:
                continue
            shown, word = os.fsdecode(name), match[2].decode()
            try:
                used = algorithm(words.get(word, word)).name
            except UnknownNameError:
                yield f"{shown}: the algorithm {word} is not known here"
                continue
            into = self._tags if match[1] else self._expected
            if not match[1]:
                algorithms.append(used)
            manifest = open_manifest(os.fsdecode(self._path(name)), form="bagit")
            bad: list[int] = []
            manifest.on_bad = bad.append
            try:
                for entry in manifest:
                    problem = _unsafe(entry.name, bool(match[1]))
                    if problem:
                        yield f"{shown}:{entry.line}: {os.fsdecode(entry.name)!a} {problem}"
                    elif len(entry.digests[0]) != algorithm(used).width:
                        yield f"{shown}:{entry.line}: the digest has not the length of {used}"
                    elif _noted(into, entry, used) != entry.digests[0]:
                        yield f"{shown}:{entry.line}: {os.fsdecode(entry.name)!a}: listed twice, differently"
            finally:
                manifest.close()
            for line in bad:
                yield f"{shown}:{line}: the line is not understood"
        return algorithms

    def _present(self) -> Generator[str, None, dict[bytes, bytes]]:
        """Returns the payload on disk: the path below the root, by its name without `./`."""
        present: dict[bytes, bytes] = {}
        walk = Walk([self._path(b"data")])
        cut = len(self.root.rstrip(b"/")) + 1
        for item in walk:
            if isinstance(item, Problem):
                yield f"{os.fsdecode(item.path)}: {item.reason}"
                continue
            for name in item.names:
                path = (item.prefix + name)[cut:]
                present[path] = path
                try:
                    self.size += os.lstat(self._path(path)).st_size
                except OSError as error:
                    yield f"{os.fsdecode(path)}: {error.strerror}"
        self.files = len(present)
        for kind, count in sorted(walk.skipped.items()):
            yield f"data: {count} {kind}, which no bag can hold"
        # A bag that went through macOS or an archive may have names in another normalisation.
        listed = {_nfc(name): name for name in self._expected if name not in present}
        for path in [path for path in present if path not in self._expected]:
            other = listed.get(_nfc(path))
            if other is not None and other not in present:
                del present[path]
                present[other] = path
        return present

    def _complete(self, present: dict[bytes, bytes], algorithms: list[str], version: tuple[int, int]) -> Iterator[str]:
        for name, digests in self._expected.items():
            if name not in present:
                yield f"{os.fsdecode(name)!a}: is in a manifest and not in the bag"
            elif version >= (1, 0):
                for each in algorithms:
                    if each not in digests:
                        yield f"{os.fsdecode(name)!a}: is not in manifest-{each}.txt"
        for name in present:
            if name not in self._expected:
                yield f"{os.fsdecode(name)!a}: is in the bag and in no manifest"

    def _oxum(self) -> Iterator[str]:
        try:
            with open(self._path(b"bag-info.txt"), "rb") as file:
                text = file.read()
        except OSError:
            return
        found = re.search(rb"^Payload-Oxum[ \t]*:[ \t]*(\d+)\.(\d+)[ \t]*\r?$", text, re.MULTILINE | re.IGNORECASE)
        if found is not None and (int(found[1]), int(found[2])) != (self.size, self.files):
            yield (
                f"bag-info.txt: Payload-Oxum says {int(found[1])} bytes in {int(found[2])} files, "
                f"there are {self.size} in {self.files}"
            )

    def _digests(self, expected: dict[bytes, dict[str, str]], present: dict[bytes, bytes]) -> Iterator[str]:
        names = [name for name in expected if name in present]

        def items() -> Iterator[Found]:
            for name in names:
                kind = tuple(expected[name])
                yield Found(b"", [self._path(present[name])], False, kind)

        place = 0
        for batch in run_batches(items(), self.options, roots=[self.root], tick=self.tick):
            for result in batch:
                name = names[place]
                place += 1
                if result.status != OK:
                    yield f"{os.fsdecode(name)!a}: {result.status}: {result.reason}"
                    continue
                for kind, digest in zip(expected[name], result.digests, strict=True):
                    said = expected[name][kind]
                    if said != digest:
                        yield f"{os.fsdecode(name)!a}: its {kind} is {digest}, the manifest says {said}"


def _noted(into: dict[bytes, dict[str, str]], entry: Entry, used: str) -> str:
    """The digest noted for an entry: its own, or the one that came first."""
    return into.setdefault(_plain(entry.name), {}).setdefault(used, entry.digests[0])


def _plain(name: bytes) -> bytes:
    return name[2:] if name.startswith(b"./") else name


def _unsafe(name: bytes, tag: bool) -> str:
    """Why a manifest may not name this (RFC 8493 sections 2.1.3 and 5.2); empty where it may."""
    parts = _plain(name).split(b"/")
    if name.startswith((b"/", b"~")) or b".." in parts or re.match(rb"[A-Za-z]:[\\/]", name):
        return "leads out of the bag"
    if not tag and parts[0] != b"data":
        return "is not below data/"
    return ""


def _nfc(name: bytes) -> str:
    return unicodedata.normalize("NFC", name.decode("utf-8", "surrogateescape"))
