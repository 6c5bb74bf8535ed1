"""What travels between stages, what the engine lends them, and what they tell a job about files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from aiopipe.failures import Failures

if TYPE_CHECKING:
    import os

    from aiopipe.model import FileRef, Reject
    from aiopipe.storage.groups import Groups, Readings
    from aiopipe.storage.ranges import Reached, Resumed
    from aiopipe.storage.stretches import Stretches
    from aiopipe.storage.version import Checksum
    from aiopipe.storage.write import Made

__all__ = ["Context", "Found", "Items", "Parcel", "Ranges", "Scope", "Units"]

T = TypeVar("T")


class Parcel(Protocol):
    """What travels between stages: a chunk, a batch, encoded bytes or items."""

    @property
    def nbytes(self) -> int:
        """Bytes it keeps alive, about."""
        ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Items:
    """Python objects in flight, a few hundred at a time, where a pipeline does not carry CSV records.

    noted: what a stage counted while it made them (`("kept", 3)`), for the report; the engine takes it away.
    """

    values: list[Any]
    rejects: tuple[Any, ...] = ()
    noted: tuple[tuple[str, int], ...] = ()

    @property
    def nbytes(self) -> int:
        """A guess: what objects weigh nobody knows cheaply."""
        return 100 * len(self.values)

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a stage may know of the records that reach it, decided once for the whole job.

    types: canonical type of each column, as told or as seen in the sample. doubts: columns that look like
    numbers but for one token, with the token and where it stands. nulls: tokens that mean "no value".
    complete: no record has columns other than those in types, as far as the sample shows.
    """

    types: Mapping[str, str] = field(default_factory=dict)
    doubts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    nulls: frozenset[str] = frozenset()
    complete: bool = False


class Ranges(Protocol):
    """What a reader and a sink tell a job about large files, so that they can be gone on with in their middle.

    See aiopipe.job.ranges, which is what they get.
    """

    def begin(self, file: FileRef) -> Resumed | None:
        """Where to begin with a file, if an earlier run got somewhere; None for its first byte. In the loop."""
        ...

    def cut(self, file: FileRef, part: int, byte: int) -> None:
        """Chunk number `part` of a file begins at this byte, and at a record. In the loop."""
        ...

    def resumed(self, file: FileRef) -> Resumed | None:
        """What `begin` said."""
        ...

    def mark(self, file: FileRef, part: int) -> Reached | None:
        """All chunks before `part` have come to the sink: what it must complete, and give to `keep`. In the loop.

        None where the file cannot be gone on with.
        """
        ...

    def keep(self, file: FileRef, reached: Reached) -> None:
        """What came of a file up to there is on the disk. Blocks."""
        ...


class Units(Protocol):
    """What sources and sinks tell a job that keeps a ledger; see aiopipe.job.units, which is what they get.

    ranges: what is told of large files; None where none is gone on with in its middle.
    """

    @property
    def ranges(self) -> Ranges | None:
        """See above."""
        ...

    def expect(self, files: Sequence[FileRef]) -> None:
        """These files are asked about next, in this order. Blocks."""
        ...

    def wants(self, file: FileRef) -> bool:
        """Whether a file is to be read: False for one that is done and unchanged. Blocks."""
        ...

    def reading(self, file: FileRef, status: os.stat_result) -> Checksum:
        """A file was opened: what all of its bytes are to be fed to. Any thread."""
        ...

    def was_read(self, file: FileRef, status: os.stat_result, data: bytes) -> None:
        """A file was read in one go: its status, and its bytes. Any thread."""
        ...

    def were_read(self, tickets: Sequence[Any], readings: Readings) -> None:
        """Files were read by somebody who could not tell as he did: how they were. In the loop."""
        ...

    def again(self, lost: FileRef, file: FileRef) -> None:
        """The attempt to read `lost` is given up: the same file comes once more as `file`. Blocks."""
        ...

    def complete(self, file: FileRef, records: int) -> Any:
        """All of a file's records have reached the sink, `records` of them; a ticket for the rest. In the loop."""
        ...

    def ready(self, tickets: Sequence[Any]) -> None:
        """To be called before the first output of these units is renamed into place. Blocks."""
        ...

    def commit(self, done: Sequence[tuple[Any, Sequence[Made]]]) -> None:
        """The outputs of these units are visible and synced. Blocks."""
        ...


@dataclass(slots=True, eq=False, repr=False)
class Found:
    """What a source came upon: files begun and paths passed over with the reason, for the report.

    streams: those that were opened, and read a little, before the run; by path. given: whose the streams are that are
    no paths, and what opens them by their name. failures: files that failed. cut: a source stopped reading because of
    `stopping`, before the end of its input. units: who wants to know about files, where the job keeps a ledger.
    refuse: a sink tells of records that it cannot write, in order; raises where that ends the run. tolerant: whether
    records may be set aside. groups: small files may travel unread, as these; None where they may not.
    stretches: the same of large files.
    """

    files: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    streams: dict[str, Any] = field(default_factory=dict)
    given: dict[str, tuple[object, Callable[[str], Awaitable[Any]]]] = field(default_factory=dict)
    failures: Failures = field(default_factory=Failures)
    cut: bool = False
    units: Units | None = None
    refuse: Callable[[Sequence[Reject]], None] = field(default=lambda rejects: None)
    tolerant: bool = False
    groups: Groups | None = None
    stretches: Stretches | None = None

    def name(self, shown: str, owner: object, opened: Callable[[str], Awaitable[Any]]) -> str:
        """What a stream that is no path is called: `shown`, and a number where another owner's is called so."""
        name, number = shown, 1
        while self.given.get(name, (owner,))[0] != owner:
            number += 1
            name = f"{shown} ({number})"
        self.given[name] = (owner, opened)
        return name


class Context(Protocol):
    """What the engine lends to stages that run in the event loop."""

    workers: int
    memory: int
    found: Found

    def hop(self, function: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        """Run a function off the loop, in the pool for computing."""
        ...

    def io(self, function: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        """Run a blocking system call off the loop, in the pool for files."""
        ...

    @property
    def stopping(self) -> bool:
        """True once the run was asked to stop: sources end at the next boundary."""
        ...
