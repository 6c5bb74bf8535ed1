"""Pipeline -> Plan: the stages as written, each with its kind, its place of work and what it may know.

A plan is data: frozen, printable, comparable. Nothing here reads, waits or runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from aiopipe.codec.chunk import decode
from aiopipe.errors import AiopipeError, UsageError
from aiopipe.stage import Apply, Scope, Sink, Source, Stage, Transform

__all__ = ["Plan", "Step", "make_plan"]


@dataclass(frozen=True)
class Step:
    """A stage in its place. Between a source of records and the first transform stands the step `decode`.

    name: unique in the plan (`filter#2`); label: the word, or the name where the word stands twice.
    shape: "source", "decode", "apply", "flow", "encode" or "sink". kind: of what goes in.
    """

    name: str
    label: str
    shape: str
    kind: str
    stage: Stage
    placement: str
    scope: Scope = Scope()

    def run(self, parcel: Any) -> Any:
        """Do the step's work on one parcel; only for the shapes that need no loop."""
        if self.shape == "decode":
            return decode(parcel)
        if self.shape == "encode":
            assert isinstance(self.stage, Sink)
            return self.stage.encode(parcel, self.kind)
        assert isinstance(self.stage, Apply) or hasattr(self.stage, "apply")
        if self.kind == "records" and not parcel.columns:
            return parcel  # an empty file has no columns, and nothing for a stage to do
        return self.stage.apply(parcel, self.scope)


@dataclass(frozen=True)
class Plan:
    """The steps of a pipeline in order."""

    steps: tuple[Step, ...]

    @property
    def wants_types(self) -> bool:
        """Whether a sample of the input must be looked at before the run."""
        return any(isinstance(s.stage, Transform) and s.stage.wants_types for s in self.steps)

    def mentions(self) -> frozenset[str]:
        """The columns whose types some step needs, in lower case: SQL does not tell a from A."""
        found: set[str] = set()
        for step in self.steps:
            if isinstance(step.stage, Transform):
                try:
                    found.update(name.lower() for name in step.stage.mentions())
                except AiopipeError as error:
                    error.stage = error.stage or step.label
                    raise
        return frozenset(found)

    @property
    def needs_more(self) -> bool:
        """Whether some stage needs something from elsewhere before it can run."""
        return any(isinstance(s.stage, Transform) and type(s.stage).ready is not Transform.ready for s in self.steps)

    def ready(self) -> Plan:
        """The plan with stages that have all they need; may read files. UsageError where something is missing."""
        steps = [
            replace(step, stage=step.stage.ready()) if isinstance(step.stage, Transform) else step
            for step in self.steps
        ]
        return Plan(tuple(steps))

    def typed(self, scope: Scope) -> Plan:
        """The plan with what every step knows, from what is known of the source's records.

        ExpressionError and UnknownNameError name the stage that cannot work on such records.
        """
        steps = []
        for step in self.steps:
            if step.shape in ("apply", "flow"):
                steps.append(replace(step, scope=scope))
                assert isinstance(step.stage, Transform)
                scope = step.stage.narrow(scope)
            else:
                steps.append(step)
        return Plan(tuple(steps))


def make_plan(stages: Sequence[Stage]) -> Plan:
    """Check that the stages join and lay them out; UsageError where they do not."""
    if not stages or not isinstance(stages[0], Source):
        raise UsageError("a pipeline begins with a source", hint="such as read or find")
    if not isinstance(stages[-1], Sink):
        raise UsageError("a pipeline ends with a sink", hint="such as write or collect")
    words = Counter(type(s).word for s in stages)
    source = stages[0]
    kind = source.gives
    steps = [_step(1, words, source, "source", kind, "loop")]
    if kind == "records":
        steps.append(Step("decode", "read", "decode", kind, source, "thread"))
    for number, stage in enumerate(stages[1:-1], 2):
        if not isinstance(stage, Transform):
            raise UsageError(f"{type(stage).__name__} cannot stand in the middle", hint="put the sink last")
        if kind not in stage.takes:
            raise UsageError(
                f"{type(stage).word} works on {' or '.join(stage.takes)}, and gets {kind} here",
                hint=_kind_hint(kind),
            )
        shape = "apply" if hasattr(stage, "apply") and stage.placement != "loop" else "flow"
        steps.append(_step(number, words, stage, shape, kind, stage.placement))
        kind = stage.gives(kind)
    sink = stages[-1]
    if kind not in sink.takes:
        raise UsageError(f"{type(sink).word} cannot take {kind}", hint=_kind_hint(kind))
    steps.append(_step(len(stages), words, sink, "encode", kind, "thread"))
    steps.append(_step(len(stages), words, sink, "sink", kind, "loop"))
    return Plan(tuple(steps))


def _kind_hint(kind: str) -> str:
    return {
        "files": "find gives files, read gives their records",
        "items": "these are Python objects, not CSV records",
    }.get(kind, "read gives records, find gives files")


def _step(number: int, words: Counter[str], stage: Stage, shape: str, kind: str, placement: str) -> Step:
    word = type(stage).word
    name = f"{word}#{number}"
    return Step(name, word if words[word] == 1 else name, shape, kind, stage, placement)
