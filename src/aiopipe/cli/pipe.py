"""`aiopipe pipe`: a pipeline as one command line, its stages joined by `then`."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

from aiopipe.cli.job import job_given, job_options
from aiopipe.cli.text import summary_of
from aiopipe.stages import find_stage, words

__all__ = ["PipeCommand", "pipe"]


class PipeCommand(click.Command):
    """Shows the stages in its help, and completes them and their options."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The stages, one line each."""
        with formatter.section("Stages (aiopipe pipe STAGE --help)"):
            formatter.write_dl([(w, summary_of(w)) for w in words()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Options of the segment in hand; those of the job before the first stage."""
        typed = ctx.params.get("stages") or ()
        if not typed:
            return super().shell_complete(ctx, incomplete)
        return complete_stages(typed, incomplete)


def complete_stages(typed: tuple[str, ...], incomplete: str) -> list[CompletionItem]:
    """What may come next in a chain: a stage's word, `then`, or an option of the stage."""
    start = max((i + 1 for i, t in enumerate(typed) if t == "then"), default=0)
    segment = typed[start:]
    if not segment:
        return [CompletionItem(w) for w in words() if w.startswith(incomplete)]
    if incomplete.startswith("-"):
        from aiopipe.cli.segments import command_of

        if segment[0] not in words():
            return []
        command = command_of(find_stage(segment[0]))
        with command.make_context(segment[0], list(segment[1:]), resilient_parsing=True) as context:
            return command.shell_complete(context, incomplete)
    items = [CompletionItem("then")] if incomplete and "then".startswith(incomplete) else []
    return [*items, CompletionItem(incomplete, type="file")]


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return complete_stages(tuple(ctx.params.get("stages") or ()), incomplete)


@click.command(
    cls=PipeCommand,
    context_settings={"allow_interspersed_args": False, "max_content_width": 80},
    options_metavar="[JOB OPTIONS]",
)
@job_options()
@click.argument(
    "stages",
    nargs=-1,
    type=click.UNPROCESSED,
    metavar="STAGE ... then STAGE ...",
    shell_complete=_complete,
)
def pipe(stages: tuple[str, ...], **params: Any) -> int:
    """Run a pipeline written as stages joined by `then`.

    The first stage is a source, the last a sink. Job options stand before the first stage, a stage's own
    options behind its word.

    \b
    aiopipe pipe read 'in/*.csv' then filter 'amount > 100' then write out/
    cat in.csv | aiopipe pipe read - then select id name then write - > out.csv

    The report goes to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done with records set
    aside (--rejects), 130 or 143 interrupted by Ctrl-C or SIGTERM, 141 the reader of standard output has gone.
    """
    from aiopipe.cli.running import execute
    from aiopipe.cli.segments import pipeline_of
    from aiopipe.job.options import JobOptions

    typed = job_given(params)
    return execute(pipeline_of(stages), JobOptions.build(typed))
