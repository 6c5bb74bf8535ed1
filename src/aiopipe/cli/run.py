"""`aiopipe run`: a pipeline file."""

from __future__ import annotations

from typing import Any

import click

from aiopipe.cli.job import job_given, job_options

__all__ = ["run"]


@click.command(context_settings={"max_content_width": 80})
@job_options()
@click.option(
    "settings",
    "--set",
    multiple=True,
    metavar="STAGE.OPTION=VALUE",
    help="change an option of the file: --set head.count=5, or --set filter#2.where='x > 1' where a stage"
    " stands twice  (may be repeated)",
)
@click.argument("file", metavar="FILE", type=click.Path())
def run(file: str, settings: tuple[str, ...], **params: Any) -> int:
    """Run the pipeline file FILE (TOML).

    Options given here win over those in the file's [job] table. Paths in the file are relative to the current
    directory, not to the file.

    \b
    [job]
    rejects = "rejects.csv"
    [[stage]]
    use = "read"
    paths = ["incoming/**/*.csv"]
    [[stage]]
    use = "filter"
    where = "amount > 100"
    [[stage]]
    use = "write"
    to = "clean/"

    The report goes to standard error; exit codes are those of `aiopipe pipe`.
    """
    from aiopipe.cli.running import execute
    from aiopipe.job.options import JobOptions
    from aiopipe.pipefile import load

    typed = job_given(params)
    found = load(file, settings)
    return execute(found.pipeline, JobOptions.build(found.job, typed), found.name)
