"""`aiopipe check`: files against a manifest, whoever wrote it."""

from __future__ import annotations

import os
import sys
from collections import Counter

from aiopipe.cli import sums_options as shared
from aiopipe.cli.declared import Argument, Command, Option
from aiopipe.errors import EXIT_DONE, EXIT_FAILED, AiopipeError


def _check_command(
    manifests: tuple[str, ...],
    algorithms: tuple[str, ...],
    base: str | None,
    quiet: bool,
    status: bool,
    strict: bool,
    ignore_missing: bool,
    warn: bool,
    lanes: shared.Lanes,
) -> int:
    """Check files against MANIFESTS; - is standard input.

    Takes what sha256sum and its kin write, with or without --tag and -z; also b3sum's, xxhsum's, hashdeep's,
    SFV, JSON lines and CSV. Output and exit codes are those of `sha256sum -c`: 0 when every file is there
    and has its digest, else 1.

    \b
    aiopipe check SHA256SUMS
    aiopipe check --quiet --base /mnt/backup SHA256SUMS
    """
    options = lanes.hashing()
    asked = shared.algorithm_names(algorithms, ())
    good = True
    with shared.terminable():
        for name in manifests:
            bar = shared.Progress(False) if status else lanes.bar()
            one = _Check(name, quiet, status, strict, ignore_missing, warn, bar)
            try:
                good &= one.run(options, asked, os.fsencode(base) if base else b"")
            except AiopipeError as error:
                if len(manifests) == 1:
                    raise
                shared.say(f"aiopipe: {error}")
                good = False
    return EXIT_DONE if good else EXIT_FAILED


check = Command(
    "check",
    _check_command,
    [
        Argument("manifests", many=True),
        shared.algorithms("How lines that do not say so were hashed. [default: found out]"),
        Option("--base", metavar="DIR", help="Names are relative to DIR. [default: the current directory]"),
        Option("--quiet", flag=True, help="No line for a file that is all right."),
        Option("--status", flag=True, help="Print nothing; the exit code tells."),
        Option("--strict", flag=True, help="Lines that are not understood are a failure."),
        Option("--ignore-missing", flag=True, help="Say nothing about files that are not there."),
        Option("-w", "--warn", flag=True, help="Name each line that is not understood."),
    ],
    {"lanes": shared.LANES},
)


class _Check:
    """One manifest being checked, and what is printed of it."""

    def __init__(
        self,
        name: str,
        quiet: bool,
        status: bool,
        strict: bool,
        ignore_missing: bool,
        warn: bool,
        progress: shared.Progress,
    ) -> None:
        self.name = name
        self.quiet = quiet
        self.status = status
        self.strict = strict
        self.ignore_missing = ignore_missing
        self.warn = warn
        self.progress = progress
        self.counts: Counter[str] = Counter()

    def run(self, options: object, asked: tuple[str, ...], base: bytes) -> bool:
        """Check it and print; True when all is well."""
        from aiopipe.sums.check import check as verdicts_of
        from aiopipe.sums.engine import HashOptions
        from aiopipe.sums.parse import open_manifest

        assert isinstance(options, HashOptions)
        manifest = open_manifest(self.name)
        manifest.on_bad = self._bad_line
        out = sys.stdout.buffer
        try:
            for batch in verdicts_of(manifest, options, algorithms=asked, base=base, tick=self.progress.tick_and_tell):
                told = batch
                if self.quiet or self.status:  # of files that are all right, their number is enough
                    told = [verdict for verdict in batch if verdict[1] != "ok"]
                    self.counts["ok"] += len(batch) - len(told)
                    self.progress.files += len(batch) - len(told)
                lines = [
                    line
                    for verdict in told
                    if (line := self._line(verdict.entry.name, verdict.status, verdict.reason)) is not None
                ]
                if not self.status:
                    out.write(b"".join(lines))
        finally:
            self.progress.clear()
            manifest.close()
        out.flush()
        return self._conclude(manifest.entries, manifest.bad_lines)

    def _line(self, name: bytes, status: str, reason: str) -> bytes | None:
        self.counts[status] += 1
        self.progress.files += 1
        if status == "ok":
            return None if self.quiet else _shown(name) + b": OK\n"
        if status == "failed":
            return _shown(name) + b": FAILED\n"
        if status == "missing" and self.ignore_missing:
            return None
        if not self.status:
            self.progress.clear()
            shared.say(f"aiopipe: {shared.shown(name)}: {reason}")
        return _shown(name) + b": FAILED open or read\n"

    def _bad_line(self, number: int) -> None:
        if self.warn and not self.status:
            shared.say(f"aiopipe: {self.name}: {number}: improperly formatted checksum line")

    def _conclude(self, entries: int, bad_lines: int) -> bool:
        """The warnings and the summary, on standard error; True when all is well."""
        counts = self.counts
        missing = 0 if self.ignore_missing else counts["missing"]
        unread = missing + counts["unreadable"]
        if not entries:
            self._say(
                f"{self.name}: no properly formatted checksum lines found\n"
                "  next: name a manifest, such as SHA256SUMS, that aiopipe hash or sha256sum has written"
            )
            return False
        nothing = self.ignore_missing and counts["missing"] == entries
        if nothing:
            self._say(f"{self.name}: no file was verified")
        good = not (unread or counts["failed"] or nothing or (self.strict and bad_lines))
        if not (good and self.quiet and not bad_lines):
            parts = [f"{counts['ok']:,} ok"]
            parts += [
                f"{count:,} {word}"
                for count, word in (
                    (counts["failed"], "did NOT match"),
                    (counts["missing"], "missing"),
                    (counts["unreadable"], "could not be read"),
                    (bad_lines, "improperly formatted " + ("line" if bad_lines == 1 else "lines")),
                )
                if count
            ]
            self._say(f"{self.name}: {', '.join(parts)}")
        return good

    def _say(self, text: str) -> None:
        if not self.status:
            shared.say(f"aiopipe: {text}")


def _shown(name: bytes) -> bytes:
    """A name in a result line, as coreutils writes it."""
    from aiopipe.sums.formats import escape

    # Unlike in a manifest, nothing but a newline is a reason to escape here.
    return b"\\" + escape(name) if b"\n" in name else name
