"""The stages, in the order the documentation has them. One verb, one file, one line here."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from aiopipe.errors import UnknownNameError, UsageError, nearest
from aiopipe.options import options_of
from aiopipe.stage import Stage

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

__all__ = ["TABLE", "find_stage", "make_stage", "register", "words"]

# word -> (module, class). Not imports: the shell's help needs the words alone.
TABLE: dict[str, tuple[str, str]] = {
    "read": ("aiopipe.stages.read", "Read"),
    "find": ("aiopipe.stages.find", "Find"),
    "merge": ("aiopipe.stages.merge", "Merge"),
    "hash": ("aiopipe.stages.hash", "Hash"),
    "filter": ("aiopipe.stages.filter", "Filter"),
    "derive": ("aiopipe.stages.derive", "Derive"),
    "select": ("aiopipe.stages.select", "Select"),
    "drop": ("aiopipe.stages.drop", "Drop"),
    "rename": ("aiopipe.stages.rename", "Rename"),
    "mask": ("aiopipe.stages.mask", "Mask"),
    "head": ("aiopipe.stages.head", "Head"),
    "skip": ("aiopipe.stages.skip", "Skip"),
    "dedupe": ("aiopipe.stages.dedupe", "Dedupe"),
    "map": ("aiopipe.stages.map", "Map"),
    "fetch": ("aiopipe.stages.fetch", "Fetch"),
    "batch": ("aiopipe.stages.batch", "Batch"),
    "unbatch": ("aiopipe.stages.unbatch", "Unbatch"),
    "tee": ("aiopipe.stages.tee", "Tee"),
    "route": ("aiopipe.stages.route", "Route"),
    "write": ("aiopipe.stages.write", "Write"),
    "collect": ("aiopipe.stages.collect", "Collect"),
}
GROUP = "aiopipe.stages"
_registered: dict[str, type[Stage]] = {}


def register(word: str, stage: type[Stage]) -> None:
    """Make a user's stage known under `word` in every door; UsageError where the word is taken."""
    known = _registered.get(word)
    same = known is not None and (known.__module__, known.__qualname__) == (stage.__module__, stage.__qualname__)
    if word in TABLE or word == "then" or (known is not None and not same):
        raise UsageError(f"a stage called {word!r} exists already", hint="give yours another word")
    _registered[word] = stage


def words() -> Iterator[str]:
    """Every word that names a stage: ours, those of installed packages, those registered by `@stage`."""
    seen = dict.fromkeys(TABLE)
    seen.update(dict.fromkeys(e.name for e in _installed()))
    seen.update(dict.fromkeys(_registered))
    yield from seen


def _installed() -> EntryPoints:
    """The stages of installed packages; asked for only when somebody wants a word that is not ours."""
    from importlib.metadata import entry_points

    return entry_points(group=GROUP)


def find_stage(word: str) -> type[Stage]:
    """The class behind a word; UnknownNameError with the nearest word where there is none."""
    if word in TABLE:
        module, name = TABLE[word]
        stage = getattr(importlib.import_module(module), name)
    elif word in _registered:
        stage = _registered[word]
    else:
        found = [e for e in _installed() if e.name == word]
        if not found:
            raise UnknownNameError(f"no stage {word!r}", hint=nearest(word, words()))
        try:
            stage = found[0].load()
        except Exception as error:
            raise UsageError(
                f"the stage {word!r} of an installed package cannot be loaded: {type(error).__name__}: {error}",
                hint=f"look at the entry point {found[0].value}",
            ) from error
        stage = getattr(stage, "stage", stage)  # what @stage leaves behind a function's name
    if not (isinstance(stage, type) and issubclass(stage, Stage)):
        raise UsageError(f"what is registered as stage {word!r} is no stage", hint="decorate it with @stage")
    return stage


def make_stage(stage: type[Stage], options: Mapping[str, Any]) -> Stage:
    """The stage with these options, by the keys of a pipeline file.

    UnknownNameError for an option it does not have, UsageError for one that is missing.
    """
    declared = {o.key: o for o in options_of(stage)}
    for key in options:
        if key not in declared:
            raise UnknownNameError(f"no option {key!r}", stage=stage.word, hint=nearest(key, declared))
    for key, one in declared.items():
        if one.required and key not in options:
            raise UsageError(f"{key} is missing: {one.help}", stage=stage.word, hint=f"see aiopipe stages {stage.word}")
    return stage.build({declared[key].name: value for key, value in options.items()})
