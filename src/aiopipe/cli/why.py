"""`aiopipe why`, `status` and `verify`: what the ledger of a directory or a table says."""

from __future__ import annotations

import json
import sys

import click

from aiopipe.errors import EXIT_DONE, EXIT_FAILED

__all__ = ["status", "verify", "why"]


@click.command(context_settings={"max_content_width": 80})
@click.argument("path", metavar="PATH", type=click.Path())
@click.option(
    "--in", "destination", metavar="DEST", type=click.Path(), help="the directory or table that PATH is written into"
)
def why(path: str, destination: str | None) -> int:
    """Say in a sentence what the next run would do about PATH, and why.

    PATH is an output, or an input: then --in names the directory with the outputs, or the table.

    \b
    aiopipe why clean/2024/a.csv
    aiopipe why incoming/2024/a.csv --in clean/
    aiopipe why incoming/2024/a.csv --in 'sqlite:///sales.db#sales'

    The answer is about the pipeline that ran into that directory or table last. Exit code 1 where PATH is not up to
    date.
    """
    from aiopipe.job.inspect import why as found

    answer = found(path, destination)
    click.echo(str(answer))
    return EXIT_DONE if answer.up_to_date else EXIT_FAILED


@click.command(context_settings={"max_content_width": 80})
@click.argument("directory", metavar="DEST", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="as a JSON object")
def status(directory: str, as_json: bool) -> int:
    """Show what is done, failed, running and rejected in a directory that pipelines write into.

    \b
    aiopipe status clean/
    aiopipe status 'sqlite:///sales.db#sales'

    A run may be on meanwhile: it is not disturbed. DEST may be a table: what failed or is running is not on record
    there.
    """
    from aiopipe.job.inspect import status as found

    answer = found(directory)
    click.echo(json.dumps(answer.as_mapping(), indent=2, ensure_ascii=False) if as_json else str(answer))
    return EXIT_DONE


@click.command(context_settings={"max_content_width": 80})
@click.argument("directory", metavar="DEST", type=click.Path())
def verify(directory: str) -> int:
    """Read every output in a directory and compare it with the ledger; name what is damaged or missing.

    \b
    aiopipe verify clean/
    aiopipe verify 'sqlite:///sales.db#sales'

    The next run makes it anew. Of a table the rows of each file are counted; their values are not on record. Exit
    code 1 where something was found.
    """
    from aiopipe.job.inspect import verify as found

    answer = found(directory)
    for line in answer.problems:
        click.echo(line)
    click.echo(str(answer), file=sys.stderr)
    return EXIT_FAILED if answer.problems else EXIT_DONE
