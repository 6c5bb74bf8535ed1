"""Include and exclude patterns over paths as bytes.

A pattern without `/` speaks of a name at any depth (`*.pyc`); one with `/` of the path below the root that
was asked for (`build/**`, `/top.txt`). `*` and `?` stay inside one name, `**` crosses directories, `[a-z]` is
a class (`[!a-z]` its opposite), a trailing `/` matches directories alone. The meaning is gitignore's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from aiopipe.errors import UsageError

__all__ = ["Matcher", "matcher"]

Matcher = Callable[[bytes, bytes, bool], bool]
"""Called with the name, the path below the root, and whether it is a directory."""


def _body(pattern: bytes) -> bytes:
    out = bytearray()
    i = 0
    while i < len(pattern):
        char = pattern[i : i + 1]
        if pattern.startswith(b"**/", i) and (i == 0 or pattern[i - 1 : i] == b"/"):
            out += b"(?:[^/]+/)*"
            i += 3
            continue
        if pattern.startswith(b"**", i):
            out += b".*"
            i += 2
            continue
        if char == b"*":
            out += b"[^/]*"
        elif char == b"?":
            out += b"[^/]"
        elif char == b"\\" and i + 1 < len(pattern):
            i += 1
            out += re.escape(pattern[i : i + 1])
        elif char == b"[" and (end := pattern.find(b"]", i + 2)) > 0:
            inner = pattern[i + 1 : end]
            negated = inner[:1] in (b"!", b"^")
            inner = inner[1:] if negated else inner
            out += b"[" + (b"^/" if negated else b"") + re.sub(rb"([\\\[\]^&~|])", rb"\\\1", inner) + b"]"
            i = end
        else:
            out += re.escape(char)
        i += 1
    return bytes(out)


def matcher(patterns: Iterable[bytes]) -> Matcher | None:
    """One function that says whether any pattern matches; None where there are no patterns.

    Raises UsageError for a pattern that is empty or no valid character class.

    >>> match = matcher([b"*.pyc", b"build/**"])
    >>> match(b"a.pyc", b"x/a.pyc", False), match(b"a.py", b"build/a.py", False), match(b"b", b"b", False)
    (True, True, False)
    """
    names: list[bytes] = []
    paths: list[bytes] = []
    dir_names: list[bytes] = []
    dir_paths: list[bytes] = []
    for pattern in patterns:
        directory = pattern.endswith(b"/")
        bare = pattern.rstrip(b"/")
        if not bare:
            raise UsageError(f"an empty pattern: {pattern!r}", hint="write a glob such as '*.tmp' or 'build/**'")
        anchored = b"/" in bare
        regex = b"(?:" + _body(bare.lstrip(b"/")) + b")"
        try:
            re.compile(regex)
        except re.error as error:
            raise UsageError(f"the pattern {pattern!r} is no glob: {error}") from error
        chosen = (dir_paths if anchored else dir_names) if directory else (paths if anchored else names)
        chosen.append(regex)
    compiled = [
        re.compile(b"|".join(each), re.DOTALL) if each else None for each in (names, paths, dir_names, dir_paths)
    ]
    if not any(compiled):
        return None
    of_name, of_path, of_dir_name, of_dir_path = compiled

    def match(name: bytes, path: bytes, is_dir: bool) -> bool:
        return bool(
            (of_name and of_name.fullmatch(name))
            or (of_path and of_path.fullmatch(path))
            or (is_dir and of_dir_name and of_dir_name.fullmatch(name))
            or (is_dir and of_dir_path and of_dir_path.fullmatch(path))
        )

    return match
