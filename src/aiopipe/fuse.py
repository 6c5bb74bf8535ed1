"""Plan -> nodes: neighbouring steps that only compute become one hop off the loop. A pure function.

The nodes are a list in the order of the data; `after` says which earlier ones feed each of them.

`fuse` and `apart` give pipelines with the same output; a property test holds them to that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from aiopipe.errors import AiopipeError
from aiopipe.plan import Plan, Step
from aiopipe.tuples import NamedTuple

__all__ = ["Node", "Tally", "apart", "fuse", "relabelled", "without_notes"]

_COMPUTES = ("decode", "apply", "divide", "encode")


class Tally(NamedTuple):
    """What a step did to one parcel: records in and out, records rejected, seconds, and what else it counted.

    failed: records that were neither, because it failed on one of them, or on all.
    """

    name: str
    taken: int
    given: int
    rejected: int
    seconds: float
    noted: tuple[tuple[str, int], ...] = ()
    failed: int = 0


class Node(NamedTuple):
    """What the engine runs as one: a source, a flow, a sink, or a hop of one or more computing steps.

    after: the places in the list of the nodes that it gets parcels from: none for a source, several for a merge.
    Several nodes after the same one are the branches of a split.
    """

    steps: tuple[Step, ...]
    after: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The steps' names joined: what tasks, channels and messages call the node."""
        return "+".join(dict.fromkeys(s.name for s in self.steps))

    @property
    def label(self) -> str:
        """The same in the words of the pipeline, with numbers only where a word stands twice."""
        return "+".join(dict.fromkeys(s.label for s in self.steps))

    @property
    def shape(self) -> str:
        """ "source", "merge", "hop", "flow", "split" or "sink"."""
        shape = self.steps[0].shape
        return "hop" if shape in _COMPUTES else shape

    @property
    def placement(self) -> str:
        """Where it runs; a process, if one of its steps asks for that."""
        places = [s.placement for s in self.steps]
        return next((p for p in places if p not in ("thread", "loop")), places[0])

    @property
    def portable(self) -> bool:
        """Whether any process may run it: bytes in, bytes out, and nothing between them but stages of this package."""
        shapes = [s.shape for s in self.steps]
        if shapes[0] != "decode" or shapes[-1] != "encode" or self.placement != "thread":
            return False
        ours = all(s.stage.portable and type(s.stage).__module__.startswith("aiopipe.") for s in self.steps)
        return ours and bool(getattr(self.steps[-1].stage, "is_path", False))

    def run(self, parcel: Any) -> tuple[Any, tuple[Tally, ...]]:
        """All steps of a hop on one parcel, one after the other, with what each did."""
        tallies = []
        for step in self.steps:
            rejects = getattr(parcel, "rejects", ())
            before, begun = len(parcel), time.perf_counter()
            try:
                parcel = step.run(parcel)
            except AiopipeError as error:
                error.stage = error.stage or step.label
                raise
            parcel = relabelled(parcel, len(rejects), step.label)
            new = len(getattr(parcel, "rejects", ())) - len(rejects)
            if step.shape == "decode":
                before = len(parcel) + new
            parcel, noted = without_notes(parcel)
            tallies.append(Tally(step.name, before, len(parcel), new, time.perf_counter() - begun, noted))
        return parcel, tuple(tallies)


def without_notes(parcel: Any) -> tuple[Any, tuple[tuple[str, int], ...]]:
    """The parcel without what its stage noted for the report, and that."""
    noted = getattr(parcel, "noted", ())
    return (replace(parcel, noted=()), noted) if noted else (parcel, noted)


def relabelled(parcel: Any, known: int, label: str) -> Any:
    """The parcel with its rejects after the first `known` named after the step that made them."""
    rejects = getattr(parcel, "rejects", ())
    if len(rejects) == known or all(r.stage == label for r in rejects[known:]):
        return parcel
    new = tuple(replace(r, stage=label) for r in rejects[known:])
    return replace(parcel, rejects=rejects[:known] + new)


def fuse(plan: Plan) -> list[Node]:
    """The fewest nodes: every run of computing steps that may share a place of work is one."""
    return _laid(plan, _runs)


def apart(plan: Plan) -> list[Node]:
    """Every step a node of its own: slower, and the same bytes."""
    return _laid(plan, lambda steps: [[step] for step in steps])


def _runs(steps: Sequence[Step]) -> list[list[Step]]:
    runs: list[list[Step]] = []
    for step in steps:
        if runs and step.shape in _COMPUTES and runs[-1][-1].shape in _COMPUTES:
            places = {s.placement for s in (*runs[-1], step)} - {"thread"}
            # A division holds its branches, sinks and all: it does not travel to a worker process.
            if len(places) <= 1 and not (places & {"main thread"}) and not (step.shape == "divide" and places):
                runs[-1].append(step)
                continue
        runs.append([step])
    return runs


def _laid(plan: Plan, grouped: Callable[[Sequence[Step]], list[list[Step]]]) -> list[Node]:
    """The nodes of a plan: those of its inputs, its own, those of its branches."""
    nodes: list[Node] = []

    def lay(plan: Plan, before: tuple[int, ...]) -> tuple[int, ...]:
        before += tuple(last for part in plan.inputs for last in lay(part, ()))
        for steps in grouped(plan.steps):
            nodes.append(Node(tuple(steps), before))
            before = (len(nodes) - 1,)
        for part in plan.branches:
            lay(part, before)
        return before

    lay(plan, ())
    return nodes
