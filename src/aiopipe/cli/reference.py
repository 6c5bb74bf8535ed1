"""The reference of the stages, for a terminal and as Markdown, from their declarations alone."""

from __future__ import annotations

import inspect
import shlex
import textwrap
from collections.abc import Iterable, Iterator, Sequence

import click

from aiopipe.cli.params import default_of
from aiopipe.cli.segments import command_of, pipeline_of
from aiopipe.cli.text import blocks, first_line, summary_of
from aiopipe.errors import AiopipeError
from aiopipe.options import Option, options_of
from aiopipe.pipefile import dumps
from aiopipe.stage import Sink, Source, Stage, Transform

__all__ = ["list_text", "markdown_list", "markdown_stage", "stage_text"]

_KINDS = {Source: "sources", Transform: "transforms", Sink: "sinks"}


def kind_of(stage: type[Stage]) -> str:
    """ "sources", "transforms" or "sinks"."""
    return next(name for base, name in _KINDS.items() if issubclass(stage, base))


def list_text(stages: Sequence[type[Stage]], broken: Sequence[str] = ()) -> str:
    """All stages by kind, one or two lines each; broken: words of stages that cannot be loaded."""
    formatter = click.HelpFormatter(width=80)
    for kind in _KINDS.values():
        rows = [(s.word, first_line(s)) for s in stages if kind_of(s) == kind]
        if rows:
            with formatter.section(kind.capitalize()):
                formatter.write_dl(rows, col_max=16)
    if broken:
        with formatter.section("Cannot be loaded"):
            formatter.write_dl([(word, summary_of(word)) for word in broken], col_max=16)
    formatter.write("\naiopipe stages STAGE shows one; aiopipe pipe STAGE --help does as well.")
    return formatter.getvalue()


def stage_text(stage: type[Stage]) -> str:
    """A stage's help, and its example in the other two doors."""
    command = command_of(stage)
    with command.make_context(stage.word, [], resilient_parsing=True) as context:
        text = command.get_help(context)
    doors = _doors(stage)
    if doors is None:
        return text
    python, toml = doors
    return (
        f"{text}\n\nIn Python:\n{textwrap.indent(python, '  ')}\n\nIn a pipeline file:\n{textwrap.indent(toml, '  ')}"
    )


def _doors(stage: type[Stage]) -> tuple[str, str] | None:
    """The stage of the example as Python and as TOML; None where the example cannot be built here."""
    tokens = shlex.split(stage.example)[2:]
    if not tokens:
        return None
    try:
        pipeline = pipeline_of(tokens)
    except AiopipeError:  # it may name a function of a file that is not here
        return None
    one = next(s for s in pipeline.stages if isinstance(s, stage))
    return repr(one), dumps(type(pipeline)((one,))).rstrip()


def markdown_list(stages: Iterable[type[Stage]]) -> str:
    """All stages as a table."""
    rows = [f"| [`{s.word}`](#{s.word}) | {kind_of(s)[:-1]} | {_escaped(first_line(s))} |" for s in stages]
    return "\n".join(["| stage | kind | what it does |", "|---|---|---|", *rows])


def markdown_stage(stage: type[Stage]) -> str:
    """One stage as a section."""
    return "\n\n".join(_sections(stage))


def _sections(stage: type[Stage]) -> Iterator[str]:
    yield f"## {stage.word}"
    yield from blocks(inspect.getdoc(stage) or "", 110)
    options = options_of(stage)
    if options:
        header = "| option | in a file and in Python | default | what it does |\n|---|---|---|---|\n"
        yield header + "\n".join(map(_row, options))
    if stage.example:
        yield f"```sh\n{stage.example}\n```"
    doors = _doors(stage)
    if doors is not None:
        yield f"```python\n{doors[0]}\n```"
        yield f"```toml\n{doors[1]}\n```"


def _row(option: Option) -> str:
    short = f"-{option.short}, " if option.short else ""
    shell = (option.metavar or option.key.upper()) if option.argument else short + option.flag
    help_text = option.help + (f" ({', '.join(option.choices)})" if option.choices else "")
    default = f"`{default_of(option)}`" if default_of(option) else ""
    return f"| `{shell}` | `{option.key}` | {default} | {_escaped(help_text)} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
