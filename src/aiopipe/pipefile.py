"""Pipeline files: TOML to pipelines and back.

    [job]                      # optional: a name, and the options of `aiopipe run`
    name = "clean sales"
    rejects = "rejects.csv"

    [[stage]]                  # the stages in order, each with its options
    use = "read"
    paths = ["incoming/**/*.csv"]

    [[stage]]
    use = "write"
    to = "clean/"

Paths in a file are relative to the directory in which the command runs, not to the file: a file says the same as
the command line. `loads(dumps(p)) == p` for every pipeline that can be written down.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiopipe.errors import InputError, UnknownNameError, UsageError, nearest
from aiopipe.job.options import JobOptions
from aiopipe.model import Position
from aiopipe.options import Option, options_of
from aiopipe.stage import Pipeline, Stage, join
from aiopipe.stages import find_stage, make_stage
from aiopipe.stages.map import function_name, load_module

__all__ = ["PipeFile", "dumps", "load", "loads", "parse"]


@dataclass(frozen=True)
class PipeFile:
    """What a pipeline file holds. job: the options of [job], by their keys."""

    pipeline: Pipeline
    name: str = ""
    job: Mapping[str, Any] = field(default_factory=dict)


def load(path: str, settings: Iterable[str] = ()) -> PipeFile:
    """Read a pipeline file; settings as for `parse`. InputError where it cannot be read."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error.reason}", hint="save it as UTF-8, as TOML asks") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", hint="name a pipeline file (TOML)") from None
    return parse(text, path, settings)


def loads(text: str) -> Pipeline:
    """The pipeline in the text of a pipeline file."""
    return parse(text).pipeline


def parse(text: str, path: str = "<text>", settings: Iterable[str] = ()) -> PipeFile:
    """What the text says, with `stage.option=value` settings put in its place.

    UsageError and UnknownNameError carry the line of the file.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise UsageError(
            f"no TOML: {error}",
            position=Position(path, int(line[1]) if line else None),
            hint="strings stand in quotes, lists in [brackets]",
        ) from None
    lines = _Lines(text, path)
    _check_keys(data, ("job", "stage"), lines)
    job = dict(_table(data.get("job", {}), "job", lines))
    name = job.pop("name", "")
    if not isinstance(name, str):
        raise UsageError(f"name is {name!r}, not text", position=lines.key("job", 0, "name"))
    _check_keys(job, ["name", *(o.key for o in options_of(JobOptions))], lines, "job")
    _located(lambda: JobOptions.build(job), lines, "job", 0, job)
    for module in JobOptions.build(job).import_:
        load_module(module, "import")
    return PipeFile(_pipeline(data, list(settings), lines), name, job)


def _pipeline(data: Mapping[str, Any], settings: list[str], lines: _Lines) -> Pipeline:
    tables = data.get("stage", [])
    if not isinstance(tables, list) or not tables:
        raise UsageError("no stages", position=lines.whole, hint="each begins with [[stage]], then use = its word")
    entries = [(dict(_table(t, "stage", lines, i)), i) for i, t in enumerate(tables)]
    words = [_word(table, i, lines) for table, i in entries]
    chosen = _settings(settings, words)
    stages = []
    for (table, i), word in zip(entries, words, strict=True):
        del table["use"]
        stage = _located(lambda word=word: find_stage(word), lines, "stage", i, {"use": word})
        table.update({k: _value(stage, k, v) for k, v in chosen.get(i, {}).items()})
        stages.append(_located(lambda s=stage, t=table: make_stage(s, t), lines, "stage", i, table))
    try:
        return join(stages)
    except UsageError as error:
        error.position = lines.whole
        raise


def _word(table: Mapping[str, Any], number: int, lines: _Lines) -> str:
    word = table.get("use")
    if not isinstance(word, str):
        problem = "has no `use`" if word is None else f"has use = {word!r}"
        raise UsageError(
            f"stage {number + 1} {problem}",
            position=lines.header("stage", number),
            hint='say which stage it is, such as use = "filter"',
        )
    return word


def _table(value: Any, name: str, lines: _Lines, number: int = 0) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        brackets = "[[stage]]" if name == "stage" else f"[{name}]"
        raise UsageError(f"{name} is {value!r}, not a table", position=lines.whole, hint=f"write it as {brackets}")
    return value


def _check_keys(table: Mapping[str, Any], known: Sequence[str], lines: _Lines, name: str = "") -> None:
    for key in table:
        if key not in known:
            where = lines.key(name, 0, key) if name else lines.header(key, 0)
            what = f"[{name}] has no option {key!r}" if name else f"no table {key!r} is known"
            raise UnknownNameError(what, position=where, hint=nearest(key, known))


def _located(make: Any, lines: _Lines, name: str, number: int, table: Mapping[str, Any]) -> Any:
    """make(), its UsageError with the line of the option it speaks of, or of the table."""
    try:
        return make()
    except UsageError as error:
        if error.position is None:
            named = [k for k in table if re.search(rf"(?<![\w.]){re.escape(k)}(?!\w)", error.message)]
            error.position = lines.key(name, number, named[0] if named else "use")
        raise


class _Lines:
    """Where in the text a table or a key stands: tomllib does not tell, so the text is searched for it."""

    def __init__(self, text: str, path: str) -> None:
        self._lines = text.splitlines()
        self._path = path

    @property
    def whole(self) -> Position:
        """The file."""
        return Position(self._path)

    def header(self, name: str, number: int) -> Position:
        """The line of the number-th table of this name."""
        return Position(self._path, self._header(name, number))

    def key(self, name: str, number: int, key: str) -> Position:
        """The line of a key in a table; of the table where the key is not found."""
        start = self._header(name, number)
        pattern = re.compile(rf"""\s*(?:\[{name}\.)?["']?{re.escape(key)}["']?\s*[=.\]]""")
        for i in range(start or 0, len(self._lines)):
            if re.match(r"\s*\[\[?\s*\w+\s*\]", self._lines[i]):
                break
            if pattern.match(self._lines[i]):
                return Position(self._path, i + 1)
        return Position(self._path, start)

    def _header(self, name: str, number: int) -> int | None:
        pattern = re.compile(rf"""\s*\[?\[?\s*["']?{re.escape(name)}["']?\s*[\].=]""")
        single = re.compile(rf"\s*\[\[\s*{re.escape(name)}\s*\]\]")
        found = [i + 1 for i, line in enumerate(self._lines) if single.match(line)]
        found = found or [i + 1 for i, line in enumerate(self._lines) if pattern.match(line)]
        return found[number] if number < len(found) else None


def _settings(settings: Iterable[str], words: Sequence[str]) -> dict[int, dict[str, str]]:
    """`filter.where=...` or `filter#2.where=...` as stage number -> option -> text."""
    chosen: dict[int, dict[str, str]] = {}
    for setting in settings:
        match = re.fullmatch(r"([^.=#]+)(?:#(\d+))?\.([^=]+)=(.*)", setting, re.DOTALL)
        if not match:
            raise UsageError(
                f"{setting!r} is not stage.option=value", stage="--set", hint="such as --set filter.where='amount > 5'"
            )
        word, number, key, value = match[1].strip(), match[2], match[3].strip(), match[4]
        chosen.setdefault(_chosen(word, number, words), {})[key] = value
    return chosen


def _chosen(word: str, number: str | None, words: Sequence[str]) -> int:
    """Which stage a setting speaks of; the number is its place in the chain, as in messages and plans."""
    if word not in words:
        hint = "options of the job have flags of their own" if word == "job" else nearest(word, words)
        raise UnknownNameError(f"the file has no stage {word!r}", stage="--set", hint=hint)
    places = [i for i, w in enumerate(words) if w == word]
    if number is not None:
        if int(number) - 1 not in places:
            names = ", ".join(f"{word}#{i + 1}" for i in places)
            raise UnknownNameError(f"the file has no stage {word}#{number}", stage="--set", hint=f"it has {names}")
        return int(number) - 1
    if len(places) > 1:
        names = " or ".join(f"{word}#{i + 1}" for i in places)
        raise UsageError(f"the file has {len(places)} stages {word!r}", stage="--set", hint=f"say {names}")
    return places[0]


def _value(stage: type[Stage], key: str, text: str) -> Any:
    """A setting's value: TOML where it is, and the option is not meant to be text; else the text."""
    declared: Option | None = next((o for o in options_of(stage) if o.key == key), None)
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text
    texts = declared is not None and declared.kind in ("text", "texts", "pairs", "function", "size", "time", "policy")
    return text if texts and not isinstance(value, (str, list, dict)) else value


def dumps(pipeline: Pipeline, job: Mapping[str, Any] | None = None) -> str:
    """The pipeline as the text of a pipeline file; UsageError where a value cannot be written down.

    job: options of [job] by their keys, and its name.
    """
    parts = []
    if job:
        parts.append("[job]\n" + "".join(f"{k} = {_toml(v)}\n" for k, v in job.items()))
    for stage in pipeline.stages:
        lines = [f"use = {_toml(type(stage).word)}"]
        lines += [f"{o.key} = {_toml(_plain(stage, o))}" for o in options_of(type(stage)) if _told(stage, o)]
        parts.append("[[stage]]\n" + "".join(f"{line}\n" for line in lines))
    return "\n".join(parts)


def _told(stage: Stage, option: Option) -> bool:
    value = getattr(stage, option.name)
    if option.choices and value not in option.choices:
        return False  # worked out by the stage, such as the main thread as a place; it will be worked out again
    return bool(option.required or value != option.default)


def _plain(stage: Stage, option: Option) -> Any:
    value = getattr(stage, option.name)
    if option.kind == "function":
        return function_name(value)
    if option.kind == "pairs":
        names = [n for n, _ in value]
        return dict(value) if len(set(names)) == len(names) else [f"{n}={v}" for n, v in value]
    if hasattr(value, "plain"):
        return value.plain()
    if option.kind == "object" or value is None:
        raise UsageError(
            f"{option.key} of {type(stage).word} is a Python object", hint="a pipeline file holds text and numbers only"
        )
    return value


def _toml(value: Any) -> str:
    """A value as TOML; tomllib only reads."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    raise UsageError(f"{value!r} cannot stand in a pipeline file", hint="it holds text and numbers only")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)


def _quoted(text: str) -> str:
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise UsageError(f"{text!r} is no Unicode text", hint="TOML holds only such; use the command line or a glob")
    out = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda m: f"\\u{ord(m[0]):04x}", out) + '"'
