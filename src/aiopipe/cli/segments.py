"""Stages joined by `then`: words of a command line to stages, by one click command for each segment."""

from __future__ import annotations

import inspect
import os
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import click

from aiopipe.cli.chains import Segment, every_segment, segments
from aiopipe.cli.mistakes import (
    flag_in_front,
    hint_for_dash,
    hint_for_surplus,
    hint_for_value,
    hint_for_word,
    job_flags,
    refuse_signs,
)
from aiopipe.cli.params import given, params_of
from aiopipe.cli.text import blocks, wrapped_shell
from aiopipe.errors import UnknownNameError, UsageError, nearest
from aiopipe.options import NESTED, Option, options_of
from aiopipe.stage import Branch, Pipeline, Sink, Source, Stage, branch_of, in_the_middle, join, stream_of
from aiopipe.stages import TABLE, find_stage, make_stage, words

__all__ = ["command_of", "pipeline_of"]

_HELP = ("-h", "--help")


def pipeline_of(tokens: Sequence[str]) -> Pipeline:
    """The pipeline that a command line describes; prints a stage's help and ends if `--help` is among the words.

    UnknownNameError and UsageError name the segment.
    """
    chain = segments(tokens)
    for segment in every_segment(chain):
        stage = _class_of(segment, segment is chain[0])
        refuse_signs(segment)
        if any(a in _HELP for a in segment.args):  # help is given even when other segments are wrong
            _parse(segment, stage)
    _check_ends(chain)
    return join(_stages(chain))


def _refuse_middles(chain: Sequence[Segment]) -> None:
    """Say so of a sink that something stands behind."""
    for segment, after in zip(chain, chain[1:], strict=False):
        if issubclass(_class_of(segment), Sink):
            raise in_the_middle(segment.name, after.name)


def _stages(chain: Sequence[Segment]) -> list[Stage]:
    _refuse_middles(chain)
    return [_parse(s, _class_of(s)) for s in chain]


def _class_of(segment: Segment, first: bool = False) -> type[Stage]:
    if segment.word.startswith("-"):
        flag = segment.word.partition("=")[0]
        raise UsageError(f"{flag} stands where a stage should be", hint=flag_in_front(flag, segment.args))
    try:
        return find_stage(segment.word)
    except UnknownNameError as error:
        error.hint = hint_for_word(segment.word, first) or f"{error.hint}; aiopipe stages lists them"
        raise


def _check_ends(chain: Sequence[Segment]) -> None:
    """Say how to mend a chain without a source or a sink, before its options are looked at."""
    classes = [_class_of(s) for s in chain]
    for segment, stage in zip(chain, classes, strict=True):
        lost = _swallowed(segment, issubclass(stage, Source), issubclass(classes[-1], Sink))
        if lost is not None:
            raise UsageError(
                f"{lost!r} is taken as an argument of {segment.name}",
                hint=f"put `then` before it: {segment.word} ... then {lost} ...",
            )
    _refuse_middles(chain)
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
    # To look at what is installed takes as long as all the rest of this: it is for a line that is wrong already.
    known = set(TABLE if complete else words())
    return next((a for a in segment.args[1:] if a in known and not os.path.lexists(a)), None)


def _parse(segment: Segment, stage: type[Stage]) -> Stage:
    """The stage that a segment's words describe."""
    command = command_of(stage)
    nested, args = _nested(segment, stage)
    try:
        with command.make_context(segment.word, list(args)) as context:
            return make_stage(stage, {**given(stage, context.params), **nested()})
    except click.UsageError as error:
        raise _explained(error, segment, stage) from None
    except UsageError as error:
        if error.stage in (None, segment.word):
            error.stage = segment.name
        raise


def _nested(segment: Segment, stage: type[Stage]) -> tuple[Callable[[], dict[str, Any]], Sequence[str]]:
    """What makes the options that stand in brackets, and the words that are left for the others."""
    kinds = {o.kind: o.key for o in options_of(stage) if o.kind in NESTED}
    if segment.groups and not kinds:
        raise UsageError(
            f"{segment.word} takes nothing in brackets",
            stage=segment.name,
            hint="a column or file called [ is written \\[; branches are for tee, route and merge",
        )
    if "routes" in kinds:
        labels = [segment.args[at - 1] if at else "" for at, _ in segment.groups]
        if "" in labels or len({at for at, _ in segment.groups}) < len(labels):
            raise UsageError(
                "a branch without a condition",
                stage=segment.name,
                hint="such as route 'amount > 100' [ write big/ ] otherwise [ write small/ ]",
            )
        taken = {at - 1 for at, _ in segment.groups}
        left = [a for i, a in enumerate(segment.args) if i not in taken]
        return lambda: _routes(labels, [branch_of(_stages(group)) for _, group in segment.groups]), left
    if "sources" in kinds:
        return lambda: _some(kinds["sources"], [stream_of(_stages(g)) for _, g in segment.groups]), segment.args
    if "branches" in kinds:
        return lambda: _some(kinds["branches"], [branch_of(_stages(g)) for _, g in segment.groups]), segment.args
    return dict, segment.args


def _some(key: str, values: list[Any]) -> dict[str, Any]:
    return {key: tuple(values)} if values else {}


def _routes(labels: Sequence[str], branches: Sequence[Branch]) -> dict[str, Any]:
    pairs = list(zip(labels, branches, strict=True))
    last = {"otherwise": pairs.pop()[1]} if labels and labels[-1] == "otherwise" else {}
    if any(where == "otherwise" for where, _ in pairs):
        raise UsageError("otherwise stands before a condition", hint="put it last")
    return {**_some("routes", pairs), **last}


def _explained(error: click.UsageError, segment: Segment, stage: type[Stage]) -> UsageError:
    """Click's complaint as ours: which segment, and what to write instead."""
    if isinstance(error, click.NoSuchOption):
        return _no_option(error.option_name, segment, stage)
    message = error.format_message().rstrip(".")
    surplus = re.match(r"Got unexpected extra arguments? \((.*)\)$", message)
    if surplus:
        return UsageError(
            f"one argument too many: {surplus[1]}",
            stage=segment.name,
            hint=hint_for_surplus(surplus[1], segment, stage),
        )
    return UsageError(message, stage=segment.name, hint=hint_for_value(message, segment, stage))


def _no_option(name: str, segment: Segment, stage: type[Stage]) -> UsageError:
    if name in job_flags():
        hint = f"{name} belongs to the job: put it before the first stage, aiopipe pipe {name} ... {segment.word} ..."
    elif not name.startswith("--"):
        hint = hint_for_dash(name, segment, stage)
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
        brackets = [b for o in options_of(self.stage) for b in _brackets(o)]
        pieces = " ".join([*self.collect_usage_pieces(ctx), *brackets]) + ("" if sink else " then ...")
        formatter.write_usage(before + self.stage.word, pieces)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The docstring: paragraphs wrapped, lists kept as lists."""
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write("\n\n".join(textwrap.indent(b, "  ") for b in blocks(self.help or "")) + "\n")
        arguments = [(p.make_metavar(ctx), o.help) for p, o in self._arguments()]
        arguments += [(" ".join(b), o.help) for o in options_of(self.stage) if (b := _brackets(o))]
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


def _brackets(option: Option) -> list[str]:
    """How an option that is made of stages is written."""
    if option.kind not in NESTED:
        return []
    before = [] if option.positional else [option.key]
    return [*before, option.metavar + (" ..." if option.positional == "many" else "")]


def command_of(stage: type[Stage]) -> StageCommand:
    """The click command that parses a segment of this stage."""
    return StageCommand(stage)
