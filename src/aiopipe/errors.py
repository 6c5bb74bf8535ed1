"""Every error aiopipe raises on purpose, drawn once.

    AiopipeError                 exit 1
    ├── UsageError               exit 2   the pipeline, an option or a name in it is wrong
    │   ├── UnknownNameError              a stage, an option or a column that is not there
    │   └── ExpressionError               SQL that does not parse or bind, with a caret
    ├── InputError                        a path that is missing, unreadable, or changes while it is read
    │   └── ChangedError                  ... the last of these: it may be whole the next time
    ├── RecordError                       a record that breaks the rules of its file
    ├── FunctionError                     a user's function raised, or returned what it may not
    │   └── WorkerError                   ... or took its process with it, ran out of time, cannot send its result
    ├── RequestError                      a request that was refused, or got no answer that can be used
    ├── OutputError                       a target that cannot be written
    │   └── LockedError                   ... because another run is writing it
    ├── TooManyRejectsError               more records set aside than --max-rejects allows
    └── StoppedError                      asked to stop, a run did not end within its shutdown timeout

A run that went on without files that failed ends in UnitsFailedError, the ExceptionGroup of their errors.

Each message says where (path, line, record, byte) and each carries a hint: what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from aiopipe.model import Position

__all__ = [
    "AiopipeError",
    "ChangedError",
    "ExpressionError",
    "FunctionError",
    "InputError",
    "LockedError",
    "OutputError",
    "RecordError",
    "RequestError",
    "StoppedError",
    "TooManyRejectsError",
    "UnitsFailedError",
    "UnknownNameError",
    "UsageError",
    "WorkerError",
    "column_hint",
    "nearest",
]

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_REJECTS = 3
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class AiopipeError(Exception):
    """The base of all: `except AiopipeError` catches whatever aiopipe raises on purpose.

    `position` is where in the input, `stage` the word of the stage, `hint` what to do next; each may be None.
    """

    exit_code = EXIT_FAILED

    def __init__(
        self,
        message: str,
        *,
        position: Position | None = None,
        stage: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.position = position
        self.stage = stage
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.position}: " if self.position is not None else ""
        who = f"{self.stage}: " if self.stage else ""
        hint = f"\n  next: {self.hint}" if self.hint else ""
        return f"{where}{who}{self.message}{hint}"

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions pickle by args alone; these travel between processes with all they know.
        return (_rebuild, (type(self), self.message, self.position, self.stage, self.hint))


def _rebuild(
    kind: type[AiopipeError], message: str, position: Position | None, stage: str | None, hint: str | None
) -> AiopipeError:
    return kind(message, position=position, stage=stage, hint=hint)


class UsageError(AiopipeError):
    """The pipeline as written cannot run: found before it begins, or at the first file that it does not fit."""

    exit_code = EXIT_USAGE


class UnknownNameError(UsageError):
    """A stage, an option or a column that is not there."""


class ExpressionError(UsageError):
    """An SQL expression that does not parse, names no column, or cannot be evaluated record by record."""


class InputError(AiopipeError):
    """A path that is missing, unreadable, no regular file, or that changed while it was read."""


class ChangedError(InputError):
    """A file that changed while it was read."""


class RecordError(AiopipeError):
    """A record that breaks the rules of its file: ragged, unclosed quote, bad encoding, wrong type."""

    # Where the reader gave up: the file's index, its chunk, lines before the first chunk. The position counts
    # from that chunk until the job, which knows what came before it, makes it absolute.
    chunk: tuple[int, int, int] | None = None


class FunctionError(AiopipeError):
    """A user's function raised, or returned something that a stage cannot use."""


class WorkerError(FunctionError):
    """A user's function ran out of time, took its worker process with it, or gave what cannot be sent back."""


class RequestError(AiopipeError):
    """A request that was refused, got no answer, or one that cannot be used."""


class OutputError(AiopipeError):
    """A target that cannot be written."""


class LockedError(OutputError):
    """Another run writes into the same destination."""


class TooManyRejectsError(AiopipeError):
    """More records were set aside than `max_rejects` allows."""


class StoppedError(AiopipeError):
    """A run that was asked to stop did not finish what was in flight in time, and was cancelled."""


class UnitsFailedError(ExceptionGroup[AiopipeError]):
    """Some files failed, and the outputs of all others are made. report: the Report of the run."""

    def __new__(cls, message: str, errors: Sequence[AiopipeError], report: Any = None) -> Self:
        """An exception group makes itself of its message and errors."""
        return super().__new__(cls, message, errors)

    def __init__(self, message: str, errors: Sequence[AiopipeError], report: Any = None) -> None:
        super().__init__(message, errors)
        self.report = report

    def derive(self, errors: Sequence[AiopipeError]) -> UnitsFailedError:  # type: ignore[override]
        """Part of it, for `except*`."""
        return UnitsFailedError(self.message, errors, self.report)


def nearest(name: str, known: Iterable[str]) -> str:
    """A clause naming the likeliest meant name, or the first few known ones; for the end of a hint.

    >>> nearest("amuont", ["id", "amount"])
    'did you mean amount?'
    """
    import difflib  # not above: every worker process imports this module, and few of them err

    names = list(known)
    apart = [piece.strip() for piece in name.split(",")]
    if len(apart) > 1 and set(apart) <= set(names):
        return f"these are {len(apart)} names: leave the comma away, and name each by itself: {' '.join(apart)}"
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6) or [k for k in names if k.lower() == name.lower()]
    if close:
        return f"did you mean {close[0]}?"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"known: {shown}" if shown else "none are known"


def column_hint(name: str, columns: Iterable[str]) -> str:
    """What to do about a column that is not there: another delimiter, or the nearest name."""
    names = list(columns)
    other = next((d for d in ";\t|" if len(names) == 1 and d in names[0]), None)
    if other is not None:
        shown = "tab" if other == "\t" else f"'{other}'"
        return f"the header is one column with {shown} in it: read it with --delimiter {shown}"
    return nearest(name, names)
