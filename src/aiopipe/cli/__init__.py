"""The command line: which commands there are, and their outcome as an exit code.

Nothing here imports click, and commands are imported when they run: `hash` has often ended before click would be there
(see `aiopipe.cli.declared`), and `--help` stays quick. The commands as click has them are in `aiopipe.cli.commands`.
"""

from __future__ import annotations

import importlib
import os
import sys

from aiopipe.errors import EXIT_FAILED, EXIT_INTERRUPTED, AiopipeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiopipe.cli.commands import LazyGroup, group
    from aiopipe.cli.declared import Command

__all__ = ["COMMANDS", "QUICK", "LazyGroup", "group", "main"]

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
QUICK = ("hash", "check", "dupes", "audit", "diff")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors go to stderr, each with what to do next."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] and words[0] in QUICK and sys.platform != "win32" and "_AIOPIPE_COMPLETE" not in os.environ:
        from aiopipe.cli.declared import Command

        module, attribute, _ = COMMANDS[words[0]]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, Command)
        given = command.parse(words[1:])
        if given is not None:
            return _run(command, given)
    from aiopipe.cli.commands import run

    return run(words)


def _run(command: Command, given: dict[str, object]) -> int:
    """Run a command without click, which would end it in the same ways."""
    try:
        return command.run(**given)
    except (EOFError, KeyboardInterrupt):
        sys.stderr.write("\n")  # behind the ^C of the terminal
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone. What is still buffered goes nowhere, without a complaint at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except AiopipeError as error:
        from aiopipe.cli.failures import show_failure

        show_failure(error)
        return error.exit_code


def __getattr__(name: str) -> object:
    if name in ("LazyGroup", "group"):
        return getattr(importlib.import_module("aiopipe.cli.commands"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
