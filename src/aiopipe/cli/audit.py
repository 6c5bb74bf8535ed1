"""`aiopipe audit`: what became of a tree since its manifest was written."""

from __future__ import annotations

import contextlib
import os
import sys

from aiopipe.cli import sums_options as shared
from aiopipe.cli.declared import Argument, Command, Option
from aiopipe.errors import EXIT_DONE, EXIT_FAILED, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _audit_command(
    manifest: str,
    directory: str,
    algorithms: tuple[str, ...],
    form: str,
    update: bool,
    verbose: bool,
    choice: shared.Choice,
    lanes: shared.Lanes,
) -> int:
    """Compare DIRECTORY with MANIFEST: ok, changed, bit rot, moved, new, missing, unreadable, unstable.

    Names in the manifest are as seen from here (photos/a.jpg) or from DIRECTORY (a.jpg). Exits 0 when
    nothing differs, else 1. Bit rot is a change without a new time; jsonl and csv manifests show it.

    \b
    aiopipe hash --format jsonl -o photos.jsonl photos
    aiopipe audit photos.jsonl photos
    """
    from aiopipe.sums.audit import Audit
    from aiopipe.sums.parse import open_manifest
    from aiopipe.sums.walk import Walk

    if update and manifest == "-":
        raise UsageError("--update cannot write to standard input", hint="name the manifest's file")
    options, bar = lanes.hashing(), lanes.bar()
    opened = open_manifest(manifest)
    with shared.terminable(), contextlib.ExitStack() as stack:
        stack.callback(opened.close)
        atomic = None
        own = {os.path.realpath(os.fsencode(manifest))}
        if update:
            from aiopipe.sums.output import AtomicFile

            atomic = AtomicFile(os.fsencode(manifest))
            own |= {atomic.target, atomic.temporary}
        root = os.fsencode(directory)
        walk = Walk([root], choice.walk(leave_out=frozenset(own)))
        run = Audit(
            opened, root, options, walk, algorithms=shared.algorithm_names(algorithms, ()), tick=bar.tick_and_tell
        )
        if atomic is not None:
            run.on_result = _writer(stack.enter_context(atomic), opened, run)
        try:
            for finding in run:
                bar.files += 1
                if finding.status != "ok" or verbose:
                    bar.clear()
                    shared.print_finding(finding, form)
        finally:
            bar.clear()
    sys.stdout.flush()
    seen = sum(count for status, count in run.counts.items() if status != "missing")
    shared.print_counts(run.counts, f"{shared.plural(seen, 'file')} seen", walk.skipped, opened.bad_lines)
    clean = set(run.counts) <= {"ok"} and not opened.bad_lines
    return EXIT_DONE if clean else EXIT_FAILED


audit = Command(
    "audit",
    _audit_command,
    [
        Argument("manifest"),
        Argument("directory", default="."),
        Option(
            "-a",
            "--algorithm",
            "algorithms",
            many=True,
            metavar="ALG",
            help="How lines that do not say so were hashed.",
        ),
        Option("--format", "form", choices=["text", "jsonl"], default="text", shown=True, help=""),
        Option("--update", flag=True, help="Write the manifest again, as the tree is now."),
        Option("-v", "--verbose", flag=True, help="Also a line for every file that is ok."),
    ],
    {"choice": shared.WALK, "lanes": shared.LANES},
)


def _writer(out: Any, manifest: Any, run: Any) -> Any:
    """A function that writes each result as a line of the manifest's own format."""
    from aiopipe.sums.formats import Style, header, renderer

    form = "bsd" if manifest.format == "gnu" and run.tagged else manifest.format
    style = Style(form, manifest.zero)
    style.check(run.algorithms)
    out.write(header(style, run.algorithms))
    render = renderer(style, run.algorithms)

    def write(result: Any) -> None:
        if not result.ok or len(result.digests) != len(run.algorithms):
            return
        line = render(result._replace(path=run.named(result.path)))
        if line is not None:
            out.write(line)

    return write
