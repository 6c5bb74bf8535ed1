"""`aiopipe explain`: what a pipeline will do, without running it."""

from __future__ import annotations

from typing import Any

import click

from aiopipe.cli.completion import complete_chain
from aiopipe.cli.job import job_given, job_options
from aiopipe.errors import UsageError

__all__ = ["explain"]


@click.command(context_settings={"allow_interspersed_args": False, "max_content_width": 80})
@job_options("workers", "memory", "import_")
@click.option("settings", "--set", multiple=True, metavar="STAGE.OPTION=VALUE", help="as for aiopipe run")
@click.argument(
    "what",
    nargs=-1,
    type=click.UNPROCESSED,
    metavar="FILE | STAGE ... then STAGE ...",
    shell_complete=complete_chain,
)
def explain(what: tuple[str, ...], settings: tuple[str, ...], **params: Any) -> int:
    """Show what a pipeline will do: its stages, the types of columns, what runs where.

    FILE is a pipeline file; the word of a stage begins a pipeline as for `aiopipe pipe`. A sample of the input
    is read for the types of the columns that expressions name; nothing is written.
    """
    import asyncio

    from aiopipe.cli.segments import pipeline_of
    from aiopipe.job.explain import explain as explained
    from aiopipe.job.options import JobOptions
    from aiopipe.pipefile import load
    from aiopipe.stages import words

    typed = job_given(params)
    if not what:
        raise UsageError("nothing to explain", hint="name a pipeline file, or write a pipeline as for aiopipe pipe")
    if what[0] in words() or "then" in what:
        if settings:
            raise UsageError("--set changes a pipeline file", stage="--set", hint="write the option itself")
        pipeline, job = pipeline_of(what), JobOptions.build(typed)
    elif len(what) > 1:
        raise UsageError(f"{what[1]!r} is one argument too many", hint="name one pipeline file; options come first")
    else:
        found = load(what[0], settings)
        pipeline, job = found.pipeline, JobOptions.build(found.job, typed)
    click.echo(asyncio.run(explained(pipeline, workers=job.workers, memory=job.memory)))
    return 0
