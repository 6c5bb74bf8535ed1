"""How a stage declares its options: once, as dataclass fields; every door reads them from here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, field, fields
from typing import Any

from aiopipe.errors import UsageError
from aiopipe.tuples import NamedTuple

__all__ = ["NESTED", "Option", "option", "options_of", "pairs", "parse_size", "parse_time", "strings"]

# kinds whose values are pieces of pipelines: branches, (text, branch) pairs, one branch or None, streams.
NESTED = ("branches", "routes", "branch", "sources")

_UNITS = {"": 1, "b": 1, "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9,
          "ki": 2**10, "kib": 2**10, "mi": 2**20, "mib": 2**20, "gi": 2**30, "gib": 2**30}  # fmt: skip


def parse_size(value: int | str) -> int:
    """Bytes from `64MB`, `1GiB`, `4096`; UsageError where it is no size.

    >>> parse_size("64MB"), parse_size("1KiB"), parse_size(10)
    (64000000, 1024, 10)
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(value))
    if not match or match[2].lower() not in _UNITS:
        raise UsageError(f"{value!r} is no size", hint="write 4096, 64MB or 1GiB")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def parse_time(value: float | str | None) -> float | None:
    """Seconds from `5`, `0.5`, `300ms`, `2s`, `5m`, `1h`; None stays None. UsageError where it is no time.

    >>> parse_time("300ms"), parse_time(5), parse_time("2m")
    (0.3, 5.0, 120.0)
    """
    if value is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|)\s*", str(value))
    if not match or float(match[1]) <= 0:
        raise UsageError(f"{value!r} is no time", hint="write seconds above 0, or 300ms, 5s, 2m, 1h")
    return float(match[1]) * {"ms": 0.001, "s": 1, "": 1, "m": 60, "h": 3600}[match[2]]


def strings(value: object) -> tuple[str, ...]:
    """One string or several as a tuple of strings; a path object counts as a string."""
    if isinstance(value, str) or hasattr(value, "__fspath__"):
        return (_text(value),)
    if isinstance(value, (list, tuple, set, frozenset)):
        return tuple(_text(v) for v in value)
    raise UsageError(f"{value!r} is neither text nor a list of texts", hint='write "a" or ["a", "b"]')


def _text(value: object) -> str:
    import os

    if isinstance(value, str):
        return value
    if hasattr(value, "__fspath__"):
        return os.fsdecode(value)
    raise UsageError(f"{value!r} is not text", hint='write "a" or ["a", "b"]')


def pairs(value: object) -> tuple[tuple[str, str], ...]:
    """A mapping, or texts of the form name=value, as name-value pairs in order.

    >>> pairs(["net=amount * 0.9"]), pairs({"a": "b"})
    ((('net', 'amount * 0.9'),), (('a', 'b'),))
    """
    if isinstance(value, Mapping):
        return tuple((_text(k), _text(v)) for k, v in value.items())
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise UsageError(f"{value!r} is no list of name=value", hint='write name=value, or {"name": "value"}')
    made = []
    for item in value:
        if isinstance(item, (tuple, list)) and len(item) == 2:
            made.append((_text(item[0]), _text(item[1])))
            continue
        name, equals, text = _text(item).partition("=")
        if not equals or not name.strip():
            raise UsageError(f"{item!r} is not name=value", hint="write it as name=value, in quotes for the shell")
        made.append((name.strip(), text.strip()))
    return tuple(made)


class Option(NamedTuple):
    """One option of a stage, for whoever builds a door from it.

    positional: "" for a named option, "one" for an argument, "many" for arguments to the end.
    short: a letter under which the shell has it as an option, also where Python takes it by its place.
    kind: "text", "int", "float", "flag", "size", "time", "texts", "pairs", "function" or "object"; "policy": text in
    the shell, a number, a text or a table in a file, a value of its own (with a method `plain`) in the library; or one
    of NESTED, whose values are made of stages: each door has its own way to write them.
    convert: makes the canonical value of what was given, for kinds that do not say how. result: whether another
    value may give another output; False for what only says where, how fast or how carefully.
    """

    name: str
    help: str
    kind: str
    positional: str
    choices: tuple[str, ...]
    default: Any
    required: bool
    metavar: str
    result: bool = True
    short: str = ""
    convert: Callable[[Any], Any] | None = None

    @property
    def argument(self) -> bool:
        """Whether the shell has it as an argument and not as an option."""
        return bool(self.positional) and not self.short

    @property
    def key(self) -> str:
        """The key in a pipeline file: the name, without the underscore that keeps it from being a keyword."""
        return self.name.rstrip("_")

    @property
    def flag(self) -> str:
        """The command-line option: batch_size is --batch-size."""
        return "--" + self.key.replace("_", "-")


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "size": parse_size,
    "time": parse_time,
    "texts": strings,
    "pairs": pairs,
}


def option(
    default: Any = MISSING,
    *,
    help: str,
    kind: str = "text",
    positional: str = "",
    choices: tuple[str, ...] = (),
    metavar: str = "",
    short: str = "",
    compare: bool = True,
    convert: Callable[[Any], Any] | None = None,
    result: bool = True,
) -> Any:
    """Declare a field of a stage as an option of all three doors.

    help: one sentence. kind, positional, short and convert: see Option. choices: the allowed texts. compare: whether
    stages with different values differ. result: see Option; a finished file is done again when such an option changes.
    """
    metadata = {
        "help": help,
        "kind": kind,
        "positional": positional,
        "choices": choices,
        "metavar": metavar,
        "result": result,
        "short": short,
        "convert": convert,
    }
    return field(default=default, metadata={"aiopipe": metadata}, kw_only=positional == "", compare=compare)


def options_of(stage: type) -> list[Option]:
    """The options a stage class declares, positional ones first."""
    found = [
        Option(name=f.name, default=_default(f), required=f.default is MISSING, **f.metadata["aiopipe"])
        for f in fields(stage)
        if "aiopipe" in f.metadata
    ]
    return sorted(found, key=lambda o: o.positional == "")


def _default(f: Field[Any]) -> Any:
    return None if f.default is MISSING else f.default


def normalise(stage: Any) -> None:
    """Turn the options of a stage into their canonical form, and refuse what is not one; for __post_init__."""
    for f in fields(stage):
        declared = f.metadata.get("aiopipe")
        if declared is None:
            continue
        value = getattr(stage, f.name)
        if value is None and f.default is None:
            continue
        convert = declared["convert"] or _CONVERT.get(declared["kind"])
        if convert is not None:
            try:
                value = convert(value)
            except UsageError as error:
                raise UsageError(f"{f.name}: {error.message}", stage=type(stage).word, hint=error.hint) from None
            object.__setattr__(stage, f.name, value)
        word = type(stage).word
        if declared["kind"] == "int" and (isinstance(value, bool) or not isinstance(value, int)):
            raise UsageError(f"{f.name} is {value!r}, not a whole number", stage=word)
        if declared["kind"] == "flag" and not isinstance(value, bool):
            raise UsageError(f"{f.name} is {value!r}, not true or false", stage=word)
        if declared["kind"] == "text" and value is not None and not isinstance(value, str):
            if not hasattr(value, "__fspath__"):
                raise UsageError(f"{f.name} is {value!r}, not text", stage=word)
            object.__setattr__(stage, f.name, _text(value))
        if declared["choices"] and value not in declared["choices"]:
            from aiopipe.errors import nearest

            raise UsageError(f"{f.name} is {value!r}", stage=word, hint=nearest(str(value), declared["choices"]))
