"""`aiopipe hash`: the digests of files and trees, as a manifest."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from aiopipe.cli import sums_options as shared
from aiopipe.cli.declared import Argument, Command, Option
from aiopipe.errors import EXIT_DONE, EXIT_FAILED, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _hash_command(
    paths: tuple[str, ...],
    algorithms: tuple[str, ...],
    form: str | None,
    tag: bool,
    zero: bool,
    output: str | None,
    base: str | None,
    files_from: str | None,
    null: bool,
    choice: shared.Choice,
    cached: shared.Cached,
    lanes: shared.Lanes,
    verbose: bool,
) -> int:
    """Print the digest of every file in PATHS; directories are walked.

    The lines are those of sha256sum, which can check them, in an order that depends on the names alone.
    Exits 0 when every file has its digest, else 1; FIFOs, sockets and the like are counted and left out.

    \b
    aiopipe hash photos > SHA256SUMS
    aiopipe hash -a md5,blake3 --format jsonl -o sums.jsonl photos
    find . -name '*.iso' -print0 | aiopipe hash --files-from - -0
    """
    from aiopipe.sums.formats import Style

    remembered = cached.options()
    options = lanes.hashing(shared.algorithm_names(algorithms), remembered)
    chosen = "bsd" if tag else form or ("gnu" if len(options.algorithms) == 1 else "bsd")
    if tag and form not in (None, "bsd"):
        raise UsageError(f"--tag and --format {form} contradict each other")
    style = Style(chosen, zero, os.fsencode(base) if base else b"")
    style.check(options.algorithms)
    roots = [os.fsencode(path) for path in paths]
    listed = shared.paths_from(files_from, null) if files_from is not None else []
    if not roots and files_from is None:
        raise UsageError("nothing to hash", hint="name a file or a directory; - is standard input")
    code = _hash(roots, listed, options, style, choice, output, lanes.bar(), verbose)
    if cached.prune and remembered is not None:
        from aiopipe.sums.cache import CacheWriter

        with CacheWriter(remembered) as writer:
            forgotten = writer.prune(roots)
        if verbose:
            shared.say(f"aiopipe: {shared.plural(forgotten, 'file')} forgotten")
    return code


hash_ = Command(
    "hash",
    _hash_command,
    [
        Argument("paths", many=True, required=False),
        shared.algorithms("One or several, in one read. [default: sha256]"),
        Option(
            "--format",
            "form",
            choices=["gnu", "bsd", "hashdeep", "sfv", "jsonl", "csv"],
            help="How lines are written. [default: gnu for one algorithm, bsd for several]",
        ),
        Option("--tag", flag=True, help="The same as --format bsd."),
        Option("-z", "--zero", flag=True, help="End lines with NUL, escape no names."),
        Option("-o", "--output", metavar="FILE", help="Write here, whole or not at all, and leave it out of the scan."),
        Option("--base", metavar="DIR", help="Write names as they are seen from DIR."),
        Option("--files-from", metavar="FILE", help="Also the files named in FILE, one a line; - is standard input."),
        Option("-0", "--null", flag=True, help="Names of --files-from end in NUL."),
    ],
    {"choice": shared.WALK, "cached": shared.CACHE, "lanes": shared.LANES},
    [Option("-v", "--verbose", flag=True, help="Say what was done, on standard error.")],
)


def _hash(
    roots: list[bytes],
    listed: list[bytes],
    options: Any,
    style: Any,
    choice: shared.Choice,
    output: str | None,
    progress: shared.Progress,
    verbose: bool,
) -> int:
    from aiopipe.sums.engine import run_rendered
    from aiopipe.sums.formats import header
    from aiopipe.sums.model import Found, Problem
    from aiopipe.sums.walk import Walk

    failed = rotten = 0
    own = options.cache.files() if options.cache is not None else frozenset()
    with shared.terminable(), shared.sink(output) as (out, names, inodes):
        walk = Walk(
            [root for root in roots if root != b"-"],
            choice.walk(leave_out=names | own, leave_out_inodes=inodes),
        )

        def items() -> Iterator[Found | Problem]:
            yield from walk
            for start in range(0, len(listed), 1024):
                yield Found(b"", listed[start : start + 1024], follow=True)

        out.write(header(style, options.algorithms))
        if b"-" in roots:
            out.write(_standard_input(options.algorithms, style))
        try:
            for piece in run_rendered(items(), options, style, roots=roots[:16], tick=progress.tick):
                out.write(piece.text)
                for result in piece.fresh:
                    if result.how == "rot":
                        rotten += 1
                        progress.clear()
                        shared.report_failure(result.path, "bit rot", "other bytes under the same size and times")
                progress.files += piece.files
                progress.size += piece.size
                for result in piece.failed:
                    failed += 1
                    progress.clear()
                    shared.report_failure(result.path, result.status, result.reason)
        finally:
            progress.clear()
    if verbose or failed or rotten or walk.skipped:
        summary = f"{shared.plural(progress.files, 'file')} hashed, {shared.human(progress.size)}"
        without = f"; {failed:,} without a digest" if failed else ""
        without += f"; {rotten:,} with bit rot" if rotten else ""
        shared.say(f"aiopipe: {summary}{without}{shared.skipped_clause(walk.skipped)}")
    return EXIT_FAILED if failed or rotten else EXIT_DONE


def _standard_input(algorithms: tuple[str, ...], style: Any) -> bytes:
    from aiopipe.sums.algorithms import algorithm
    from aiopipe.sums.formats import renderer
    from aiopipe.sums.model import OK, FileHash, Signature

    hashers = [algorithm(name).new() for name in algorithms]
    size = 0
    while block := sys.stdin.buffer.read(1 << 20):
        size += len(block)
        for hasher in hashers:
            hasher.update(block)
    digests = tuple(hasher.hexdigest() for hasher in hashers)
    line = renderer(style._replace(base=b""), algorithms)(FileHash(b"-", OK, digests, Signature(size, 0, 0, 0, 0)))
    assert line is not None
    return line
