"""Pipeline -> Plan: the stages as written, each with its kind, its place of work and what it may know.

A plan is data: frozen, printable, comparable. Nothing here reads, waits or runs. It is a list of steps, with other
plans before it (the inputs of a merge) and behind it (the branches of a tee or a route): a tree, drawn on its side.

    inputs              steps                  branches
    read - decode -.                         .- filter - encode - write
                    merge - derive - split --|
    read - decode -'                         '- encode - write
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from aiopipe.codec.chunk import decode
from aiopipe.errors import AiopipeError, UsageError
from aiopipe.stage import Apply, FanIn, FanOut, Scope, Shares, Sink, Source, Stage, Transform, every_stage
from aiopipe.tuples import NamedTuple

__all__ = ["Plan", "Step", "make_plan"]


class Step(NamedTuple):
    """A stage in its place. Between a source of records and the first transform stands the step `decode`.

    name: unique in the plan (`filter#2`), but that two steps of one stage share it; label: the word, or the name
    where the word stands twice. shape: "source", "merge", "decode", "apply", "flow", "divide", "split", "encode" or
    "sink". kind: of what goes in.
    """

    name: str
    label: str
    shape: str
    kind: str
    stage: Stage
    placement: str
    scope: Scope = Scope()

    def __reduce__(self) -> tuple[Any, ...]:
        carried = self.stage.carries(self.scope) if isinstance(self.stage, Apply) else ()
        return (_step, (tuple(self), carried))

    def run(self, parcel: Any) -> Any:
        """Do the step's work on one parcel; only for the shapes that need no loop."""
        if self.shape == "decode":
            return decode(parcel)
        if self.shape == "encode":
            assert isinstance(self.stage, Sink)
            return self.stage.encode(parcel, self.kind)
        if self.shape == "divide":
            assert isinstance(self.stage, FanOut)
            if self.kind == "records" and not parcel.columns:
                bare = replace(parcel, rejects=())
                return Shares((bare,) * len(self.stage.named_branches), parcel.rejects)
            return self.stage.shares(parcel, self.scope)
        assert isinstance(self.stage, Apply) or hasattr(self.stage, "apply")
        if self.kind == "records" and not parcel.columns:
            return parcel  # an empty file has no columns, and nothing for a stage to do
        return self.stage.apply(parcel, self.scope)


def _step(values: tuple[Any, ...], carried: tuple[Any, ...]) -> Step:
    """A step in another process, where what its stage carries has just been unpickled."""
    return Step(*values)


class Plan(NamedTuple):
    """The steps of a pipeline in order, with what comes before a merge and behind a split.

    name: what reports call it, where it is an input or a branch.
    """

    steps: tuple[Step, ...]
    inputs: tuple[Plan, ...] = ()
    branches: tuple[Plan, ...] = ()
    name: str = ""

    def every_step(self) -> Iterator[Step]:
        """All steps: those of the inputs, its own, those of the branches."""
        for plan in self.inputs:
            yield from plan.every_step()
        yield from self.steps
        for plan in self.branches:
            yield from plan.every_step()

    @property
    def sources(self) -> tuple[Step, ...]:
        """The steps that read, in order."""
        return tuple(s for s in self.every_step() if s.shape == "source")

    @property
    def sinks(self) -> tuple[Step, ...]:
        """The steps that keep what comes, in order."""
        return tuple(s for s in self.every_step() if s.shape == "sink")

    @property
    def wants_types(self) -> bool:
        """Whether a sample of the input must be looked at before the run."""
        return any(s.stage.wants_types for s in self.every_step() if isinstance(s.stage, (Transform, FanOut)))

    def mentions(self) -> frozenset[str]:
        """The columns whose types some step needs, in lower case: SQL does not tell a from A."""
        found: set[str] = set()
        for step in self.every_step():
            if isinstance(step.stage, (Transform, FanOut)):
                try:
                    found.update(name.lower() for name in step.stage.mentions())
                except AiopipeError as error:
                    error.stage = error.stage or step.label
                    raise
        return frozenset(found)

    @property
    def needs_more(self) -> bool:
        """Whether some stage needs something from elsewhere before it can run."""
        stages = (s.stage for s in self.every_step())
        return any(isinstance(s, Transform) and type(s).ready is not Transform.ready for s in stages)

    def ready(self) -> Plan:
        """The plan with stages that have all they need; may read files. UsageError where something is missing."""
        steps = [
            step._replace(stage=step.stage.ready()) if isinstance(step.stage, Transform) else step
            for step in self.steps
        ]
        inputs, branches = (tuple(p.ready() for p in plans) for plans in (self.inputs, self.branches))
        return self._replace(steps=tuple(steps), inputs=inputs, branches=branches)

    def typed(self, *scopes: Scope) -> Plan:
        """The plan with what every step knows, from what is known of each source's records, in order.

        ExpressionError and UnknownNameError name the stage that cannot work on such records.
        """
        return self._typed(iter(scopes), Scope())[0]

    def _typed(self, sources: Iterator[Scope], scope: Scope) -> tuple[Plan, Scope]:
        before = [plan._typed(sources, scope) for plan in self.inputs]
        if before:
            scope = _merged([known for _, known in before])
        steps = []
        for step in self.steps:
            if step.shape == "source":
                scope = next(sources)
            if step.shape in ("apply", "flow", "divide"):
                step = step._replace(scope=scope)
                assert isinstance(step.stage, (Transform, FanOut))
                scope = step.stage.narrow(scope)
            steps.append(step)
        behind = [plan._typed(sources, scope)[0] for plan in self.branches]
        return self._replace(steps=tuple(steps), inputs=tuple(p for p, _ in before), branches=tuple(behind)), scope


# Two types that a third one holds without loss, as one sample of both would have shown.
_WIDER = {frozenset({"BIGINT", "DOUBLE"}): "DOUBLE", frozenset({"DATE", "TIMESTAMP"}): "TIMESTAMP"}


def _merged(scopes: Sequence[Scope]) -> Scope:
    """What is known of records that come from several streams."""
    types: dict[str, str] = {}
    for scope in scopes:
        for name, type_ in scope.types.items():
            known = types.setdefault(name, type_)
            types[name] = type_ if known == type_ else _WIDER.get(frozenset({known, type_}), "VARCHAR")
    doubts = {name: doubt for scope in reversed(scopes) for name, doubt in scope.doubts.items()}
    nulls = frozenset().union(*(scope.nulls for scope in scopes))
    return Scope(types, doubts, nulls, complete=all(scope.complete for scope in scopes))


def make_plan(stages: Sequence[Stage]) -> Plan:
    """Check that the stages join and lay them out; UsageError where they do not."""
    if not stages or not isinstance(stages[0], Source):
        raise UsageError("a pipeline begins with a source", hint="such as read or find")
    if not isinstance(stages[-1], Sink):
        raise UsageError("a pipeline ends with a sink", hint="such as write or collect")
    return _Layout(list(every_stage(stages))).plan(stages, "", "")[0]


class _Layout:
    """Lays stages out as steps, numbered in the order in which they are written."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._words = Counter(type(s).word for s in stages)
        self._parsers = sum(isinstance(s, Source) and not isinstance(s, FanIn) for s in stages)
        self._number = 0

    def plan(self, stages: Sequence[Stage], kind: str, name: str) -> tuple[Plan, str]:
        """The plan of a pipeline, an input or a branch that gets `kind`; and the kind that it gives."""
        steps: list[Step] = []
        inputs: tuple[Plan, ...] = ()
        branches: tuple[Plan, ...] = ()
        for stage in stages:
            self._number += 1
            number = self._number
            if isinstance(stage, FanIn):
                inputs, kind = self._inputs(stage)
                steps.append(self._step(number, stage, "merge", kind, "loop"))
            elif isinstance(stage, Source):
                steps += self._source(number, stage)
                kind = stage.gives
            elif isinstance(stage, FanOut):
                self._fits(stage, kind)
                if stage.divides:
                    steps.append(self._step(number, stage, "divide", kind, "thread"))
                steps.append(self._step(number, stage, "split", kind, "loop"))
                branches = tuple(self.plan(b.stages, kind, called)[0] for called, b in stage.named_branches)
            elif isinstance(stage, Sink):
                self._fits(stage, kind)
                if kind not in stage.as_they_are:
                    steps.append(self._step(number, stage, "encode", kind, "thread"))
                steps.append(self._step(number, stage, "sink", kind, "loop"))
            else:
                steps.append(self._transform(number, stage, kind))
                kind = stage.gives(kind)  # type: ignore[attr-defined]
        return Plan(tuple(steps), inputs, branches, name), kind

    def _inputs(self, stage: FanIn) -> tuple[tuple[Plan, ...], str]:
        plans = [self.plan(s.stages, "", f"input {i}") for i, s in enumerate(stage.inputs, 1)]
        kinds = list(dict.fromkeys(kind for _, kind in plans))
        if len(kinds) > 1:
            raise UsageError(f"{type(stage).word} cannot join {' and '.join(kinds)}", hint="give it inputs of one kind")
        return tuple(plan for plan, _ in plans), kinds[0]

    def _source(self, number: int, stage: Source) -> Iterator[Step]:
        yield self._step(number, stage, "source", stage.gives, "loop")
        if stage.gives == "records":
            name = "decode" if self._parsers == 1 else f"decode#{number}"
            yield Step(name, type(stage).word, "decode", stage.gives, stage, "thread")

    def _transform(self, number: int, stage: Stage, kind: str) -> Step:
        if not isinstance(stage, Transform):
            raise UsageError(f"{type(stage).__name__} cannot stand in the middle", hint="put the sink last")
        if kind not in stage.takes:
            raise UsageError(
                f"{type(stage).word} works on {' or '.join(stage.takes)}, and gets {kind} here",
                hint=_kind_hint(kind),
            )
        shape = "apply" if hasattr(stage, "apply") and stage.placement != "loop" else "flow"
        return self._step(number, stage, shape, kind, stage.placement)

    def _fits(self, stage: Sink, kind: str) -> None:
        if kind not in stage.takes:
            raise UsageError(f"{type(stage).word} cannot take {kind}", hint=_kind_hint(kind))

    def _step(self, number: int, stage: Stage, shape: str, kind: str, placement: str) -> Step:
        word = type(stage).word
        name = f"{word}#{number}"
        return Step(name, word if self._words[word] == 1 else name, shape, kind, stage, placement)


def _kind_hint(kind: str) -> str:
    return {
        "files": "find gives files, read gives their records",
        "items": "these are Python objects, not CSV records",
    }.get(kind, "read gives records, find gives files")
