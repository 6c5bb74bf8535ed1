"""What was meant by a command line that is nearly right: the usual slips, each with the words to write instead.

Nothing here decides whether a line is right: it is asked when that is known to be wrong, but for `refuse_signs`,
which knows words that cannot be meant as they stand.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from aiopipe.cli.chains import Segment
from aiopipe.cli.params import params_of
from aiopipe.errors import UsageError, nearest
from aiopipe.job.options import JobOptions
from aiopipe.options import NESTED, Option, options_of
from aiopipe.stage import Stage
from aiopipe.stages import find_stage, words

__all__ = [
    "flag_in_front",
    "hint_for_dash",
    "hint_for_option",
    "hint_for_surplus",
    "hint_for_value",
    "hint_for_word",
    "job_flags",
    "refuse_signs",
]


def job_flags() -> set[str]:
    """The flags of the job options."""
    return {flag for p in params_of(JobOptions) for flag in (*p.opts, *p.secondary_opts)}


def _flags(stage: type[Stage]) -> set[str]:
    typed = [o for o in options_of(stage) if o.kind not in NESTED]
    return {flag for p in params_of(stage) for flag in (*p.opts, *p.secondary_opts)} if typed else set()


def refuse_signs(segment: Segment) -> None:
    """UsageError for what stands where `then` should: the sign of a shell's pipe, or THEN."""
    for i, (sign, word) in enumerate(zip(segment.args, segment.args[1:], strict=False)):
        valued = i > 0 and segment.args[i - 1].startswith("--")  # --delimiter '|'
        if valued or not (sign == "|" or (sign.lower() == "then" and sign != "then")) or os.path.lexists(sign):
            continue
        if word in words():  # asked last: for those of installed packages metadata are read, which takes 15 ms
            raise UsageError(
                f"{sign!r} stands between {segment.name} and {word}",
                hint=f"on a command line stages are joined by `then`: {segment.word} ... then {word} ...",
            )


def hint_for_word(word: str, first: bool) -> str:
    """What to write instead of something that is no stage; "" where nobody knows."""
    known = set(words())
    pieces = word.split()
    if len(pieces) > 1 and pieces[0] in known:
        return "leave the quotes around the whole away: the shell splits it into words"
    name, equals, value = word.partition("=")
    flag = "--" + name.replace("_", "-")
    if equals and flag in job_flags():
        return f"options begin with two dashes: {flag} {value}"
    if word.endswith(".toml") and first:
        return f"run a pipeline file with: aiopipe run {word}"
    if first and (os.path.lexists(word) or re.search(r"[/*]|\.\w+$", word)):
        return f"a file is read by a stage: read {word} then ..."
    return ""


def flag_in_front(flag: str, rest: Sequence[str]) -> str:
    """Where to put an option that stands in place of a stage. rest: the words behind it."""
    if flag in job_flags():
        return f"{flag} belongs to the job: put it before the first stage, aiopipe pipe {flag} ..."
    if (belongs := _owner(flag, rest)) is not None:
        return f"{flag} belongs {belongs}"
    return "`then` is followed by the word of a stage, and its options stand behind that"


def hint_for_surplus(surplus: str, segment: Segment, stage: type[Stage]) -> str:
    """What to do about arguments that a stage has no place for."""
    name, equals, value = surplus.partition("=")
    flag = "--" + name.replace("_", "-")
    if equals and " " not in surplus:
        if flag in _flags(stage):
            return f"options begin with two dashes: {segment.word} {flag} {value}"
        if flag in job_flags():
            return f"options begin with two dashes, those of the job stand before the first stage: {flag} {value}"
    return "quote an expression with blanks, and put `then` between stages"


def _number(stage: type[Stage]) -> Option | None:
    """The stage's argument, where it is a number."""
    return next((o for o in options_of(stage) if o.positional and o.kind == "int"), None)


def hint_for_dash(name: str, segment: Segment, stage: type[Stage]) -> str:
    """What to write instead of a short option, of which there are few."""
    if _number(stage) is not None:
        digits = name.lstrip("-")
        at = next((i for i, a in enumerate(segment.args) if a.startswith(name)), -1)
        behind = segment.args[at + 1] if 0 <= at < len(segment.args) - 1 else ""
        value = digits if digits.isdigit() else behind if behind.isdigit() else "N"
        return f"write the number alone: {segment.word} {value}"
    return "put -- before an argument that begins with a dash"


def hint_for_value(message: str, segment: Segment, stage: type[Stage]) -> str:
    """What to write instead of a value that click refuses."""
    named = re.search(r"'\w+=(\d+)' is not", message)
    if named and _number(stage) is not None:
        return f"write the number alone: {segment.word} {named[1]}"
    return f"see aiopipe pipe {segment.word} --help"


def hint_for_option(flag: str, rest: Sequence[str]) -> str | None:
    """Where an option belongs that is none of the job; None where it is nobody's. rest: the words of the line."""
    if (belongs := _owner(flag, rest)) is not None:
        return f"it belongs {belongs}"
    close = nearest(flag, job_flags())
    return f"{close} see aiopipe pipe --help" if close.startswith("did you mean") else None


def _owner(flag: str, rest: Sequence[str]) -> str | None:
    """The stage that has such an option, those of the line first, and how that is written."""
    known = list(words())
    here = [w for w in dict.fromkeys(rest) if w in known]
    owner = next((w for w in dict.fromkeys([*here, *known]) if flag in _flags(find_stage(w))), None)
    return owner and f"to {owner}: put it behind its word, {owner} {flag} ..."
