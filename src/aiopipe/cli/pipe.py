"""`aiopipe pipe`: a pipeline as one command line, its stages joined by `then`."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

from aiopipe.cli.completion import complete_chain, complete_stages
from aiopipe.cli.job import job_given, job_options
from aiopipe.cli.text import summary_of
from aiopipe.errors import UnknownNameError
from aiopipe.stages import words

__all__ = ["PipeCommand", "pipe"]


class PipeCommand(click.Command):
    """Shows the stages in its help, and completes them and their options."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The stages, one line each."""
        with formatter.section("Stages (aiopipe pipe STAGE --help)"):
            formatter.write_dl([(w, summary_of(w)) for w in words()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; of an option that is none of the job it is said where it belongs."""
        line = list(args)  # click takes the words out of its list
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            from aiopipe.cli.mistakes import hint_for_option

            hint = hint_for_option(error.option_name, line)
            if hint is None:
                raise
            raise UnknownNameError(f"no job option {error.option_name}", hint=hint) from None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Options of the segment in hand; those of the job before the first stage."""
        typed = ctx.params.get("stages") or ()
        if not typed:
            return super().shell_complete(ctx, incomplete)
        return complete_stages(typed, incomplete)


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
    shell_complete=complete_chain,
)
def pipe(stages: tuple[str, ...], **params: Any) -> int:
    """Run a pipeline written as stages joined by `then`.

    The first stage is a source, the last a sink. Job options stand before the first stage, a stage's own
    options behind its word.

    \b
    aiopipe pipe read 'in/*.csv' then filter 'amount > 100' then write out/
    cat in.csv | aiopipe pipe read - then select id name then write - > out.csv
    aiopipe pipe read in/ then tee [ head 5 then write - ] [ write all/ ]

    The report goes to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done with records set
    aside (--rejects), 130 or 143 interrupted by Ctrl-C or SIGTERM, 141 the reader of standard output has gone.
    """
    from aiopipe.cli.running import execute
    from aiopipe.cli.segments import pipeline_of
    from aiopipe.job.options import JobOptions

    typed = job_given(params)
    return execute(pipeline_of(stages), JobOptions.build(typed))
