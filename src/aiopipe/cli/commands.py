"""The command line as click has it: help, completion, complaints, and the commands that are not declared as data."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Sequence

import click

from aiopipe.cli import COMMANDS, QUICK
from aiopipe.cli.declared import Command
from aiopipe.errors import EXIT_DONE, EXIT_INTERRUPTED, AiopipeError

__all__ = ["LazyGroup", "group", "run"]


class LazyGroup(click.Group):
    """A group that knows its commands' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: D102
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: D102
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        if cmd_name not in QUICK:  # those do it when they have imported what they need
            # What a run imports and keeps is no garbage: looking through it every 700 objects takes 0.1 s.
            gc.set_threshold(50_000)
            gc.enable()
        if isinstance(command, Command):
            command = command.as_click()
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: D102
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])

    def resolve_command(  # noqa: D102
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from aiopipe.errors import UsageError, nearest

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from aiopipe.stages import words

            if args[0] in words():
                raise UsageError(f"{args[0]} is a stage, and no command", hint=f"aiopipe pipe {' '.join(args[:2])} ...")
            raise click.UsageError(f"no command {args[0]!r}; {nearest(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(package_name="aiopipe-csv", prog_name="aiopipe")
def group() -> None:
    """Pipe directories of files and CSVs through async transforms.

    Lossless, in bounded memory, with nothing half written.

    \b
    aiopipe pipe read 'in/*.csv' then filter 'amount > 100' then write out/

    Completion, for bash (zsh_source and fish_source are there as well):

    \b
    eval "$(_AIOPIPE_COMPLETE=bash_source aiopipe)"
    """


def run(words: Sequence[str]) -> int:
    """Run the command line by click and return its exit code; errors go to stderr, each with what to do next."""
    try:
        result = group.main(args=list(words), prog_name="aiopipe", standalone_mode=False)
    except click.exceptions.Abort:
        return EXIT_INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except (click.ClickException, AiopipeError) as error:
        from aiopipe.cli.failures import show_click, show_failure

        show_click(error) if isinstance(error, click.ClickException) else show_failure(error)
        return error.exit_code
    return result if isinstance(result, int) else EXIT_DONE
