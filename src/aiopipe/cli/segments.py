"""Stages joined by `then`: words of a command line to stages, by one click command for each segment."""

from __future__ import annotations

import inspect
import os
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import click

from aiopipe.cli.params import given, params_of
from aiopipe.cli.text import blocks, wrapped_shell
from aiopipe.errors import UnknownNameError, UsageError, nearest
from aiopipe.job.options import JobOptions
from aiopipe.options import Option, options_of
from aiopipe.stage import Pipeline, Sink, Source, Stage, join
from aiopipe.stages import find_stage, make_stage, words

__all__ = ["Segment", "command_of", "pipeline_of", "segments"]

_HELP = ("-h", "--help")


@dataclass(frozen=True)
class Segment:
    """The words between two `then`. name: the stage's word, with its place in the chain where it stands twice."""

    word: str
    args: tuple[str, ...]
    name: str


def segments(tokens: Sequence[str]) -> list[Segment]:
    """Split at `then`; a column or file of that name is written `\\then`. UsageError for an empty segment."""
    parts: list[list[str]] = [[]]
    for token in tokens:
        if token == "then":
            parts.append([])
        else:
            parts[-1].append("then" if token == "\\then" else token)
    if parts == [[]]:
        raise UsageError("no stages", hint="such as: aiopipe pipe read 'in/*.csv' then head 5 then write -")
    for i, part in enumerate(parts):
        if not part:
            where = "at the end" if i == len(parts) - 1 else "at the beginning" if i == 0 else "twice in a row"
            raise UsageError(f"`then` stands {where}", hint="it joins two stages: read FILE then write -")
    seen = Counter(part[0] for part in parts)
    return [
        Segment(part[0], tuple(part[1:]), part[0] if seen[part[0]] == 1 else f"{part[0]}#{i}")
        for i, part in enumerate(parts, 1)
    ]


def pipeline_of(tokens: Sequence[str]) -> Pipeline:
    """The pipeline that a command line describes; prints a stage's help and ends if `--help` is among the words.

    UnknownNameError and UsageError name the segment.
    """
    chain = segments(tokens)
    classes = [_class_of(s) for s in chain]
    for segment, stage in zip(chain, classes, strict=True):
        if any(a in _HELP for a in segment.args):  # help is given even when other segments are wrong
            _parse(segment, stage)
    _check_ends(chain, classes)
    return join([_parse(s, c) for s, c in zip(chain, classes, strict=True)])


def _class_of(segment: Segment) -> type[Stage]:
    if segment.word.startswith("-"):
        flag = segment.word.partition("=")[0]
        raise UsageError(f"{flag} stands where a stage should be", hint="`then` is followed by the word of a stage")
    try:
        return find_stage(segment.word)
    except UnknownNameError as error:
        error.hint = f"{error.hint}; aiopipe stages lists them"
        raise


def _check_ends(chain: Sequence[Segment], classes: Sequence[type[Stage]]) -> None:
    """Say how to mend a chain without a source or a sink, before its options are looked at."""
    for segment, stage in zip(chain, classes, strict=True):
        lost = _swallowed(segment, issubclass(stage, Source), issubclass(classes[-1], Sink))
        if lost is not None:
            raise UsageError(
                f"{lost!r} is taken as an argument of {segment.name}",
                hint=f"put `then` before it: {segment.word} ... then {lost} ...",
            )
    if not issubclass(classes[0], Source):
        raise UsageError(
            f"a pipeline begins with a source, and {chain[0].word} is none",
            hint="put `read FILE then` before it, or `read - then` for standard input",
        )
    if not issubclass(classes[-1], Sink):
        raise UsageError(
            f"a pipeline ends with a sink, and {chain[-1].word} is none", hint="put `then write -` at the end"
        )


def _swallowed(segment: Segment, source: bool, complete: bool) -> str | None:
    """The word of a stage among a segment's arguments, where a `then` was surely forgotten before it."""
    if complete and not source:
        return None  # a column may well be called filter
    known = set(words())
    return next((a for a in segment.args[1:] if a in known and not os.path.lexists(a)), None)


def _parse(segment: Segment, stage: type[Stage]) -> Stage:
    """The stage that a segment's words describe."""
    command = command_of(stage)
    try:
        with command.make_context(segment.word, list(segment.args)) as context:
            return make_stage(stage, given(stage, context.params))
    except click.UsageError as error:
        raise _explained(error, segment, stage) from None
    except UsageError as error:
        if error.stage in (None, segment.word):
            error.stage = segment.name
        raise


def _explained(error: click.UsageError, segment: Segment, stage: type[Stage]) -> UsageError:
    """Click's complaint as ours: which segment, and what to write instead."""
    see = f"see aiopipe pipe {segment.word} --help"
    if isinstance(error, click.NoSuchOption):
        return _no_option(error.option_name, segment, stage)
    message = error.format_message().rstrip(".")
    surplus = re.match(r"Got unexpected extra arguments? \((.*)\)$", message)
    if surplus:
        return UsageError(
            f"one argument too many: {surplus[1]}",
            stage=segment.name,
            hint="quote an expression with blanks, and put `then` between stages",
        )
    return UsageError(message, stage=segment.name, hint=see)


def _no_option(name: str, segment: Segment, stage: type[Stage]) -> UsageError:
    job = {flag for p in params_of(JobOptions) for flag in (*p.opts, *p.secondary_opts)}
    if name in job:
        hint = f"{name} belongs to the job: put it before the first stage, aiopipe pipe {name} ... {segment.word} ..."
    elif not name.startswith("--"):
        hint = "put -- before an argument that begins with a dash"
    else:
        flags = [f for p in command_of(stage).params for f in (*p.opts, *p.secondary_opts) if f.startswith("--")]
        hint = nearest(name, flags) if flags else f"{segment.word} has no options of its own"
    return UnknownNameError(f"no option {name}", stage=segment.name, hint=hint)


class StageCommand(click.Command):
    """The command of one segment; it is only ever parsed, never invoked."""

    def __init__(self, stage: type[Stage]) -> None:
        super().__init__(
            stage.word,
            params=params_of(stage),
            help=inspect.getdoc(stage) or "",
            context_settings={"help_option_names": list(_HELP), "max_content_width": 80},
            add_help_option=True,
        )
        self.stage = stage

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The place of the stage in a chain."""
        source, sink = issubclass(self.stage, Source), issubclass(self.stage, Sink)
        before = "aiopipe pipe " if source else "aiopipe pipe ... then "
        pieces = " ".join(self.collect_usage_pieces(ctx)) + ("" if sink else " then ...")
        formatter.write_usage(before + self.stage.word, pieces)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The docstring: paragraphs wrapped, lists kept as lists."""
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write("\n\n".join(textwrap.indent(b, "  ") for b in blocks(self.help or "")) + "\n")
        arguments = [(p.make_metavar(ctx), o.help) for p, o in self._arguments()]
        if arguments:
            with formatter.section("Arguments"):
                formatter.write_dl(arguments)

    def _arguments(self) -> list[tuple[click.Parameter, Option]]:
        declared = {o.name: o for o in options_of(self.stage)}
        return [(p, declared[p.name]) for p in self.params if isinstance(p, click.Argument) and p.name in declared]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The example that the tests run."""
        if self.stage.example:
            with formatter.section("Example"):
                formatter.write(textwrap.indent(wrapped_shell(self.stage.example), "  ") + "\n")


def command_of(stage: type[Stage]) -> StageCommand:
    """The click command that parses a segment of this stage."""
    return StageCommand(stage)
