"""`--watch` for the command line: rounds told on standard error, a signal that drains, an exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from aiopipe.cli.failures import exit_code_of, show_failure
from aiopipe.cli.signals import Stopper
from aiopipe.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_REJECTS
from aiopipe.job.options import JobOptions
from aiopipe.job.report import Report, counted
from aiopipe.memory import keep_freed_memory
from aiopipe.stage import Pipeline

if TYPE_CHECKING:
    from aiopipe.job.watching import Watched

__all__ = ["execute_watch"]

_Factory = Callable[[], asyncio.AbstractEventLoop]


def execute_watch(pipeline: Pipeline, options: JobOptions, factory: _Factory | None) -> int:
    """Watch until a signal comes and give the exit code.

    0: what had come to rest is done. 1: files failed, and have not changed since. 3: records are set aside.
    130, 143: the signal met a round in the midst, or files at rest are left.
    """
    keep_freed_memory()
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            watched, signalled = runner.run(_watch(pipeline, options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return EXIT_INTERRUPTED
    except Exception as error:
        show_failure(error, debug=options.debug)
        return exit_code_of(error)
    if watched is None:
        click.echo("aiopipe: cancelled; nothing half was left behind, run it again", err=True)
        return signalled or EXIT_FAILED
    click.echo(str(watched), err=True)
    if watched.unfinished:
        return signalled or EXIT_FAILED
    if watched.failed:
        return EXIT_FAILED
    return EXIT_REJECTS if watched.rejected else EXIT_DONE


async def _watch(pipeline: Pipeline, options: JobOptions) -> tuple[Watched | None, int | None]:
    from aiopipe.job.watching import watch

    def told(news: Report | Exception) -> None:
        if isinstance(news, Exception):
            show_failure(news, debug=options.debug)
            return
        click.echo(str(news).splitlines()[0], err=True)
        if news.rejected:
            click.echo(f"{counted(news.rejected, 'record')} set aside in {options.rejects}", err=True)
        if news.debug is not None and (news.debug.holds or news.debug.unawaited):
            click.echo(str(news.debug), err=True)

    stop = asyncio.Event()
    watching = asyncio.ensure_future(
        watch(pipeline, settle=options.settle, stop=stop, told=told, **options.arguments())
    )
    stopper = Stopper(watching, stop)
    with stopper.listening():
        try:
            return await watching, stopper.code
        except asyncio.CancelledError:
            if stopper.count < 2:
                raise
            return None, stopper.code
