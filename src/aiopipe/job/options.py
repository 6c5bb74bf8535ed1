"""The options of a run, declared once for `aiopipe pipe`, `aiopipe run` and the [job] table of a pipeline file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from aiopipe.options import normalise, option, options_of
from aiopipe.storage.home import refuse_tilde

__all__ = ["DOOR", "JobOptions"]

# What only a door can do: a library's caller imports modules, chooses the loop and shows progress itself.
DOOR = ("progress", "uvloop", "watch", "settle", "import_")


@dataclass(frozen=True)
class JobOptions:
    """How a pipeline is run. All but those in DOOR are keyword arguments of Pipeline.run as well."""

    rejects: str | None = option(
        None, metavar="FILE", help="set bad records aside in FILE (.csv or .jsonl) and go on; exit code 3"
    )
    max_rejects: int | None = option(None, kind="int", metavar="N", help="stop when more than N are set aside")
    workers: int | None = option(
        None, kind="int", metavar="N", help="threads or processes for computing (default: the number of cores)"
    )
    memory: Any = option(128_000_000, kind="size", metavar="SIZE", help="bytes in flight, about (default: 128MB)")
    keep_going: bool | None = option(
        None,
        kind="flag",
        help="a file that fails lets the others be made (write DIRECTORY/); exit code 1 all the same"
        " (default: only where a worker process dies or hangs)",
    )
    retries: int = option(
        1, kind="int", metavar="N", help="how often to try again when a worker dies or input changes (default: 1)"
    )
    force: bool = option(False, kind="flag", help="do everything again, also what is done and unchanged")
    prune: bool = option(
        False, kind="flag", help="remove outputs, of earlier runs into this directory, whose input is gone"
    )
    ledger: bool | None = option(
        None, kind="flag", help="keep a record of finished files in DIRECTORY/.aiopipe (default: for directories)"
    )
    shutdown_timeout: Any = option(
        25.0,
        kind="time",
        metavar="TIME",
        help="how long a run that is asked to stop may finish what is in flight (default: 25s)",
    )
    report: str | None = option(None, metavar="FILE", help="write the report to FILE as JSON")
    debug: bool = option(
        False, kind="flag", help="name what holds the event loop and what is never awaited; full tracebacks"
    )
    progress: bool | None = option(
        None, kind="flag", help="show progress on standard error (default: where it is a terminal)"
    )
    uvloop: bool = option(False, kind="flag", help="run in uvloop's event loop (pip install 'aiopipe-csv[uvloop]')")
    watch: bool = option(
        False, kind="flag", help="go on until a signal comes, and process files as they arrive and settle"
    )
    settle: Any = option(
        2.0, kind="time", metavar="TIME", help="with --watch: how long a file must not have changed (default: 2s)"
    )
    import_: Any = option(
        (), kind="texts", metavar="MODULE", help="import a module or file.py first, for its @stage stages"
    )

    word = ""

    def __post_init__(self) -> None:
        normalise(self)
        refuse_tilde(self.rejects, "rejects")
        refuse_tilde(self.report, "report")

    @classmethod
    def build(cls, *given: Mapping[str, Any]) -> JobOptions:
        """From options by their keys; later mappings win."""
        names = {o.key: o.name for o in options_of(cls)}
        return cls(**{names[key]: value for options in given for key, value in options.items()})

    def arguments(self) -> dict[str, Any]:
        """What Pipeline.run gets."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in DOOR}
