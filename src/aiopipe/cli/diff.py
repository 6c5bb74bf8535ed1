"""`aiopipe diff`: how two manifests differ, without reading a file."""

from __future__ import annotations

import sys
from collections import Counter

from aiopipe.cli import sums_options as shared
from aiopipe.cli.declared import Argument, Command, Option
from aiopipe.errors import EXIT_DONE, EXIT_FAILED


def _diff_command(old: str, new: str, form: str, verbose: bool) -> int:
    """Compare the manifests OLD and NEW: ok, changed, bit rot, moved, new, missing. No file is read.

    They may be of different formats. Exits 0 when nothing differs, else 1.

    \b
    aiopipe diff monday.jsonl friday.jsonl
    """
    from aiopipe.sums.audit import diff as differences
    from aiopipe.sums.parse import open_manifest

    first, second = open_manifest(old), open_manifest(new)
    bar = shared.Progress(None)
    counts: Counter[str] = Counter()

    try:
        for finding in differences(first, second, bar.tick_and_tell):
            counts[finding.status] += 1
            bar.files += 1
            if finding.status != "ok" or verbose:
                bar.clear()
                shared.print_finding(finding, form)
    finally:
        bar.clear()
        first.close()
        second.close()
    sys.stdout.flush()
    bad = first.bad_lines + second.bad_lines
    shared.print_counts(counts, f"{second.entries:,} entries against {first.entries:,}", Counter(), bad)
    return EXIT_DONE if set(counts) <= {"ok"} and not bad else EXIT_FAILED


diff = Command(
    "diff",
    _diff_command,
    [
        Argument("old"),
        Argument("new"),
        Option("--format", "form", choices=["text", "jsonl"], default="text", shown=True, help=""),
        Option("-v", "--verbose", flag=True, help="Also a line for every file that is the same."),
    ],
)
