"""`aiopipe replay`: the records of a rejects file, once more through the mended pipeline."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from aiopipe.cli.job import job_given, job_options
from aiopipe.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_REJECTS, UsageError
from aiopipe.stage import Pipeline

__all__ = ["replay"]

_OPTIONS = ("rejects", "workers", "memory", "retries", "debug", "import_")


@click.command(
    context_settings={"allow_interspersed_args": False, "max_content_width": 80},
    options_metavar="[OPTIONS]",
)
@job_options(*_OPTIONS)
@click.option(
    "settings", "--set", multiple=True, metavar="STAGE.OPTION=VALUE", help="change an option of the pipeline file"
)
@click.argument("file", metavar="REJECTS", type=click.Path())
@click.argument("pipeline", nargs=-1, type=click.UNPROCESSED, metavar="PIPELINE")
def replay(file: str, pipeline: tuple[str, ...], settings: tuple[str, ...], **params: Any) -> int:
    """Run the records in REJECTS, and only those, through the mended PIPELINE.

    REJECTS is what --rejects wrote. PIPELINE is a file (TOML), or stages joined by `then`: the one that set the
    records aside, into the same directory, with what is mended: its functions, --null, --max-record. Records can be
    mended as well, in the column raw of REJECTS. What passes now is put into its place in the outputs; what does
    not stays in REJECTS.

    \b
    aiopipe run job.toml
    aiopipe replay bad.csv read in then map functions.py:mended then write out/

    It works where each stage looks at one record, and the directory has a ledger (see aiopipe status). Where the
    output is a new file, or -, it gets what passes by itself, and --rejects names a file for the rest.

    Exit codes: 0 all passed, 3 some are still set aside, 1 it cannot be done (the message says what to do instead),
    2 wrong usage.
    """
    given = job_given(params)
    from aiopipe.job.options import JobOptions

    found, job = _pipeline(pipeline, settings)
    options = JobOptions.build({k: v for k, v in job.items() if k in ("workers", "memory", "retries")}, given)
    return _execute(found, file, options)


def _pipeline(words: tuple[str, ...], settings: tuple[str, ...]) -> tuple[Pipeline, dict[str, Any]]:
    """The pipeline that is meant, and the job options of its file."""
    if not words:
        raise UsageError("no pipeline", hint="name the pipeline file behind the rejects file, or write read ... then")
    if len(words) == 1 and words[0].endswith(".toml"):
        from aiopipe.pipefile import load

        made = load(words[0], settings)
        return made.pipeline, dict(made.job)
    if settings:
        raise UsageError("--set without a pipeline file", hint="change the stages themselves")
    from aiopipe.cli.segments import pipeline_of

    return pipeline_of(words), {}


def _execute(pipeline: Pipeline, file: str, options: Any) -> int:
    from aiopipe.cli.failures import exit_code_of, show_failure
    from aiopipe.job.report import counted
    from aiopipe.memory import keep_freed_memory

    keep_freed_memory()
    try:
        made = asyncio.run(
            pipeline.replay(
                file,
                rejects=options.rejects,
                workers=options.workers,
                memory=options.memory,
                retries=options.retries,
            )
        )
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo("aiopipe: cancelled; nothing half was left behind, run it again", err=True)
        return EXIT_INTERRUPTED
    except Exception as error:
        show_failure(error, debug=options.debug)
        return exit_code_of(error)
    click.echo(str(made), err=True)
    if made.left:
        click.echo(f"{counted(made.left, 'record')} still set aside in {options.rejects or file}", err=True)
    return EXIT_REJECTS if made.left else EXIT_DONE
