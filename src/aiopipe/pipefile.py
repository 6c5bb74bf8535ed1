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

The branches of a tee or a route, and the inputs of a merge, are tables inside the stage, with stages of their own:

    [[stage]]
    use = "route"

    [[stage.branch]]
    where = "amount > 100"     # not for tee; a branch of route without it is `otherwise`

    [[stage.branch.stage]]
    use = "write"
    to = "big/"

and for merge [[stage.source]] with [[stage.source.stage]].

Paths in a file are relative to the directory in which the command runs, not to the file: a file says the same as
the command line. `loads(dumps(p)) == p` for every pipeline that can be written down.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiopipe.errors import InputError, UnknownNameError, UsageError, nearest
from aiopipe.job.options import JobOptions
from aiopipe.model import Position
from aiopipe.options import NESTED, Option, options_of
from aiopipe.stage import Pipeline, Sink, Stage, branch_of, in_the_middle, join, stream_of
from aiopipe.stages import find_stage, make_stage
from aiopipe.stages._names import function_name, load_module

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
    entries = list(_every_table(tables, "stage", lines, Counter()))
    words = [_word(e.table, e, lines) for e in entries]
    chosen = _settings(settings, words)
    made = _Made(entries, words, chosen, lines)
    try:
        return join(made.chain(tables))
    except UsageError as error:
        error.position = error.position or lines.whole
        raise


@dataclass(frozen=True)
class _Entry:
    """A table of a stage. name: `stage` or `stage.branch.stage`; number: among those of this name, from 0."""

    table: Mapping[str, Any]
    name: str
    number: int


_INNER = ("branch", "source")  # tables of a stage that hold stages


def _every_table(tables: Any, name: str, lines: _Lines, seen: Counter[str]) -> Iterator[_Entry]:
    """All tables of stages, each before those inside it: the order that numbers stages."""
    if not isinstance(tables, list) or not tables:
        raise UsageError("no stages", position=lines.whole, hint=f"each begins with [[{name}]], then use = its word")
    for value in tables:
        entry = _Entry(_table(value, name, lines, seen[name]), name, seen[name])
        seen[name] += 1
        yield entry
        for key in _INNER:
            for inner in _list(entry.table.get(key, []), f"{name}.{key}", lines):
                yield from _every_table(inner.get("stage"), f"{name}.{key}.stage", lines, seen)


def _list(value: Any, name: str, lines: _Lines) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise UsageError(f"{name} is no list of tables", position=lines.whole, hint=f"write each as [[{name}]]")
    return value


class _Made:
    """Makes stages of tables, those inside first."""

    def __init__(
        self, entries: list[_Entry], words: list[str], chosen: dict[int, dict[str, str]], lines: _Lines
    ) -> None:
        self._places = {id(e.table): i for i, e in enumerate(entries)}
        self._entries = entries
        self._words = words
        self._chosen = chosen
        self._lines = lines

    def chain(self, tables: list[Mapping[str, Any]]) -> list[Stage]:
        """The stages of a list of tables; UsageError at the line of a sink that is not the last."""
        places = [self._places[id(t)] for t in tables]
        stages = [self._stage(place) for place in places]
        for stage, place, after in zip(stages, places, places[1:], strict=False):
            if isinstance(stage, Sink):
                error = in_the_middle(self._words[place], self._words[after])
                error.position = self._lines.key(self._entries[place].name, self._entries[place].number, "use")
                raise error
        return stages

    def _stage(self, i: int) -> Stage:
        entry, word, lines = self._entries[i], self._words[i], self._lines
        name, number = entry.name, entry.number
        stage = _located(lambda: find_stage(word), lines, name, number, {"use": word})
        table = {k: v for k, v in entry.table.items() if k != "use"}
        nested = {o.kind: o.key for o in options_of(stage) if o.kind in NESTED}
        if nested:
            inner = {key: table.pop(key, []) for key in _INNER}
            table.update(_located(lambda: self._nested(nested, inner, name), lines, name, number, table))
        table.update({k: _value(stage, k, v) for k, v in self._chosen.get(i, {}).items()})
        made: Stage = _located(lambda: make_stage(stage, table), lines, name, number, table)
        return made

    def _nested(self, kinds: Mapping[str, str], inner: Mapping[str, Any], name: str) -> dict[str, Any]:
        """The options that are made of stages."""
        key = "source" if "sources" in kinds else "branch"
        other = "branch" if key == "source" else "source"
        if inner[other]:
            raise UsageError(f"no table {other!r} belongs here", hint=f"write [[{name}.{key}]]")
        found: dict[str, Any] = {}
        for one in inner[key]:
            for extra in one.keys() - {"stage", *(["where"] if "routes" in kinds else [])}:
                raise UnknownNameError(f"a {key} has no option {extra!r}", hint="its stages are tables inside it")
            stages = self.chain(one["stage"])
            if key == "source":
                found.setdefault(kinds["sources"], []).append(stream_of(stages))
            elif "branches" in kinds:
                found.setdefault(kinds["branches"], []).append(branch_of(stages))
            elif "where" in one:
                found.setdefault(kinds["routes"], []).append((one["where"], branch_of(stages)))
            elif kinds["branch"] in found:
                raise UsageError("two branches have no `where`", hint='give all but one a condition: where = "..."')
            else:
                found[kinds["branch"]] = branch_of(stages)
        return found


def _word(table: Mapping[str, Any], entry: _Entry, lines: _Lines) -> str:
    word = table.get("use")
    if not isinstance(word, str):
        problem = "has no `use`" if word is None else f"has use = {word!r}"
        raise UsageError(
            f"{entry.name} {entry.number + 1} {problem}",
            position=lines.header(entry.name, entry.number),
            hint='say which stage it is, such as use = "filter"',
        )
    return word


def _table(value: Any, name: str, lines: _Lines, number: int = 0) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        brackets = f"[[{name}]]" if name.endswith("stage") else f"[{name}]"
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
            if re.match(r"\s*\[\[?\s*[\w.]+\s*\]\]?\s*(#|$)", self._lines[i]):
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
    parts += _tables(pipeline.stages, "stage")
    return "\n".join(parts)


def _tables(stages: Iterable[Stage], name: str) -> Iterator[str]:
    """A table for each stage, with those of its branches or inputs behind it."""
    for stage in stages:
        declared = options_of(type(stage))
        lines = [f"use = {_toml(type(stage).word)}"]
        lines += [f"{o.key} = {_toml(_plain(stage, o))}" for o in declared if o.kind not in NESTED and _told(stage, o)]
        yield f"[[{name}]]\n" + "".join(f"{line}\n" for line in lines)
        for key, where, inner in _inner(stage, declared):
            yield f"[[{name}.{key}]]\n" + (f"where = {_toml(where)}\n" if where is not None else "")
            yield from _tables(inner.stages, f"{name}.{key}.stage")


def _inner(stage: Stage, declared: Iterable[Option]) -> Iterator[tuple[str, str | None, Any]]:
    """The branches or inputs of a stage, each with the name of its table and its condition."""
    for option in declared:
        value = getattr(stage, option.name)
        if option.kind == "routes":
            yield from (("branch", where, branch) for where, branch in value)
        elif option.kind == "branch" and value is not None:
            yield "branch", None, value
        elif option.kind in ("branches", "sources"):
            yield from (("branch" if option.kind == "branches" else "source", None, one) for one in value)


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
    if option.kind == "policy" and value is None:
        return 0  # of retries: none, where some are the default
    if option.kind == "object" or value is None or option.name in stage.held:
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
