"""Texts with places for a record's fields and for secrets: URLs, headers and bodies of requests.

    https://api.example.com/users/{user_id}?lang={lang}     fields, quoted as a URL needs it
    {path:raw}                                              a field as it is
    Bearer {env:API_TOKEN}  {file:/run/secrets/token}       secrets, of which only the names are ever shown
    {env:API_URL:raw}                                       the same, not quoted
    {{ and }}                                               braces

A body that is JSON has its places inside its strings; `"{n:json}"` alone becomes the JSON that the field holds.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from aiopipe.errors import UsageError

__all__ = ["Secrets", "Template", "body_of", "json_template", "text_template", "url_template"]

_PLACE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_KEEP = "%/:?#[]@!$&'()*+,;=-._~"  # what a URL is made of, RFC 3986
_MOST = 65_536  # bytes of a secret


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a template. kind: "field" or "secret"; how: "" or the text behind the colon; name: of the field."""

    kind: str
    name: str
    how: str = ""


Part = str | Place
Fill = Callable[[Sequence[str]], str]


@dataclass(frozen=True, slots=True)
class Template:
    """A text taken apart. encode: what becomes of a field's value at a place; check: refuses a finished text."""

    parts: tuple[Part | Leaf, ...]
    encode: Callable[[str, Place], str]

    @property
    def fields(self) -> list[str]:
        """The columns it names, each once."""
        found = [p.name for p in self._places() if p.kind == "field"]
        return list(dict.fromkeys(found))

    @property
    def secrets(self) -> list[str]:
        """The names of its secrets: `env:NAME`, `file:PATH`."""
        return [p.name for p in self._places() if p.kind == "secret"]

    def _places(self) -> list[Place]:
        inner = [q for p in self.parts for q in (p.template.parts if isinstance(p, Leaf) else (p,))]
        return [p for p in inner if isinstance(p, Place)]

    def filler(self, names: Sequence[str], secrets: Mapping[str, str]) -> Fill:
        """What makes the text of a record's values, which come in the order of names."""
        at = {name: i for i, name in enumerate(names)}
        steps: list[str | Callable[[Sequence[str]], str]] = []
        for part in self.parts:
            step = self._step(part, at, secrets)
            if isinstance(step, str) and steps and isinstance(steps[-1], str):
                steps[-1] += step
            else:
                steps.append(step)
        if not steps:
            return lambda values: ""
        if len(steps) == 1 and isinstance(steps[0], str):
            whole = steps[0]
            return lambda values: whole
        return lambda values: "".join([s if s.__class__ is str else s(values) for s in steps])  # type: ignore[operator]

    def _step(
        self, part: Part | Leaf, at: Mapping[str, int], secrets: Mapping[str, str]
    ) -> str | Callable[[Sequence[str]], str]:
        if isinstance(part, str):
            return part
        if isinstance(part, Leaf):
            fill = part.template.filler(list(at), secrets)
            return fill if part.json else lambda values: json.dumps(fill(values), ensure_ascii=False)
        if part.kind == "secret":
            return self.encode(secrets[part.name], part)
        i, encode = at[part.name], self.encode
        return lambda values: encode(values[i], part)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A string inside a JSON body. json: its one field holds JSON already."""

    template: Template
    json: bool


def _parts(text: str, stage: str) -> tuple[Part, ...]:
    parts: list[Part] = []
    at = 0
    for match in _PLACE.finditer(text):
        if match.start() > at:
            parts.append(text[at : match.start()])
        at = match.end()
        found = match[0]
        if found in ("{{", "}}"):
            parts.append(found[0])
        elif match[1] is None or not match[1].strip():
            raise UsageError(
                f"a single {found} in {text!r}" if match[1] is None else f"an empty {{}} in {text!r}",
                stage=stage,
                hint="write {column}, and {{ or }} for braces",
            )
        else:
            parts.append(_place(match[1]))
    if at < len(text):
        parts.append(text[at:])
    return tuple(parts)


def _place(inner: str) -> Place:
    kind, colon, name = inner.partition(":")
    if colon and kind in ("env", "file"):
        bare = inner.strip().removesuffix(":raw")
        return Place("secret", bare, "raw" if bare != inner.strip() else "")
    name, colon, how = inner.rpartition(":")
    if colon and how in ("raw", "json"):
        return Place("field", name, how)
    return Place("field", inner)


def url_template(text: str, stage: str) -> Template:
    """A URL; UsageError where it is none, or holds a password."""
    parts = _parts(text, stage)
    first = parts[0] if parts else ""
    if isinstance(first, str) and not re.match(r"https?://", first):
        raise UsageError(
            f"{text!r} is no http or https URL", stage=stage, hint="such as https://api.example.com/users/{user_id}"
        )
    if isinstance(first, str) and "@" in re.split(r"[/?#]", first.partition("//")[2])[0]:
        raise UsageError(
            "a URL with a user or password in it", stage=stage, hint="use --headers 'Authorization=Basic {env:NAME}'"
        )
    fixed = tuple(quote(p, safe=_KEEP) if isinstance(p, str) else p for p in parts)
    return Template(fixed, _in_url)


def _in_url(value: str, place: Place) -> str:
    if value.isalnum() and value.isascii():
        return value
    return quote(value, safe=_KEEP if place.how == "raw" else "")


def text_template(text: str, stage: str) -> Template:
    """A header's value, or a body that is no JSON: fields stand as they are."""
    return Template(_parts(text, stage), lambda value, place: value)


def json_template(text: str, stage: str) -> Template:
    """A JSON body, given as its text."""
    parts: list[Part | Leaf] = []
    _walk(json.loads(text), parts, stage)
    joined: list[Part | Leaf] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return Template(tuple(joined), lambda value, place: value)


def _walk(value: Any, parts: list[Part | Leaf], stage: str) -> None:
    if isinstance(value, dict):
        for i, (key, one) in enumerate(value.items()):
            parts.append(("," if i else "{") + json.dumps(key, ensure_ascii=False) + ":")
            _walk(one, parts, stage)
        parts.append("}" if value else "{}")
    elif isinstance(value, list):
        for i, one in enumerate(value):
            parts.append("," if i else "[")
            _walk(one, parts, stage)
        parts.append("]" if value else "[]")
    elif isinstance(value, str):
        inner = _parts(value, stage)
        if not any(isinstance(p, Place) for p in inner):
            parts.append(json.dumps("".join(map(str, inner)), ensure_ascii=False))
            return
        whole = len(inner) == 1 and isinstance(inner[0], Place) and inner[0].how == "json"
        encode = _as_json if whole else _as_text
        parts.append(Leaf(Template(inner, encode), whole))
    else:
        parts.append(json.dumps(value))


def _as_text(value: str, place: Place) -> str:
    return value


def _as_json(value: str, place: Place) -> str:
    if not value.strip():
        return "null"
    json.loads(value)  # ValueError is the fault of the record
    return value


def body_of(value: Any) -> str:
    """A body as text: JSON in its shortest form where it is some, or a table or a list; else as it was."""
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if not isinstance(value, str):
        raise UsageError(f"{value!r} is no body", hint="give it text, or a table that becomes JSON")
    if is_json(value):
        return json.dumps(json.loads(value), ensure_ascii=False, separators=(",", ":"))
    return value


def is_json(text: str) -> bool:
    """Whether a body is a JSON object or array."""
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


class Secrets:
    """Secrets by their names, and texts without them."""

    def __init__(self, names: Sequence[str], stage: str) -> None:
        """Read them all. UsageError, which tells a name and no more, where one is not there."""
        self.values = {name: _secret(name, stage) for name in names}
        shown = {v for v in self.values.values() if len(v) >= 4}
        self._hidden = sorted(shown | {quote(v, safe="") for v in shown}, key=len, reverse=True)

    def hidden(self, text: str) -> str:
        """The text with *** for every secret in it."""
        for value in self._hidden:
            text = text.replace(value, "***")
        return text


def _secret(name: str, stage: str) -> str:
    kind, _, where = name.partition(":")
    if kind == "env":
        if where not in os.environ:
            raise UsageError(f"the environment variable {where} is not set", stage=stage, hint=f"export {where}=...")
        value = os.environ[where]
    else:
        try:
            with open(os.path.expanduser(where), encoding="utf-8") as file:
                value = file.read(_MOST)
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UsageError(
                f"the file {where} cannot be read: {why}", stage=stage, hint="name a file that holds the secret"
            ) from None
    value = value.rstrip("\r\n")
    if not value:
        raise UsageError(f"{name} is empty", stage=stage, hint="put the secret there")
    return value
