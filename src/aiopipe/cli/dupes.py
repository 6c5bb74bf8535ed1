"""`aiopipe dupes`: files with the same bytes, and what to do about them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from aiopipe.cli import sums_options as shared
from aiopipe.cli.declared import Argument, Command, Option
from aiopipe.errors import EXIT_DONE, EXIT_FAILED, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from aiopipe.sums.dupes import Group


def _dupes_command(
    paths: tuple[str, ...],
    form: str,
    zero: bool,
    min_size: int,
    algorithm: str | None,
    action: str,
    keep: str,
    apply: bool,
    choice: shared.Choice,
    lanes: shared.Lanes,
) -> int:
    """Find files with the same bytes in PATHS, in groups. Hard links of each other are one file.

    With --action, says what it would do; with --apply, does it, after comparing byte for byte.

    \b
    aiopipe dupes photos
    aiopipe dupes --action hardlink --keep oldest --apply photos
    """
    from aiopipe.sums.dupes import Duplicates
    from aiopipe.sums.walk import Walk

    if action != "report" and choice.symlinks == "follow":
        raise UsageError("--action with --symlinks follow could remove a file through two of its names")
    if apply and action == "report":
        raise UsageError("--apply without an --action", hint="add --action hardlink, reflink or delete")
    if zero and form != "text":
        raise UsageError("-z has a meaning for text alone")
    options, bar = lanes.hashing((algorithm or "blake3",)), lanes.bar()
    walk = Walk(_apart([os.fsencode(path) for path in paths]), choice.walk())
    search = Duplicates(walk, options, min_size, digests=action == "report" and form != "text")

    def tick() -> None:
        bar.files = search.files
        bar.tick()

    search.tick = tick
    groups = copies = wasted = failures = 0
    write = _printer(form, zero)
    with shared.terminable():
        for group in search:
            groups += 1
            copies += len(group.copies) - 1
            wasted += group.size * (len(group.copies) - 1)
            bar.clear()
            if action == "report":
                write(group)
            else:
                failures += _carry_out(group, action, keep, apply)
        bar.clear()
    for result in search.failed:
        shared.report_failure(result.path, result.status, result.reason)
    sys.stdout.flush()
    found = f"{shared.plural(copies, 'duplicate')} in {shared.plural(groups, 'group')}, {shared.human(wasted)}"
    trouble = len(search.failed) + failures
    bad = f"; {trouble:,} failed" if trouble else ""
    dry = "; nothing was changed: add --apply" if action != "report" and not apply and copies else ""
    seen = f"{shared.plural(search.files, 'file')} seen"
    shared.say(f"aiopipe: {seen}: {found}{bad}{shared.skipped_clause(walk.skipped)}{dry}")
    return EXIT_FAILED if trouble else EXIT_DONE


dupes = Command(
    "dupes",
    _dupes_command,
    [
        Argument("paths", many=True),
        Option("--format", "form", choices=["text", "jsonl", "csv"], default="text", shown=True, help=""),
        Option("-z", "--zero", flag=True, help="Text with names as they are, ended by NUL; an empty one ends a group."),
        Option("--min-size", least=0, default=1, shown=True, help="Leave smaller files alone (bytes)."),
        Option("-a", "--algorithm", metavar="ALG", help="[default: blake3]"),
        Option(
            "--action",
            choices=["report", "hardlink", "reflink", "delete"],
            default="report",
            shown=True,
            help="What to make of every copy but one.",
        ),
        Option(
            "--keep",
            choices=["oldest", "newest", "shortest"],
            default="oldest",
            shown=True,
            help="Which copy stays.",
        ),
        Option("--apply", flag=True, help="Do it; without this, say what would be done."),
    ],
    {"choice": shared.WALK, "lanes": shared.LANES},
)


def _tell(text: str) -> None:
    """One line on standard output, now."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _apart(roots: list[bytes]) -> list[bytes]:
    """The roots that lie in no other: a file reached twice would look like a name too many."""
    real = [os.path.realpath(root).rstrip(b"/") + b"/" for root in roots]
    return [
        root
        for place, (root, own) in enumerate(zip(roots, real, strict=True))
        if not any(
            own.startswith(other) and (own != other or before < place)
            for before, other in enumerate(real)
            if before != place
        )
    ]


def _carry_out(group: Group, action: str, keep: str, apply: bool) -> int:
    """Do or announce what is to be done to a group; the number of failures."""
    from aiopipe.sums.dedupe import act, plan

    failures = 0
    for step in plan(group, action, keep):
        told = f"{shared.shown(step.name)} (same as {shared.shown(step.keep)})"
        if not apply:
            _tell(f"would {action}: {told}")
            continue
        try:
            act(step)
        except OSError as error:
            failures += 1
            word = {"delete": "not deleted"}.get(action, f"not {action}ed")
            shared.report_failure(step.name, word, error.strerror or "")
        else:
            _tell(f"{action}: {told}")
    return failures


def _printer(form: str, zero: bool) -> Callable[[Group], None]:
    from aiopipe.sums.formats import csv_field, escape, needs_escape

    out = sys.stdout.buffer
    if form == "csv":
        out.write(b"group,size,digest,path,kind\r\n")
    count = 0

    def text(group: Group) -> None:
        names = [name for copy in group[2] for name in copy[0]]
        if zero:
            out.write(b"\0".join(names) + b"\0\0")
        else:
            if needs_escape(b"".join(names)):
                names = [escape(name) for name in names]
            out.write(b"\n".join(names) + b"\n\n")

    def jsonl(group: Group) -> None:
        import json  # 9 ms with base64, for those who ask for it

        files = [[_name(name) for name in copy.names] for copy in group.copies]
        record = {"size": group.size, "digest": group.digest, "files": files}
        out.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")

    def csv(group: Group) -> None:
        nonlocal count
        count += 1
        for number, copy in enumerate(group.copies):
            for place, name in enumerate(copy.names):
                kind = b"link" if place else b"duplicate" if number else b"first"
                digest = group.digest.encode()
                out.write(b"%d,%d,%s,%s,%s\r\n" % (count, group.size, digest, csv_field(name), kind))

    return {"text": text, "jsonl": jsonl, "csv": csv}[form]


def _name(name: bytes) -> Any:
    try:
        return {"path": name.decode("utf-8")}
    except UnicodeDecodeError:
        import base64

        return {"path_b64": base64.b64encode(name).decode("ascii")}
