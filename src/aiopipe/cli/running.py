"""Run a pipeline for the command line: signals, progress, the report on standard error, an exit code."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from aiopipe.cli.failures import exit_code_of, leaves, show_failure
from aiopipe.cli.progress import progress_shown
from aiopipe.cli.signals import Stopper
from aiopipe.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_REJECTS,
    StoppedError,
    UnitsFailedError,
    UsageError,
)
from aiopipe.job.ahead import fork, unfork
from aiopipe.job.options import JobOptions
from aiopipe.job.report import counted
from aiopipe.later import later
from aiopipe.memory import keep_freed_memory
from aiopipe.stage import Pipeline

if TYPE_CHECKING:
    from aiopipe.job.report import Report

__all__ = ["EXIT_PIPE", "execute"]

# The reader of our standard output has gone (`| head`). Quietly, and with the code that a shell gives a program
# ended by SIGPIPE, so that scripts treat us as they treat cat.
EXIT_PIPE = 141


def execute(pipeline: Pipeline, options: JobOptions, name: str = "") -> int:
    """Run to the end and give the exit code; everything there is to say is said on standard error."""
    factory = _loop_factory(options)
    if options.watch:
        from aiopipe.cli.watching import execute_watch

        return execute_watch(pipeline, options, factory)
    try:
        _own_process(pipeline, options)
        with asyncio.Runner(loop_factory=factory) as runner:
            report, signalled = runner.run(_run(pipeline, options))
        if report is None:
            click.echo("aiopipe: cancelled; nothing half was left behind, run it again", err=True)
            return signalled or EXIT_FAILED
        _print_items(report)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return EXIT_INTERRUPTED
    except Exception as error:
        if all(isinstance(e, BrokenPipeError) for e in leaves(error)):
            _silence_stdout()
            return EXIT_PIPE
        show_failure(error, debug=options.debug)
        if isinstance(error, UnitsFailedError):
            click.echo(str(error.report), err=True)
        return exit_code_of(error)
    finally:
        unfork()
    if name:
        click.echo(name, err=True)
    click.echo(str(report), err=True)
    if report.debug is not None:
        click.echo(str(report.debug), err=True)
    if report.rejected:
        click.echo(f"{counted(report.rejected, 'record')} set aside in {options.rejects}", err=True)
    if report.rejected_before:
        more = " more" if report.rejected else ""
        click.echo(
            f"{counted(report.rejected_before, 'record')}{more} set aside there earlier, of files now skipped", err=True
        )
    return signalled or (EXIT_REJECTS if report.rejected or report.rejected_before else EXIT_DONE)


def _own_process(pipeline: Pipeline, options: JobOptions) -> None:
    """What a program that imports aiopipe decides for itself, decided for this process."""
    keep_freed_memory()
    if all(stage.portable and type(stage).__module__.startswith("aiopipe.") for stage in pipeline.stages):
        # No user's function is here to do algebra: numpy need not start the threads for it, which begin by spinning.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        # Nor Arrow's allocator its own, which would tidy up memory that we do not take from it: threads forbid a fork.
        os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
        # Nor does anybody make temporary files with aiofiles, which imports shutil, random and compressors for them; or
        # ask numpy for help.
        later("aiofiles.tempfile", "numpy._core._add_newdocs", "numpy._core._add_newdocs_scalars")
    fork(pipeline.stages, options.workers)


async def _run(pipeline: Pipeline, options: JobOptions) -> tuple[Report | None, int | None]:
    """The report, or None when the run was cancelled by a second signal; and the exit code of the first one."""
    stop = asyncio.Event()
    with progress_shown(pipeline, options.progress) as progress:
        running = asyncio.ensure_future(pipeline.run(**options.arguments(), progress=progress, stop=stop))
        stopper = Stopper(running, stop)
        with stopper.listening():
            try:
                return await running, stopper.code
            except StoppedError as error:
                show_failure(error)
                return None, stopper.code
            except asyncio.CancelledError:
                if stopper.count < 2:
                    raise
                return None, stopper.code


def _loop_factory(options: JobOptions) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if not options.uvloop:
        return None
    if sys.platform == "win32":
        raise UsageError(
            "uvloop does not run on Windows", stage="--uvloop", hint="leave it out: asyncio's own loop does"
        )
    try:
        import uvloop
    except ImportError:
        raise UsageError(
            "uvloop is not installed", stage="--uvloop", hint="pip install 'aiopipe-csv[uvloop]', or leave it out"
        ) from None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _print_items(report: Report) -> None:
    """What `collect` kept, one JSON value a line: a shell has no other use for it."""
    if not report.items:
        return
    from aiopipe.codec.items import as_mapping, json_line

    for item in report.items:
        click.echo(json_line(as_mapping(item)))


def _silence_stdout() -> None:
    """Point standard output nowhere, or Python complains once more when it flushes at exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):  # replaced by something without a descriptor
        pass
    finally:
        os.close(devnull)
