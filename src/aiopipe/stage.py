"""Stages, and the pipelines that `|` makes of them.

A stage is a frozen dataclass: its fields are its options, its docstring its help, and it does nothing by
itself. There are three kinds: a Source begins a pipeline, a Sink ends it, Transforms stand between. A
transform has one of two shapes and no third:

- Apply: `apply(batch, scope) -> batch`, pure and synchronous. Neighbours are fused into one hop off the
  event loop, in a thread or a process.
- Flow: `flow(parcels, context)`, an async generator with memory, which runs in the event loop.

`Source | Transform` is a Stream, which can be iterated; a Stream with a Sink is a Pipeline, which can be run.
`Transform | Sink` is a Branch: what a FanOut (tee, route) gives records to, or the end of several pipelines. A
FanIn (merge) is a source made of Streams. So a pipeline stays a list of stages, and can be a tree.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from aiopipe.context import Context, Found, Items, Parcel, Ranges, Scope, Units
from aiopipe.errors import UsageError
from aiopipe.options import normalise

if TYPE_CHECKING:
    from aiopipe.engine.remote import Remotes
    from aiopipe.job.replay import Replayed
    from aiopipe.job.report import Report
    from aiopipe.job.stream import RowStream
    from aiopipe.job.watching import Watched
    from aiopipe.model import FileRef

__all__ = [
    "Apply",
    "Branch",
    "Chain",
    "Context",
    "FanIn",
    "FanOut",
    "Flow",
    "Found",
    "Items",
    "Parcel",
    "Pipeline",
    "Ranges",
    "Row",
    "Scope",
    "Shares",
    "Sink",
    "Source",
    "Stage",
    "Stream",
    "Transform",
    "Units",
    "branch_of",
    "every_stage",
    "join",
    "stream_of",
]

Row = dict[str, str]
T = TypeVar("T")


# The kinds have no fields of their own: what is generated for Stage does for them, and a dataclass takes 0.5 ms.
@dataclass(frozen=True, repr=False)
class Stage:
    """The base of all stages. `word` is what the shell and the pipeline file call it."""

    word: ClassVar[str] = ""
    example: ClassVar[str] = ""
    # Its share of a hop depends on nothing but its options and needs no user code: any process may do it.
    portable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        normalise(self)

    @property
    def per_unit(self) -> bool:
        """Whether what it does for one input file depends on that file alone, so that it can be redone alone."""
        return False

    @property
    def per_record(self) -> bool:
        """Whether what becomes of a record depends on that record alone: a file can be gone on with in its middle."""
        return False

    def fingerprint(self) -> Mapping[str, str]:
        """What has a say in the output and is in no option, by name: a change makes finished files be done again."""
        return {}

    @classmethod
    def build(cls, options: Mapping[str, Any]) -> Stage:
        """Make the stage from named options, as the shell and the pipeline file have them."""
        return cls(**options)

    @property
    def held(self) -> Mapping[str, Any]:
        """Options whose value is an object of the program, which no file can hold, by the option's name."""
        return {}

    def __repr__(self) -> str:
        shown = []
        for f in fields(self):
            declared = f.metadata.get("aiopipe")
            value = getattr(self, f.name)
            if declared is None or value == f.default:
                continue
            text = repr(self.held[f.name]) if f.name in self.held else _shown(value, declared["kind"])
            shown.append(text if declared["positional"] else f"{f.name}={text}")
        return f"{type(self).__name__}({', '.join(shown)})"


def _shown(value: Any, kind: str) -> str:
    """An option's value as a person would write it; still Python that makes the same stage."""
    if kind == "pairs" and len(dict(value)) == len(value):
        return repr(dict(value))
    if kind == "texts" and isinstance(value, tuple):
        return repr(value[0]) if len(value) == 1 else repr(list(value))
    return repr(value)


class Source(Stage):
    """The beginning of a pipeline. gives: "records", "files" or "items"."""

    gives: ClassVar[str] = "records"
    # Whether it sets `context.found.cut` itself where it ends early; of others that are asked to stop it is assumed.
    tells_cut: ClassVar[bool] = False

    def open(self, context: Context) -> AsyncIterator[Parcel]:
        """The parcels, in order; an async generator that the engine closes early when nobody wants more."""
        raise NotImplementedError

    def files(self) -> Iterator[FileRef] | None:
        """The files that it would read, in order; None for a source that reads none. Blocks."""
        return None

    async def survey(self, context: Context, wanted: frozenset[str]) -> Scope:
        """What a sample of the input tells; called once before the run, only if a stage asks for types.

        wanted: the columns that expressions name, in lower case; the types of others are nobody's concern.
        """
        return Scope()

    @overload
    def __or__(self, other: Sink | Branch) -> Pipeline: ...
    @overload
    def __or__(self, other: Transform | Chain | Callable[..., Any]) -> Stream: ...
    def __or__(self, other: Any) -> Stream | Pipeline:
        made: Stream | Pipeline = Stream((self,)) | other
        return made

    def stream(self, **job: Any) -> RowStream:
        """What the source gives, one by one; see Stream.stream."""
        return Stream((self,)).stream(**job)


class Transform(Stage):
    """A stage in the middle. takes: the kinds it can work on."""

    takes: ClassVar[tuple[str, ...]] = ("records",)
    regroups: ClassVar[bool] = False  # several become one, or one several, and none is lost or added

    def gives(self, kind: str) -> str:
        """The kind of what comes out when `kind` goes in."""
        return kind

    def narrow(self, scope: Scope) -> Scope:
        """What is known of the records behind this stage, given what is known before it.

        ExpressionError or UnknownNameError where the stage cannot work on such records.
        """
        return scope

    def mentions(self) -> frozenset[str]:
        """The columns whose types the stage needs to know, or under new names hands on."""
        return frozenset()

    @property
    def expressions(self) -> tuple[str, ...]:
        """The SQL expressions of the stage."""
        return ()

    @property
    def wants_types(self) -> bool:
        """True when an expression of this stage names columns, so that a sample must be taken."""
        return bool(self.expressions)

    def ready(self) -> Transform:
        """The stage as it runs, with what it needs from elsewhere (a key); called once before a run, off the loop.

        UsageError where that is missing: nothing has been written then. `explain` does without.
        """
        return self

    @property
    def placement(self) -> str:
        """Where its work runs: "loop", "thread" or "process"."""
        return "thread"

    @overload
    def __or__(self, other: Sink | Branch) -> Branch: ...
    @overload
    def __or__(self, other: Transform | Chain | Callable[..., Any]) -> Chain: ...
    def __or__(self, other: Any) -> Chain | Branch:
        made: Chain | Branch = Chain((self,)) | other
        return made


class Apply(Transform):
    """A transform without memory: one batch in, one batch out, any placement."""

    @property
    def per_unit(self) -> bool:
        """True: it has no memory."""
        return True

    @property
    def per_record(self) -> bool:
        """True of ours. One of your own gets whole batches, and may look at records together: it says itself."""
        return type(self).__module__.startswith("aiopipe.")

    def apply(self, batch: Any, scope: Scope) -> Any:
        """The batch transformed. Pure: the same batch and scope give the same result, in any process."""
        raise NotImplementedError

    def carries(self, scope: Scope) -> tuple[Any, ...]:
        """What is sent along to another process, so that `apply` need not make it there: unpickling it is enough."""
        return ()


class Flow(Transform):
    """A transform with memory: an async generator over all batches, in the event loop."""

    @property
    def placement(self) -> str:
        """Flows live in the loop; their heavy work goes through `context.hop`."""
        return "loop"

    def flow(self, parcels: AsyncIterator[Any], scope: Scope, context: Context) -> AsyncIterator[Any]:
        """The parcels transformed; returning early tells everything upstream to stop."""
        raise NotImplementedError


class Sink(Stage):
    """The end of a pipeline."""

    @property
    def home(self) -> str | None:
        """The directory that its outputs go to and that keeps the job's ledger; None where there is none."""
        return None

    def output_of(self, relative: str) -> str:
        """The path of the output for an input at `relative` below the job's root, where there is one for each."""
        return relative

    takes: ClassVar[tuple[str, ...]] = ("records", "files", "items")
    as_they_are: ClassVar[tuple[str, ...]] = ()  # what needs no `encode`, and so no thread that does nothing

    def encode(self, parcel: Any, kind: str) -> Any:
        """The part of the work that needs no memory; fused with the transforms before it."""
        return parcel

    async def consume(self, parcels: AsyncIterator[Any], context: Context) -> Outcome:
        """Take everything and make it visible."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Shares:
    """A parcel divided among the branches of a FanOut: each record stands in one of `parts`, or in none."""

    parts: tuple[Any, ...]
    rejects: tuple[Any, ...] = ()

    @property
    def nbytes(self) -> int:
        """The parts are views of one batch: its bytes are alive once."""
        return max((p.nbytes for p in self.parts), default=0)

    @property
    def segments(self) -> tuple[Any, ...]:
        """The files that the records come from, the same in every part."""
        return getattr(self.parts[0], "segments", ()) if self.parts else ()

    def __len__(self) -> int:
        return sum(map(len, self.parts))


class FanOut(Sink):
    """A sink of sinks: ends the trunk of a pipeline and gives what comes to its branches.

    With `divides`, `shares` says which record goes where, off the loop; else every branch gets everything.
    """

    divides: ClassVar[bool] = False

    @property
    def named_branches(self) -> tuple[tuple[str, Branch], ...]:
        """The branches in order, each with what reports and plans call it."""
        raise NotImplementedError

    def shares(self, batch: Any, scope: Scope) -> Shares:
        """The batch divided among the branches."""
        raise NotImplementedError

    def narrow(self, scope: Scope) -> Scope:
        """What the branches know of their records; raises where the stage cannot work on such."""
        return scope

    def mentions(self) -> frozenset[str]:
        """The columns whose types the stage needs to know."""
        return frozenset()

    @property
    def expressions(self) -> tuple[str, ...]:
        """The SQL expressions of the stage."""
        return ()

    @property
    def wants_types(self) -> bool:
        """True when an expression of this stage names columns."""
        return bool(self.expressions)


class FanIn(Source):
    """A source of sources: its inputs are streams, and it gives what they give, in order or as it comes."""

    @property
    def inputs(self) -> tuple[Stream, ...]:
        """The streams."""
        raise NotImplementedError

    @property
    def in_order(self) -> bool:
        """Whether an input begins only when the one before it has ended."""
        return True


@dataclass(slots=True)
class Outcome:
    """What a sink did.

    records, files, nbytes: of outputs that are visible. unfinished: records that came, but whose output was
    not completed (the run was asked to stop). items: what `collect` kept. rejected: records that it set aside.
    """

    records: int = 0
    unfinished: int = 0
    files: int = 0
    nbytes: int = 0
    items: list[Any] = field(default_factory=list)
    rejected: int = 0


def lift(other: object) -> tuple[Stage, ...]:
    """A stage, a chain or a plain callable as stages; UsageError for anything else."""
    if isinstance(other, Stage):
        return (other,)
    if isinstance(other, (Chain, Branch)):
        return other.stages
    if callable(other):
        from aiopipe.stages.map import Map

        return (Map(other),)
    raise UsageError(f"{other!r} is no stage", hint="put a stage, or a function of one row, behind |")


@dataclass(frozen=True, repr=False)
class Chain:
    """Transforms joined by `|`, not yet behind a source: a piece that several pipelines can share."""

    stages: tuple[Stage, ...]

    @overload
    def __or__(self, other: Sink | Branch) -> Branch: ...
    @overload
    def __or__(self, other: Transform | Chain | Callable[..., Any]) -> Chain: ...
    def __or__(self, other: Any) -> Chain | Branch:
        more = lift(other)
        _refuse(self.stages, more)
        stages = self.stages + more
        return Branch(stages) if isinstance(stages[-1], Sink) else Chain(stages)

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.stages))


@dataclass(frozen=True, repr=False)
class Branch:
    """Transforms and a sink, without a source: what `Tee` and `Route` give records to, or a pipeline's end."""

    stages: tuple[Stage, ...]

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.stages))


@dataclass(frozen=True, repr=False)
class Stream:
    """A source with transforms behind it. Iterate it with `stream()`, or end it with a sink and run it."""

    stages: tuple[Stage, ...]

    @overload
    def __or__(self, other: Sink | Branch) -> Pipeline: ...
    @overload
    def __or__(self, other: Transform | Chain | Callable[..., Any]) -> Stream: ...
    def __or__(self, other: Any) -> Stream | Pipeline:
        more = lift(other)
        _refuse(self.stages, more)
        stages = self.stages + more
        return Pipeline(stages) if isinstance(stages[-1], Sink) else Stream(stages)

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.stages))

    def stream(self, **job: Any) -> RowStream:
        """The rows, one by one: `async with stream.stream() as rows: async for row in rows: ...`.

        Leaving the block early stops the run and closes its files at once. `job`: as for Pipeline.run.
        """
        from aiopipe.job.stream import RowStream

        return RowStream(self, job)


@dataclass(frozen=True, repr=False)
class Pipeline:
    """A source, transforms and a sink: what can be run, explained, compared and written to a file."""

    stages: tuple[Stage, ...]

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.stages))

    if not TYPE_CHECKING:  # for a type checker there is no such operator, and it says so at the line

        def __or__(self, other: Any) -> Any:
            """Refuse: something stands behind the sink."""
            _refuse(self.stages, lift(other))
            return NotImplemented

    async def run(
        self,
        *,
        rejects: str | None = None,
        max_rejects: int | None = None,
        workers: int | None = None,
        memory: int | str = "128MB",
        progress: Any = None,
        stop: Any = None,
        report: str | None = None,
        debug: bool = False,
        keep_going: bool | None = None,
        retries: int = 1,
        force: bool = False,
        prune: bool = False,
        ledger: bool | None = None,
        shutdown_timeout: float | str = 25.0,
    ) -> Report:
        """Run to the end and return the report.

        rejects: a file for records set aside; without it the first such record ends the run.
        max_rejects: how many may be set aside before the run is stopped. workers: threads (or processes) for
        computing, the number of cores if not given. memory: bytes in flight, about (`"64MB"`).
        progress: a function called with the running totals. stop: an asyncio.Event; once set, reading stops
        and what is in flight is finished. report: a file for the report, as JSON. debug: find the lines
        that hold the event loop and coroutines never awaited, for `report.debug`. Failures arrive in one
        ExceptionGroup.

        keep_going: a file that fails (it cannot be read, a record or a function is at fault and nothing is set aside,
        a worker died) leaves no new output, the others are made, and the run ends in UnitsFailedError with the errors
        and the report; only where each file is made into its own output. If it is not given, that is so for files that
        take a worker process with them, or whose calls hang; False ends the run at these as well. retries: how often an
        attempt is made again that a worker took with it, or during which the input changed.

        A run that writes to a directory keeps a ledger there, in .aiopipe/, and passes over inputs that are done
        and unchanged; ledger=False keeps none. force: do them all the same. prune: remove outputs, on record in
        the ledger, whose input is gone. shutdown_timeout: seconds that a run has to finish what is in flight once
        `stop` is set; then it is cancelled and raises StoppedError.
        """
        from aiopipe.imports import off_the_loop

        job, remotes = await off_the_loop(partial(_ahead, self.stages, workers), _undone)
        try:
            made: Report = await job.run(
                self,
                remotes=remotes,
                rejects=rejects,
                max_rejects=max_rejects,
                workers=workers,
                memory=memory,
                progress=progress,
                stop=stop,
                report=report,
                debug=debug,
                keep_going=keep_going,
                retries=retries,
                force=force,
                prune=prune,
                ledger=ledger,
                shutdown_timeout=shutdown_timeout,
            )
        finally:
            remotes.close()  # nothing to do, unless the run was refused before it began
        return made

    async def replay(
        self,
        file: str,
        *,
        rejects: str | None = None,
        workers: int | None = None,
        memory: int | str = "128MB",
        retries: int = 1,
    ) -> Replayed:
        """Run the records of a rejects file again, through this pipeline as it is now; what became of them.

        Where it writes to a directory with a ledger, what passes goes into its place in the outputs, and what does not
        stays in the file. The pipeline is the one that set the records aside, with mended functions, `null` or
        `max_record`; or the records themselves are mended, in the column raw of the file. InputError and UsageError
        say what cannot be replayed: then run the pipeline again.

        Elsewhere the sink gets what passes by itself; `rejects` is then a file for what does not.
        workers, memory, retries: as for `run`. The rejects file is held in memory.
        """
        from aiopipe.imports import off_the_loop

        await off_the_loop(lambda: None, lambda _: None)
        from aiopipe.job.replay import replay

        return await replay(self, file, rejects=rejects, workers=workers, memory=memory, retries=retries)

    async def watch(self, *, settle: float | str = 2.0, stop: Any = None, told: Any = None, **job: Any) -> Watched:
        """Run again and again, over files of the input as they arrive, until the asyncio.Event `stop` is set.

        settle: how long a file must not have changed. told: a function called with the Report of each round and
        with each exception, which ends no watch. job: as for `run`. It needs a directory to write to, because its
        ledger knows what is done, and `pip install 'aiopipe-csv[watch]'`.
        """
        from aiopipe.job.watching import watch

        return await watch(self, settle=settle, stop=stop, told=told, **job)

    def run_sync(self, **job: Any) -> Report:
        """`run` for plain code, also inside a thread of an async program; `job` as for `run`."""
        from aiopipe.job.sync import run_sync

        return run_sync(self, job)

    def explain(self, *, workers: int | None = None, memory: int | str = "128MB") -> str:
        """The plan as written and as run, as text; a sample of the input is read for the types of columns.

        In a running event loop use `await aiopipe.job.explain.explain(pipeline)`.
        """
        import asyncio

        from aiopipe.job.explain import explain

        return asyncio.run(explain(self, workers=workers, memory=memory))


def _ahead(stages: tuple[Stage, ...], workers: int | None) -> Remotes:
    """What a run begins with, before it imports what it needs; in a thread, and so is this import."""
    from aiopipe.job.ahead import begun

    return begun(stages, workers)


def _undone(remotes: Remotes) -> None:
    remotes.close()


def _refuse(before: tuple[Stage, ...], more: tuple[Stage, ...]) -> None:
    """Refuse what cannot stand where it is put, at the moment it is put there."""
    for stage in more:
        name = type(stage).__name__
        if isinstance(stage, Source):
            raise UsageError(f"{name} is a source: it begins a pipeline", hint="put it first, or start another one")
        if before and isinstance(before[-1], Sink):
            raise in_the_middle(type(before[-1]).__name__, name)
        before = (*before, stage)


def in_the_middle(sink: str, after: str) -> UsageError:
    """What is said of a sink that something stands behind, by the names that its door has for them."""
    return UsageError(
        f"{sink} stands in the middle, before {after}, and ends a pipeline",
        hint="put the sink last; tee writes to several places",
    )


def join(stages: Sequence[Stage]) -> Pipeline:
    """The pipeline of these stages, as the shell and a pipeline file have them; UsageError where they do not join."""
    stream_of(stages[:1], "a pipeline")
    _refuse(tuple(stages[:1]), tuple(stages[1:]))
    if not isinstance(stages[-1], Sink):
        raise UsageError(
            f"a pipeline ends with a sink, and {type(stages[-1]).word} is none", hint="put `write -` at the end"
        )
    return Pipeline(tuple(stages))


def stream_of(stages: Sequence[Stage], what: str = "an input") -> Stream:
    """A source with transforms behind it; UsageError where they do not join. what: to begin messages with."""
    if not stages or not isinstance(stages[0], Source):
        first = f", and {type(stages[0]).word} is none" if stages else ""
        raise UsageError(f"{what} begins with a source{first}", hint="put read or find first")
    _refuse(tuple(stages[:1]), tuple(stages[1:]))
    if isinstance(stages[-1], Sink):
        raise UsageError(f"{what} ends with {type(stages[-1]).word}, a sink", hint="put the sink behind the merge")
    return Stream(tuple(stages))


def branch_of(stages: Sequence[Stage]) -> Branch:
    """Transforms and a sink; UsageError where they do not join."""
    if not stages or not isinstance(stages[-1], Sink):
        last = f", and {type(stages[-1]).word} is none" if stages else ""
        raise UsageError(f"a branch ends with a sink{last}", hint="put `then write FILE` at its end")
    if isinstance(stages[0], Source):
        raise UsageError(
            f"a branch begins with {type(stages[0]).word}, a source", hint="it gets its records from the stage before"
        )
    _refuse(tuple(stages[:1]), tuple(stages[1:]))
    return Branch(tuple(stages))


def every_stage(stages: Iterable[Stage]) -> Iterator[Stage]:
    """The stages with those inside them, each before what it holds: the order that numbers them."""
    for stage in stages:
        yield stage
        if isinstance(stage, FanIn):
            for stream in stage.inputs:
                yield from every_stage(stream.stages)
        elif isinstance(stage, FanOut):
            for _, branch in stage.named_branches:
                yield from every_stage(branch.stages)
