"""What the checksum commands share: options, the progress line, the summary, where output goes.

A group of options is declared once and reaches a command as one object: `choice` (which files), `lanes` (how the work
is spread) and `cached`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import stat
import sys
import time

from aiopipe.cli.declared import Option
from aiopipe.errors import EXIT_TERMINATED, InputError, UsageError
from aiopipe.signals import signals
from aiopipe.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator
    from typing import Any, BinaryIO

    from aiopipe.sums.audit import Finding
    from aiopipe.sums.cache import CacheOptions
    from aiopipe.sums.engine import HashOptions
    from aiopipe.sums.walk import WalkOptions

__all__ = [
    "CACHE",
    "LANES",
    "WALK",
    "Cached",
    "Choice",
    "Lanes",
    "Progress",
    "algorithm_names",
    "paths_from",
    "plural",
    "report_failure",
    "say",
    "sink",
    "terminable",
]


class Choice(NamedTuple):
    """Which files below a directory."""

    include: tuple[str, ...]
    exclude: tuple[str, ...]
    hidden: bool
    symlinks: str
    one_file_system: bool

    def walk(self, **more: Any) -> WalkOptions:
        """The same for a walk; `more` is what the command knows to leave out."""
        from aiopipe.sums.walk import WalkOptions

        return WalkOptions(**self._asdict(), **more)


class Lanes(NamedTuple):
    """How the work is spread, and whether it is shown."""

    jobs: str
    backend: str
    progress: bool | None

    def hashing(self, algorithms: tuple[str, ...] = ("sha256",), cache: CacheOptions | None = None) -> HashOptions:
        """The same for the engine."""
        from aiopipe.sums.engine import HashOptions

        return HashOptions(algorithms, jobs_number(self.jobs), self.backend, cache)

    def bar(self) -> Progress:
        """The progress line that was asked for."""
        return Progress(self.progress)


class Cached(NamedTuple):
    """Which cache, and when what it remembers holds."""

    cache: str | None
    cache_key: str
    rehash_older: str | None
    rehash: bool
    prune: bool

    def options(self) -> CacheOptions | None:
        """The cache that was asked for, if any; raises UsageError where the options contradict each other."""
        if self.cache is None:
            for option in ("rehash_older", "rehash", "prune"):
                if getattr(self, option) not in (None, False):
                    shown = "--" + option.replace("_", "-")
                    raise UsageError(f"{shown} without --cache", hint="name the cache that it is about")
            return None
        from aiopipe.sums.cache import CacheOptions, duration

        if self.rehash and self.rehash_older is not None:
            raise UsageError("--rehash and --rehash-older contradict each other", hint="--rehash reads everything")
        older = 0.0 if self.rehash else None if self.rehash_older is None else duration(self.rehash_older)
        return CacheOptions(self.cache, self.cache_key, older)


WALK = (
    Choice,
    [
        Option("--include", many=True, metavar="GLOB", help="Only files that match; may be repeated."),
        Option("--exclude", many=True, metavar="GLOB", help="Not what matches, and nothing below such a directory."),
        Option("--hidden/--no-hidden", flag=True, default=True, help="Names that begin with a dot. [default: yes]"),
        Option(
            "--symlinks",
            choices=["skip", "follow"],
            default="skip",
            shown=True,
            help="Symbolic links below a directory; loops are cut.",
        ),
        Option("-x", "--one-file-system", flag=True, help="Stay on the file system of each PATH."),
    ],
)
"""Which files below a directory."""

CACHE = (
    Cached,
    [
        Option("--cache", metavar="FILE", help="Remember digests in FILE; read only what changed."),
        Option(
            "--cache-key",
            choices=["ctime", "mtime", "size+mtime"],
            default="ctime",
            shown=True,
            help="What must be as it was for a file to count as unchanged.",
        ),
        Option("--rehash-older", metavar="AGE", help="Read again what was hashed longer ago, such as 30d."),
        Option("--rehash", flag=True, help="Read everything again, and tell where bits have rotted."),
        Option("--prune", flag=True, help="Forget files that are no longer there below PATHS."),
    ],
)
"""The cache."""

LANES = (
    Lanes,
    [
        Option(
            "-j",
            "--jobs",
            default="auto",
            shown=True,
            metavar="N",
            help="Files read at once. auto: the cores; one on a rotating or network disk.",
        ),
        Option(
            "--backend",
            choices=["auto", "threads", "processes"],
            default="auto",
            shown=True,
            help="What the lanes are; auto takes processes where they repay their start.",
        ),
        Option("--progress/--no-progress", flag=True, help="A line on standard error. [default: on a terminal]"),
    ],
)
"""How the work is spread."""


def algorithms(help: str) -> Option:
    """The option that names algorithms, as many as one likes."""
    return Option("-a", "--algorithm", "algorithms", many=True, metavar="ALG[,ALG...]", help=help)


def say(text: str) -> None:
    """One line on standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def jobs_number(text: str) -> int:
    """The value of `--jobs` as a number; 0 stands for auto."""
    if text == "auto":
        return 0
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--jobs {text!r} is no number of files", hint="use 1 or more, or auto")
    return int(text)


def algorithm_names(values: tuple[str, ...], default: tuple[str, ...] = ("sha256",)) -> tuple[str, ...]:
    """The algorithms of `-a a,b -a c`, in that order."""
    names = tuple(name.strip() for value in values for name in value.split(",") if name.strip())
    return names or default


def paths_from(name: str, null: bool) -> list[bytes]:
    """The names listed in a file, or on standard input for `-`: one a line, or ended by NUL bytes."""
    try:
        data = sys.stdin.buffer.read() if name == "-" else open(name, "rb").read()  # noqa: SIM115
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}", hint="--files-from takes a list of names") from error
    return [each for each in data.split(b"\0" if null else b"\n") if each]


def plural(count: int, noun: str) -> str:
    """A count and its noun.

    >>> plural(1, "file"), plural(12345, "file")
    ('1 file', '12,345 files')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def human(size: float) -> str:
    """Bytes in the unit that reads best.

    >>> human(999), human(1_639_000_000)
    ('999 B', '1.6 GB')
    """
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def shown(path: bytes) -> str:
    """A path for a message: one line, whatever the name holds."""
    return os.fsdecode(path).encode("utf-8", "backslashreplace").decode().replace("\n", "\\n").replace("\r", "\\r")


def report_failure(path: bytes, status: str, reason: str) -> None:
    """One line on standard error about a path without a digest."""
    say(f"aiopipe: {shown(path)}: {status}: {reason}")


def skipped_clause(skipped: Counter[str]) -> str:
    """What was left out, by reason, for the end of a summary."""
    if not skipped:
        return ""
    return "; skipped " + ", ".join(f"{count:,} {reason}" for reason, count in sorted(skipped.items()))


def print_finding(finding: Finding, form: str) -> None:
    """One line about one file on standard output."""
    if form == "jsonl":
        import base64
        import json

        record: dict[str, str] = {"status": finding.status}
        for key, name in (("path", finding.name), ("was", finding.was)):
            if not name:
                continue
            try:
                record[key] = name.decode("utf-8")
            except UnicodeDecodeError:
                record[key + "_b64"] = base64.b64encode(name).decode("ascii")
        if finding.reason:
            record["reason"] = finding.reason
        line = json.dumps(record, ensure_ascii=False).encode()
    else:
        from aiopipe.sums.formats import escape

        was = escape(finding.was) + b" -> " if finding.was else b""
        reason = f" ({finding.reason})".encode() if finding.reason else b""
        line = finding.status.encode().ljust(12) + was + escape(finding.name) + reason
    sys.stdout.buffer.write(line + b"\n")


_WORDS = ("ok", "changed", "bit rot", "moved", "new", "unreadable", "unstable", "incomparable", "missing")


def print_counts(counts: Counter[str], seen: str, skipped: Counter[str], bad_lines: int) -> None:
    """The summary of an audit: the words and how often each fell."""
    words = ", ".join(f"{counts[word]:,} {word}" for word in _WORDS if counts[word]) or "nothing"
    bad = f"; {plural(bad_lines, 'line')} of the manifest not understood" if bad_lines else ""
    say(f"aiopipe: {seen}: {words}{bad}{skipped_clause(skipped)}")


class Progress:
    """A line on standard error that says how far the run is; nothing where that is no terminal."""

    def __init__(self, wanted: bool | None) -> None:
        self._on = sys.stderr.isatty() if wanted is None else wanted
        self._begin = self._last = time.monotonic()
        self._drawn = False
        self.files = 0
        self.size = 0

    def tick_and_tell(self) -> None:
        """The same for those who find little to say: what they have said is shown now, also through a pipe."""
        sys.stdout.flush()
        self.tick()

    def tick(self) -> None:
        """Draw it again, at most five times a second."""
        now = time.monotonic()
        if not self._on or now - self._last < 0.2:
            return
        self._last = now
        parts = [f"{now - self._begin:.0f} s"]
        if self.files:  # a manifest may have to be read first, or a tree be walked
            parts.append(plural(self.files, "file"))
        if self.size:
            parts.append(f"{human(self.size)}, {human(self.size / (now - self._begin))}/s")
        sys.stderr.write("\r\x1b[K" + ", ".join(parts))
        sys.stderr.flush()
        self._drawn = True

    def clear(self) -> None:
        """Take the line away."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False


class Terminated(SystemExit):
    """SIGTERM arrived."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Within it, SIGTERM unwinds like Ctrl-C does, and a million small results make no work for gc."""

    def on_term(*_: object) -> None:
        raise Terminated(EXIT_TERMINATED)

    previous = signals.signal(signals.SIGTERM, on_term)
    threshold = gc.get_threshold()
    gc.enable()
    gc.set_threshold(100_000, 50, 50)  # millions of small tuples, no cycles: 5 % of the time otherwise
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        signals.signal(signals.SIGTERM, previous)


@contextlib.contextmanager
def sink(output: str | None) -> Iterator[tuple[BinaryIO, frozenset[bytes], frozenset[tuple[int, int]]]]:
    """Where lines go, and which files the walk must leave out because they are that place."""
    if output is not None and output != "-":
        from aiopipe.sums.output import AtomicFile

        atomic = AtomicFile(os.fsencode(output))
        with atomic as file:
            yield file, frozenset({atomic.target, os.path.abspath(atomic.temporary)}), frozenset()
        return
    out = sys.stdout.buffer
    inodes: frozenset[tuple[int, int]] = frozenset()
    with contextlib.suppress(OSError, ValueError):
        status = os.fstat(out.fileno())
        if stat.S_ISREG(status.st_mode):  # `> DIR/SUMS`: the shell's file is in the tree already
            inodes = frozenset({(status.st_dev, status.st_ino)})
    yield out, frozenset(), inodes
    out.flush()
