"""The command line. Click only; each command's heavy imports happen when it runs, so `--help` stays quick."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Sequence

import click

from aiopipe.errors import EXIT_DONE, EXIT_INTERRUPTED, AiopipeError, UsageError

# word -> (module, attribute, one line of help). A table and not imports: `aiopipe --help` must answer
# in under 150 ms, so a command's module is imported only when that command runs.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "pipe": ("aiopipe.cli.pipe", "pipe", "Run a pipeline written as stages joined by `then`."),
    "run": ("aiopipe.cli.run", "run", "Run a pipeline file (TOML)."),
    "replay": ("aiopipe.cli.replay", "replay", "Run records that were set aside again, and put in what passes."),
    "explain": ("aiopipe.cli.explain", "explain", "Show the plan of a pipeline; reads only a sample."),
    "why": ("aiopipe.cli.why", "why", "Say why a file is, or is not, up to date."),
    "status": ("aiopipe.cli.why", "status", "Show what is done, failed and running in a directory."),
    "verify": ("aiopipe.cli.why", "verify", "Compare the outputs in a directory with its ledger."),
    "stages": ("aiopipe.cli.stages", "stages", "List the stages, or show one."),
    "hash": ("aiopipe.cli.hash", "hash_", "Print the digests of files and trees."),
    "check": ("aiopipe.cli.check", "check", "Check files against a manifest."),
    "audit": ("aiopipe.cli.audit", "audit", "Say what changed, moved, rotted or is new since a manifest."),
    "diff": ("aiopipe.cli.diff", "diff", "Compare two manifests; reads no file."),
    "dupes": ("aiopipe.cli.dupes", "dupes", "Find files with the same bytes; link or delete them."),
    "bag": ("aiopipe.cli.bag", "bag", "Make or validate a bag (BagIt, RFC 8493)."),
}
# Commands that are often over in less time than Python takes to start and to clean up: see `aiopipe.__main__`.
QUICK = ("hash", "check", "dupes")


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
            gc.enable()
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: D102
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])

    def resolve_command(  # noqa: D102
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from aiopipe.errors import nearest

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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors go to stderr, each with what to do next."""
    try:
        result = group.main(args=None if argv is None else list(argv), prog_name="aiopipe", standalone_mode=False)
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
