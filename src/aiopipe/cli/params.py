"""Click parameters from declared options: what a stage or a job declares is what its `--help` shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from aiopipe.errors import UsageError
from aiopipe.options import NESTED, Option, options_of, parse_size, parse_time

__all__ = ["default_of", "given", "params_of"]


class _Converted(click.ParamType):  # type: ignore[type-arg] # generic since click 8.4
    """A click type around one of our own conversions."""

    def __init__(self, name: str, convert: Callable[[Any], Any]) -> None:
        self.name = name
        self._convert = convert

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._convert(value)
        except UsageError as error:
            self.fail(f"{error.message}; {error.hint}" if error.hint else error.message, param, ctx)


_TYPES: dict[str, click.ParamType[Any]] = {
    "int": click.INT,
    "float": click.FLOAT,
    "size": _Converted("size", parse_size),
    "time": _Converted("time", parse_time),
}


def default_of(option: Option) -> str:
    """The default as help shows it; "" where there is none, or where the help text tells it."""
    if option.required or option.default in (None, (), False) or "default" in option.help:
        return ""
    if option.default is True:
        return option.flag
    if isinstance(option.default, (tuple, list)):
        return " ".join(str(v) for v in option.default)
    return str(option.default)


def params_of(declaring: type) -> list[click.Parameter]:
    """One click parameter for each declared option; none has a default, so that `given` knows what was typed."""
    typed = [o for o in options_of(declaring) if o.kind not in NESTED]  # stages in brackets: see cli.segments
    return [_argument(o) if o.argument else _option(o) for o in typed]


def given(declaring: type, params: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were typed, by their keys."""
    found = {}
    for option in options_of(declaring):
        value = params.get(option.name)
        if value is not None and value != ():
            found[option.key] = value
    return found


def _type(option: Option) -> click.ParamType[Any]:
    if option.choices:
        return click.Choice(option.choices)
    return _TYPES.get(option.kind, click.STRING)


def _argument(option: Option) -> click.Parameter:
    name = option.metavar or option.key.upper().replace("_", "-")
    many = option.positional == "many"
    bare = name.strip("[]")
    metavar = (f"{bare}..." if many else bare) if option.required else f"[{bare}]" + ("..." if many else "")
    return click.Argument(
        [option.name],
        nargs=-1 if many else 1,
        required=False,  # what is missing is told by make_stage, in the same words for all doors
        default=None,
        type=_type(option),
        metavar=metavar,
    )


def _option(option: Option) -> click.Parameter:
    default = default_of(option)
    text = option.help + (f"  [default: {default}]" if default else "")
    if option.kind == "flag":
        # --no-header is a name of its own: its opposite is --header, not --no-no-header.
        opposite = "--" + option.flag[5:] if option.flag.startswith("--no-") else "--no-" + option.flag[2:]
        return click.Option([option.name, f"{option.flag}/{opposite}"], default=None, help=text)
    several = option.kind in ("texts", "pairs")
    return click.Option(
        [option.name, option.flag, *([f"-{option.short}"] if option.short else [])],
        multiple=several,
        default=None,
        type=_type(option),
        metavar=option.metavar or None,
        help=text + ("  (may be repeated)" if several else ""),
    )
