"""Which files there are: an iterative `os.scandir` walk, in byte order, that stats nothing it need not.

Each directory gives its files in byte order and then its subdirectories in byte order, so the order depends
on the names alone and the walk can stream. Whatever is not handed over is counted in `Walk.skipped` under
its reason. `stat` is left to whoever opens the file: it costs four times the whole walk.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator

from aiopipe.errors import InputError, UsageError
from aiopipe.sums.model import UNREADABLE, VANISHED, Found, Problem
from aiopipe.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from aiopipe.sums.globs import Matcher

__all__ = ["Walk", "WalkOptions", "as_bytes", "is_temporary"]

_ENTRIES = 1024  # files in one Found: about one batch of hashing work


class WalkOptions(NamedTuple):
    """Which entries of a tree are wanted.

    `include` and `exclude` are globs (see `aiopipe.sums.globs`); an excluded directory is not entered.
    `symlinks` is `skip` or `follow` (loops are cut). `one_file_system` stays on the root's device.
    `leave_out` names files that are never listed: the output of the run itself.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    hidden: bool = True
    symlinks: str = "skip"
    one_file_system: bool = False
    leave_out: frozenset[bytes] = frozenset()
    leave_out_inodes: frozenset[tuple[int, int]] = frozenset()

    def _made(self) -> WalkOptions:
        if self.symlinks not in ("skip", "follow"):
            raise UsageError(f"symlinks={self.symlinks!r}", hint="use 'skip' or 'follow'")
        return self


_DOT = ord(".")


def is_temporary(name: bytes) -> bool:
    """Whether a file is what aiopipe writes to before it is renamed: a run that was killed leaves it behind.

    >>> is_temporary(b".SHA256SUMS.4711.aiopipe-tmp"), is_temporary(b"notes.tmp")
    (True, False)
    """
    return name.endswith(b".aiopipe-tmp") or (name.startswith(b".aiopipe-") and name.endswith(b".tmp"))


def as_bytes(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> bytes:
    """A path as the bytes that the file system has.

    >>> as_bytes("a/b")
    b'a/b'
    """
    return os.fsencode(path)


_KINDS = (
    (stat.S_ISFIFO, "fifo"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
    (stat.S_ISLNK, "symlink"),
)


def _kind(mode: int) -> str:
    return next((name for test, name in _KINDS if test(mode)), "special")


class _Directory:
    """`prefix` is the path with its trailing slash, `below` the same relative to the root that was asked for."""

    __slots__ = ("ancestors", "below", "device", "prefix")

    def __init__(self, prefix: bytes, below: bytes, device: int, ancestors: frozenset[tuple[int, int]]) -> None:
        self.prefix = prefix
        self.below = below
        self.device = device
        self.ancestors = ancestors


class Walk:
    """Iterate it for `Found` runs and `Problem`s; `skipped` counts what was left out, by reason.

    Roots that are files are handed over as they are, symlinks among them followed: the user named them.
    Raises InputError at once for a root that does not exist.
    """

    def __init__(self, roots: Iterable[bytes], options: WalkOptions | None = None) -> None:
        self.options = options or WalkOptions()
        self.skipped: Counter[str] = Counter()
        self.listed = 0
        self.roots = list(roots)
        self._included = _matcher(self.options.include)
        self._excluded = _matcher(self.options.exclude)
        self._left_out = {os.path.basename(path): path for path in self.options.leave_out}
        self._inodes = {inode for _, inode in self.options.leave_out_inodes}
        for root in self.roots:
            _checked(root)

    def __iter__(self) -> Iterator[Found | Problem]:
        """Files as runs of at most 1,024 from one directory."""
        plain: list[bytes] = []
        for root in self.roots:
            try:
                status = os.stat(root)
            except OSError as error:
                yield Problem(root, UNREADABLE, error.strerror or str(error))
                continue
            if not stat.S_ISDIR(status.st_mode):
                plain.append(root)
                if len(plain) >= _ENTRIES:
                    self.listed += len(plain)
                    yield Found(b"", plain, follow=True)
                    plain = []
                continue
            if plain:
                self.listed += len(plain)
                yield Found(b"", plain, follow=True)
                plain = []
            prefix = root if root.endswith(b"/") else root + b"/"
            here = frozenset({(status.st_dev, status.st_ino)})
            yield from self._tree(_Directory(prefix, b"", status.st_dev, here))
        if plain:
            self.listed += len(plain)
            yield Found(b"", plain, follow=True)

    def _tree(self, root: _Directory) -> Iterator[Found | Problem]:
        stack = [root]
        while stack:
            directory = stack.pop()
            try:
                files, followed, below = self._list(directory)
            except OSError as error:
                status = VANISHED if isinstance(error, FileNotFoundError) else UNREADABLE
                yield Problem(directory.prefix.rstrip(b"/") or b"/", status, error.strerror or str(error))
                continue
            for names, follow in ((files, False), (followed, True)):
                names.sort()
                self.listed += len(names)
                for start in range(0, len(names), _ENTRIES):
                    yield Found(directory.prefix, names[start : start + _ENTRIES], follow)
            below.sort(key=lambda each: each.prefix, reverse=True)
            stack += below

    def _list(self, directory: _Directory) -> tuple[list[bytes], list[bytes], list[_Directory]]:
        """The wanted regular files, the files behind followed symlinks, and the subdirectories to enter."""
        files: list[bytes] = []
        followed: list[bytes] = []
        below: list[_Directory] = []
        options, choosy = self.options, bool(self._included or self._excluded or not self.options.hidden)
        special = self._left_out or self._inodes
        with os.scandir(directory.prefix) as entries:
            for entry in entries:
                name = entry.name
                if entry.is_file(follow_symlinks=False):
                    if name[0] == _DOT and is_temporary(name):
                        self.skipped["temporary"] += 1
                        continue
                    if choosy and not self._wanted(name, directory.below + name, False):
                        continue
                    if special and self._is_left_out(entry, directory):
                        self.skipped["output"] += 1
                        continue
                    files.append(name)
                elif entry.is_dir(follow_symlinks=False):
                    if not choosy or self._wanted(name, directory.below + name, True):
                        self._enter(entry, directory, below)
                elif entry.is_symlink() and options.symlinks == "skip":
                    self.skipped["symlink"] += 1
                elif not choosy or self._wanted(name, directory.below + name, False):
                    self._other(entry, directory, followed, below)
        return files, followed, below

    def _wanted(self, name: bytes, path: bytes, is_dir: bool) -> bool:
        if not self.options.hidden and name.startswith(b"."):
            self.skipped["hidden"] += 1
        elif self._excluded is not None and self._excluded(name, path, is_dir):
            self.skipped["excluded"] += 1
        elif self._included is not None and not is_dir and not self._included(name, path, False):
            self.skipped["not included"] += 1
        else:
            return True
        return False

    def _is_left_out(self, entry: os.DirEntry[bytes], directory: _Directory) -> bool:
        full = self._left_out.get(entry.name)
        if full is not None and os.path.realpath(directory.prefix) == os.path.dirname(full):
            return True
        if entry.inode() not in self._inodes:
            return False
        status = entry.stat(follow_symlinks=False)
        return (status.st_dev, status.st_ino) in self.options.leave_out_inodes

    def _enter(self, entry: os.DirEntry[bytes], parent: _Directory, below: list[_Directory]) -> None:
        """Queue a subdirectory, unless it is on another file system or one of its own ancestors."""
        device, ancestors = parent.device, parent.ancestors
        options = self.options
        if options.one_file_system or options.symlinks == "follow":
            try:
                status = entry.stat()
            except OSError:
                self.skipped["vanished"] += 1
                return
            here = (status.st_dev, status.st_ino)
            if options.one_file_system and status.st_dev != device:
                self.skipped["other file system"] += 1
                return
            if here in ancestors:
                self.skipped["symlink loop"] += 1
                return
            if options.symlinks == "follow":
                ancestors = ancestors | {here}
        name = entry.name + b"/"
        below.append(_Directory(parent.prefix + name, parent.below + name, device, ancestors))

    def _other(
        self,
        entry: os.DirEntry[bytes],
        parent: _Directory,
        followed: list[bytes],
        below: list[_Directory],
    ) -> None:
        """A symlink that is to be followed, or something that is no file."""
        try:
            status = entry.stat()
        except OSError:
            self.skipped["dangling symlink" if entry.is_symlink() else "vanished"] += 1
            return
        if stat.S_ISREG(status.st_mode):
            followed.append(entry.name)
        elif stat.S_ISDIR(status.st_mode):
            self._enter(entry, parent, below)
        else:
            self.skipped[_kind(status.st_mode)] += 1


def _matcher(globs: tuple[str, ...]) -> Matcher | None:
    if not globs:
        return None
    from aiopipe.sums.globs import matcher  # which needs `re`

    return matcher(os.fsencode(each) for each in globs)


def _checked(root: bytes) -> None:
    try:
        os.stat(root)
    except FileNotFoundError as error:
        raise InputError(
            f"{os.fsdecode(root)}: no such file or directory",
            hint="check the spelling; a name that starts with a dash goes after --",
        ) from error
    except OSError:
        return  # there, but not for us: the walk reports it as unreadable and goes on
