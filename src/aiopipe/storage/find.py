"""Paths, globs and directories as files, in one order on every machine, and never a device by accident."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from aiopipe.errors import InputError
from aiopipe.model import FileRef, display_path
from aiopipe.storage.home import path_hint

__all__ = ["Finder", "glob_pattern"]

_MAGIC = re.compile(r"[*?\[]")


def glob_pattern(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression over relative paths: `**/` is any number of directories, `*` stays in one.

    Names that begin with a dot are matched only by a pattern part that begins with one.
    """
    out, parts = "", pattern.split("/")
    for i, part in enumerate(parts):
        final = i == len(parts) - 1
        if part == "**":
            out += r"(?:(?!\.)[^/]+/)*" + (r"(?!\.)[^/]+" if final else "")
            continue
        text = "" if part.startswith(".") else r"(?!\.)"
        at = 0
        while at < len(part):
            c = part[at]
            close = part.find("]", at + 2) if c == "[" else -1
            if c == "*":
                text += "[^/]*"
            elif c == "?":
                text += "[^/]"
            elif close > 0:
                inner = part[at + 1 : close].replace("\\", "\\\\")
                text += "[" + ("^" + inner[1:] if inner[0] == "!" else inner) + "]"
                at = close
            else:
                text += re.escape(c)
            at += 1
        out += text + ("" if final else "/")
    return re.compile(out, re.DOTALL)


@dataclass(eq=False, repr=False)
class Finder:
    """Finds the files of a list of paths, globs and directories.

    paths: as the user wrote them. include: globs for names inside directories. follow: whether symbolic links
    to directories are entered (loops are cut). skipped: what was passed over, with the reason. may_read: leaves
    out files for which it says False. may_be_empty: a path that holds nothing is no error.
    """

    paths: Sequence[str]
    include: Sequence[str] = ("*",)
    follow: bool = False
    skipped: list[tuple[str, str]] = field(default_factory=list)
    may_read: Callable[[FileRef], bool] | None = None
    may_be_empty: bool = False

    def files(self) -> Iterator[FileRef]:
        """The files, each once, path after path, in bytewise order below each.

        InputError where a path is missing or a glob or directory holds nothing.
        """
        index, seen = 0, set()
        several = len(self.paths) > 1
        for path in self.paths:
            found = 0
            for full, relative, size in self._expand(path):
                found += 1
                if several:
                    if full in seen:
                        continue
                    seen.add(full)
                file = FileRef(full, relative, index, size)
                if self.may_read is None or self.may_read(file):
                    yield file
                    index += 1
            if not found and not self.may_be_empty:
                raise InputError(
                    self._nothing(path), hint=f"{path_hint(path)}; quote a glob so that the shell leaves it"
                )

    def roots(self) -> list[str]:
        """The directories in which files of these paths can appear."""
        found = []
        for spec in self.paths:
            if _MAGIC.search(spec) and not os.path.lexists(spec):
                found.append(_split(spec)[0] or ".")
            else:
                found.append(spec if os.path.isdir(spec) else os.path.dirname(spec) or ".")
        return list(dict.fromkeys(found))

    def _nothing(self, path: str) -> str:
        shown = display_path(path)
        if _MAGIC.search(path) and not os.path.lexists(path):
            return f"no file matches {shown}"
        wanted = " or ".join(self.include)
        return f"no file like {wanted} in {shown}"

    def matches(self, path: str) -> bool:
        """Whether a file at `path`, were it there, would be among the input."""
        target = os.path.realpath(path)
        for spec in self.paths:
            root, pattern = _split(spec) if _MAGIC.search(spec) else (spec, None)
            real = os.path.realpath(root or ".")
            if target == real:
                return True
            if not target.startswith(real.rstrip(os.sep) + os.sep):
                continue
            relative = os.path.relpath(target, real).replace(os.sep, "/")
            if pattern is not None:
                if glob_pattern(pattern).fullmatch(relative):
                    return True
            elif any(glob_pattern(g).fullmatch(os.path.basename(relative)) for g in self.include):
                return True
        return False

    def examples(self) -> list[str]:
        """Relative paths of files that could be among the input: one or two for each path."""
        made = []
        for spec in self.paths:
            if _MAGIC.search(spec) and not os.path.lexists(spec):
                pattern = _split(spec)[1]
                made += [_example(pattern, ""), _example(pattern, "x/")]
            elif os.path.isdir(spec):
                made += [below + _example(name, "") for name in self.include for below in ("", "x/")]
            else:
                made.append(os.path.basename(spec))
        return made

    def _expand(self, path: str) -> Iterator[tuple[str, str, int]]:
        if _MAGIC.search(path) and not os.path.lexists(path):
            root, pattern = _split(path)
            match = glob_pattern(pattern).fullmatch
            if os.path.isdir(root or "."):
                depth = None if "**" in pattern else pattern.count("/")
                for full, relative, entry in self._walk(root, "", depth, []):
                    if match(relative) and (size := self._size(full, entry)) is not None:
                        yield full, relative, size
            return
        try:
            status = os.stat(path)
        except FileNotFoundError:
            raise InputError(f"{display_path(path)}: no such file or directory", hint=path_hint(path)) from None
        except OSError as error:
            raise InputError(
                f"{display_path(path)}: {error.strerror}", hint="check the path and its permissions"
            ) from None
        if stat.S_ISDIR(status.st_mode):
            named = re.compile("|".join(glob_pattern(g).pattern for g in self.include), re.DOTALL).fullmatch
            for full, relative, entry in self._walk(path, "", None, [(status.st_dev, status.st_ino)]):
                if named(entry.name) and (size := self._size(full, entry)) is not None:
                    yield full, relative, size
        else:  # named by the user: a pipe or a device is read as a stream
            regular = stat.S_ISREG(status.st_mode)
            yield path, os.path.basename(path), status.st_size if regular else -1

    def _walk(
        self, root: str, below: str, depth: int | None, trail: list[tuple[int, int]]
    ) -> Iterator[tuple[str, str, os.DirEntry[str]]]:
        """Files below a directory, bytewise by name; directories in their place among them."""
        try:
            with os.scandir(root or ".") as scan:
                entries = _in_order(list(scan))
        except OSError as error:
            raise InputError(f"{display_path(root)}: {error.strerror}", hint="check its permissions") from None
        inside = os.path.join(root, "")
        for entry in entries:
            name = entry.name
            if name == ".aiopipe":
                continue
            full, relative = inside + name, below + name
            if not entry.is_dir(follow_symlinks=self.follow):
                yield full, relative, entry
                continue
            if depth == 0 or name.startswith("."):
                continue
            status = entry.stat(follow_symlinks=self.follow)
            here = (status.st_dev, status.st_ino)
            if here in trail:
                self.skipped.append((full, "a symbolic link that leads back to a directory above it"))
                continue
            yield from self._walk(full, relative + "/", None if depth is None else depth - 1, [*trail, here])

    def _size(self, full: str, entry: os.DirEntry[str]) -> int | None:
        """The bytes of a regular file; None for anything else, which is passed over with the reason."""
        try:
            status = entry.stat()
        except OSError as error:
            self.skipped.append((full, error.strerror or "unreadable"))
            return None
        if stat.S_ISREG(status.st_mode):
            return status.st_size
        self.skipped.append(
            (full, "a symbolic link to a directory" if stat.S_ISDIR(status.st_mode) else "no regular file")
        )
        return None


def _in_order(entries: list[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    """Entries bytewise by their names: of names in ASCII that is the order of their characters."""
    plain = all(entry.name.isascii() for entry in entries)
    entries.sort(key=attrgetter("name") if plain else lambda entry: os.fsencode(entry.name))
    return entries


def _example(pattern: str, between: str) -> str:
    """A relative path that matches the glob; `**/` becomes `between`."""
    text = re.sub(r"\*\*/", between, pattern).replace("**", "x").replace("*", "x").replace("?", "x")
    return re.sub(r"\[(!?)([^\]]+)\]", lambda m: m[2][0] if not m[1] else "x", text)


def _split(pattern: str) -> tuple[str, str]:
    """A glob as its plain leading directory and the rest."""
    parts = pattern.replace(os.sep, "/").split("/")
    at = next(i for i, part in enumerate(parts) if _MAGIC.search(part))
    root = "/".join(parts[:at])
    if at and not root:
        root = "/"
    return root, "/".join(parts[at:])
