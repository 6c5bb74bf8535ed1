"""Bags (RFC 8493, BagIt 1.0): a directory that carries its own manifests.

`create` turns a directory into a bag where it is. Every name is looked at and every file hashed before
anything moves; then the payload moves by renames that an interrupted run undoes, or finishes, the next time.
`validate` finds everything wrong with a bag, not only the first thing.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from aiopipe.errors import InputError, OutputError, UsageError
from aiopipe.sums.algorithms import algorithm
from aiopipe.sums.engine import HashOptions, run_batches
from aiopipe.sums.formats import bagit_name
from aiopipe.sums.model import FileHash
from aiopipe.sums.output import sync_directory
from aiopipe.sums.walk import Walk

__all__ = ["create", "name_problem"]

WORK = b".aiopipe-bag-tmp"
_SOFTWARE = "aiopipe <https://pypi.org/project/aiopipe-csv/>"


def name_problem(name: bytes) -> str:
    """Why a file of this name cannot be in a bag that others can read; empty where it can.

    >>> name_problem(b"a.txt"), name_problem(b"caf\\xe9")
    ('', 'is not UTF-8, which manifests are')
    """
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return "is not UTF-8, which manifests are"
    if name != name.rstrip():
        return "ends in white space, which validators cut off"
    return ""


def create(
    directory: bytes,
    options: HashOptions,
    info: Mapping[str, str] | None = None,
    *,
    tick: Callable[[], None] | None = None,
) -> tuple[int, int]:
    """Make a bag of a directory, in place: the number of its files and of their bytes.

    `info` goes into bag-info.txt. Raises UsageError for a directory that is a bag already, InputError for
    names and files that cannot be in one (nothing has moved then), OutputError where it cannot be written.
    """
    if not os.path.isdir(directory):
        raise InputError(f"{os.fsdecode(directory)}: no such directory", hint="name the directory to make a bag of")
    _recover(directory)
    if os.path.exists(os.path.join(directory, b"bagit.txt")):
        raise UsageError(f"{os.fsdecode(directory)}: is a bag already", hint="aiopipe bag validate looks at it")
    for key, value in (info or {}).items():
        if not key or ":" in key or "\n" in key + value or "\r" in key + value or key != key.strip():
            raise UsageError(f"bag-info cannot hold {key!r}: {value!r}", hint="write --info Key=value, in one line")
    results = _hashed(directory, options, tick)
    _all_fit(directory, results)
    work = os.path.join(directory, WORK)
    try:
        os.makedirs(os.path.join(work, b"data"))
        _write_tags(work, results, options.algorithms, info or {}, len(directory.rstrip(b"/")) + 1)
        _move(directory, work)
    except OSError as error:
        with contextlib.suppress(OSError):
            _recover(directory)
        raise OutputError(f"{os.fsdecode(directory)}: {error}", hint="nothing was changed; see to the cause") from error
    return len(results), sum(result.size for result in results)


def _hashed(directory: bytes, options: HashOptions, tick: Callable[[], None] | None) -> list[FileHash]:
    walk = Walk([directory])
    results = [result for batch in run_batches(walk, options, roots=[directory], tick=tick) for result in batch]
    bad = [result for result in results if not result.ok]
    if bad:
        first = bad[0]
        raise InputError(
            f"{first.name}: {first.status}: {first.reason}; {len(bad)} such in all", hint="nothing was moved"
        )
    if walk.skipped:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(walk.skipped.items()))
        raise InputError(
            f"{os.fsdecode(directory)}: a bag holds plain files, and there is more here: {kinds}",
            hint="remove them or replace links by what they point to; nothing was moved",
        )
    return results


def _all_fit(directory: bytes, results: Sequence[FileHash]) -> None:
    """Raise InputError where names cannot be in a bag, or are the same to a system that normalises them."""
    seen: dict[str, bytes] = {}
    for result in results:
        problem = name_problem(result.path)
        if problem:
            raise InputError(f"{result.path!r}: {problem}", hint="rename it; nothing was moved")
        plain = unicodedata.normalize("NFC", result.path.decode("utf-8"))
        twin = seen.setdefault(plain, result.path)
        if twin != result.path:
            raise InputError(
                f"{twin!r} and {result.path!r} differ in Unicode normalisation alone",
                hint="rename one: on macOS they are one file; nothing was moved",
            )


def _write_tags(
    work: bytes, results: Sequence[FileHash], algorithms: tuple[str, ...], info: Mapping[str, str], cut: int
) -> None:
    """The tag files: bagit.txt, bag-info.txt, a manifest for each algorithm, and manifests of these."""
    size = sum(result.size for result in results)
    facts = {
        **info,
        "Bag-Software-Agent": _SOFTWARE,
        "Bagging-Date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "Payload-Oxum": f"{size}.{len(results)}",
    }
    tags: dict[bytes, bytes] = {
        b"bagit.txt": b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n",
        b"bag-info.txt": "".join(f"{key}: {value}\n" for key, value in facts.items()).encode(),
    }
    for place, name in enumerate(algorithms):
        lines = [b"%s  data/%s\n" % (each.digests[place].encode(), bagit_name(each.path[cut:])) for each in results]
        tags[b"manifest-%s.txt" % _file_word(name)] = b"".join(lines)
    payload_tags = dict(tags)
    for name in algorithms:
        once = algorithm(name).once
        lines = [b"%s  %s\n" % (once(data).encode(), tag) for tag, data in sorted(payload_tags.items())]
        tags[b"tagmanifest-%s.txt" % _file_word(name)] = b"".join(lines)
    for tag, data in tags.items():
        with open(os.path.join(work, tag), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    sync_directory(work)


def _file_word(name: str) -> bytes:
    """An algorithm as RFC 8493 section 2.4 names it in a file name: lower case, letters and digits."""
    return re.sub(r"[^a-z0-9]", "", name).encode()


def _move(directory: bytes, work: bytes) -> None:
    payload = os.path.join(work, b"data")
    for name in sorted(os.listdir(directory)):
        if name != WORK:
            os.rename(os.path.join(directory, name), os.path.join(payload, name))
    sync_directory(payload)
    # From here on an interrupted run is finished, before it was undone: data/ inside or outside tells.
    os.rename(payload, os.path.join(directory, b"data"))
    _publish(directory, work)


def _publish(directory: bytes, work: bytes) -> None:
    """Put the tag files in place, bagit.txt last: it is what makes a directory a bag."""
    for name in sorted(os.listdir(work), key=lambda each: (each == b"bagit.txt", each)):
        os.rename(os.path.join(work, name), os.path.join(directory, name))
    os.rmdir(work)
    sync_directory(directory)


def _recover(directory: bytes) -> None:
    """Undo or finish what an interrupted `create` left."""
    work = os.path.join(directory, WORK)
    if not os.path.isdir(work):
        return
    payload = os.path.join(work, b"data")
    if not os.path.isdir(payload):
        _publish(directory, work)
        return
    for name in os.listdir(payload):
        target = os.path.join(directory, name)
        if os.path.lexists(target):
            raise OutputError(
                f"{os.fsdecode(target)}: is in the way of what an interrupted run moved aside",
                hint=f"compare it with {os.fsdecode(os.path.join(payload, name))} and remove one of them",
            )
        os.rename(os.path.join(payload, name), target)
    shutil.rmtree(work)
    sync_directory(directory)
