"""What a pipeline is made of, as short texts by name: equal when, and only when, it would do the same.

The parts are the order of the stages, each option that has a say in the output, the types that expressions work
with, and the users' code: bytecode and constants of each function and class that can be reached, with those that
they call, so that a changed helper is noticed, and named. Comments, docstrings and line numbers do not count.
What is installed as a distribution counts by its version. Nothing depends on the process: no pickles, no
addresses, no order of sets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from aiopipe.plan import Plan, Step
from aiopipe.stage import Stage

__all__ = ["changes", "digest_of", "parts_of"]

# Raised when the writers give other bytes for the same records: outputs of an older aiopipe are then made anew.
WRITER_FORMAT = 1
_SHOWN = 60  # characters of a value in a message


def parts_of(plan: Plan, whole: str = "") -> dict[str, str]:
    """The parts of a typed plan's fingerprint. whole: why the job is one unit, "" where each file is.

    Blocks (it walks the users' code); UsageError where a function cannot be imported.
    """
    steps = [s for s in plan.steps if s.shape not in ("decode", "encode")]
    parts = {"writer format": str(WRITER_FORMAT), "stages": " | ".join(s.label for s in steps)}
    if whole:
        parts["one unit"] = whole
    for step in steps:
        parts.update(_options(step, whole=bool(whole)))
        parts.update({f"{step.label}.{name}": value for name, value in step.stage.fingerprint().items()})
        types = _types(step)
        if types:
            parts[f"types decided from the sample, in {step.label}"] = types
    code = [found for step in steps for found in _code(step.stage)]
    if code:
        from aiopipe.job.code import Walker  # with the paths of this Python, 3 ms

        walker = Walker()
        for name, value in code:
            walker.add(name, value)
        parts.update(walker.parts())
    return parts


def digest_of(parts: Mapping[str, str]) -> str:
    """One text for all parts: SHA-256 in hexadecimal."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What is different, in words: `filter.where 'a > 1' -> 'a > 2'`, `function myjob:enrich changed`."""
    found = []
    for name in dict.fromkeys([*now, *before]):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if name.startswith(("function ", "class ", "value ")):
            found.append(f"{name} {'is new' if old is None else 'is gone' if new is None else 'changed'}")
        elif old is None or new is None:
            found.append(f"{name} {'added' if old is None else 'removed'}: {_short(new or old or '')}")
        else:
            found.append(f"{name} {_short(old)} -> {_short(new)}")
    return found


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _options(step: Step, *, whole: bool) -> Iterator[tuple[str, str]]:
    """Each option that has a say in what comes out."""
    from dataclasses import fields

    for f in fields(step.stage):
        declared = f.metadata.get("aiopipe")
        value = getattr(step.stage, f.name)
        if declared is None:
            if f.compare and not callable(value) and not f.name.startswith("_"):
                yield f"{step.label}.{f.name}", repr(value)
            continue
        # Where a job is one unit, which files it reads is part of what it is.
        if declared["kind"] in ("function", "object") or not (declared["result"] or (whole and f.name == "paths")):
            continue
        yield f"{step.label}.{f.name.rstrip('_')}", repr(value)


def _types(step: Step) -> str:
    """The types of the columns that an expression of the stage names."""
    named = getattr(step.stage, "named", None)
    if named is None:
        return ""
    known = {name.lower(): type_ for name, type_ in step.scope.types.items()}
    return ", ".join(f"{column} {known.get(column.lower(), 'VARCHAR')}" for column in named(step.scope))


def _code(stage: Stage) -> Iterator[tuple[str, Any]]:
    """The users' code that a stage runs: functions in its fields, and its own class if that is not ours."""
    from dataclasses import fields

    if not type(stage).__module__.startswith("aiopipe.") and not hasattr(type(stage), "stage_function"):
        yield type(stage).word, type(stage)
    for f in fields(stage):
        value = getattr(stage, f.name)
        declared = f.metadata.get("aiopipe")
        if callable(value):
            yield type(stage).word, value
        elif declared is not None and declared["kind"] == "function" and getattr(stage, "call", None) is None:
            from aiopipe.stages._names import load_function

            yield type(stage).word, load_function(value)
