"""Where in an answer a value lies: the singular queries of JSONPath (RFC 9535, section 2.3.5.1), and what is no JSON.

    $.address.city   $['a b'].c   $.choices[0].message.content   $.items[-1]   $
    $.nickname?      empty where it is missing; without the question mark that is a fault
    status   body   header:ETag

Filters, wildcards and slices give several values, and a field holds one: they are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiopipe.errors import UsageError
from aiopipe.stages._calls import PlainError

__all__ = ["Path", "Wanted", "path_of"]

_STEP = re.compile(
    r"\.([^\W\d][\w-]*)"  # .name
    r"|\[(-?(?:0|[1-9]\d*))\]"  # [0]
    r"|\['((?:[^'\\]|\\.)*)'\]|\[\"((?:[^\"\\]|\\.)*)\"\]"  # ['name']
)
_EXACT = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)
_HINT = "see what the service answers, or set such records aside with --rejects FILE"


@dataclass(frozen=True, slots=True)
class Path:
    """One path. kind: "json", "status", "body" or "header". steps: names and indexes. optional: may be missing."""

    text: str
    kind: str
    steps: tuple[str | int, ...] = ()
    name: str = ""
    optional: bool = False

    def find(self, document: Any) -> Any:
        """The value in a JSON document; PlainError where there is none."""
        value = document
        for step in self.steps:
            try:
                if isinstance(value, dict) if isinstance(step, str) else isinstance(value, list):
                    value = value[step]
                    continue
            except (KeyError, IndexError):
                pass
            if self.optional:
                return None
            raise PlainError(f"the answer has no {self.text}{_there(value)}", _HINT, "request")
        return value


def _there(value: Any) -> str:
    if isinstance(value, dict):
        return f" (there are {', '.join(map(str, list(value)[:8])) or 'no names'})"
    return f" ({len(value)} elements)" if isinstance(value, list) else ""


def path_of(text: str, stage: str) -> Path:
    """A path from its text; UsageError where it is none of ours."""
    if text in ("status", "body"):
        return Path(text, text)
    if text.startswith("header:") and text[7:].strip():
        return Path(text, "header", name=text[7:].strip(), optional=True)
    optional = text.endswith("?")
    rest = text.removesuffix("?")
    steps: list[str | int] = []
    at = 1
    while rest.startswith("$") and at < len(rest):
        match = _STEP.match(rest, at)
        if match is None:
            break
        name, index, single, double = match.groups()
        if index is not None:
            steps.append(int(index))
        else:
            quoted = single if single is not None else double
            steps.append(name if name is not None else re.sub(r"\\(.)", r"\1", quoted))
        at = match.end()
    if not rest.startswith("$") or at < len(rest):
        raise UsageError(
            f"{text!r} is no path to one value",
            stage=stage,
            hint="such as $.address.city, $.choices[0].message.content, $['a b'], status, body or header:ETag",
        )
    return Path(text, "json", tuple(steps), optional=optional)


class Wanted:
    """What is taken of every answer."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self._paths = paths
        self._json = any(p.kind == "json" for p in paths)

    def texts(self, text: str, status: int, headers: Mapping[str, str]) -> tuple[str, ...]:
        """What the paths find, as text: numbers as they were written, null as nothing, objects as JSON.

        PlainError where the answer is no JSON, or lacks something.
        """
        document = _document(text) if self._json else None
        return tuple([_value(p, text, document, status, headers) for p in self._paths])


def _document(text: str) -> Any:
    try:
        return _EXACT.decode(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        piece = " ".join(text[:200].split())
        raise PlainError(f"the answer is no JSON ({error}): {piece or 'it is empty'}", _HINT, "request") from None


def _value(path: Path, text: str, document: Any, status: int, headers: Mapping[str, str]) -> str:
    kind = path.kind
    if kind == "status":
        return str(status)
    found = path.find(document) if kind == "json" else text if kind == "body" else headers.get(path.name)
    if isinstance(found, bool):
        return "true" if found else "false"
    if found is None:
        return ""
    if not isinstance(found, str):  # once more, for its numbers must not be texts here
        whole = path.find(json.loads(text.removeprefix("\ufeff")))
        found = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
    if not found.isascii():
        try:
            found.encode()
        except UnicodeEncodeError:
            raise PlainError(f"{path.text} holds a lone surrogate, which is no text", _HINT, "request") from None
    return found
