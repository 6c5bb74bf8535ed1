"""What a pipeline will do, as text for a person: the stages, the types they work with, and how they are run."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aiopipe.engine.runner import byte_bound, depth
from aiopipe.engine.workers import Workers
from aiopipe.fuse import Node, fuse
from aiopipe.job.report import counted
from aiopipe.job.run import check_ends, typed
from aiopipe.options import parse_size
from aiopipe.plan import Plan, Step, make_plan
from aiopipe.stage import FanIn, FanOut

if TYPE_CHECKING:
    from aiopipe.stage import Pipeline

__all__ = ["explain"]

_WIDTH = 80
_PLACES = {
    "loop": "in the event loop",
    "thread": "in threads",
    "process": "in worker processes",
    "main thread": "in the main thread",
}


async def explain(pipeline: Pipeline, *, workers: int | None = None, memory: int | str = "128MB") -> str:
    """The plan as written, with types, and as run, with placements and buffers; a sample is read for the types."""
    plan = make_plan(pipeline.stages)
    pools = Workers(workers, parse_size(memory))
    try:
        check_ends(plan, None)
        plan = await typed(plan, pools)
    finally:
        await pools.aclose()
    return "\n".join([*_written(plan), "", *_run(plan, fuse(plan), pools)])


def _written(plan: Plan) -> Iterator[str]:
    """The stages in order, each with its options and the types of the columns its expressions name."""
    yield "as written"
    width = max(len(s.name) for s in plan.every_step()) + 2
    yield from _listed(plan, "  ", width)


def _listed(plan: Plan, indent: str, width: int) -> Iterator[str]:
    """The stages of a plan; inputs and branches stand below their merge or split, further in."""
    inputs: Sequence[Plan] = plan.inputs
    seen = set()
    for step in plan.steps:
        if step.shape == "decode" or step.name in seen:
            continue
        seen.add(step.name)
        fork = isinstance(step.stage, (FanIn, FanOut))
        yield _filled(type(step.stage).__name__ if fork else repr(step.stage), f"{indent}{step.name:<{width}}")
        types = _types(step)
        if types:
            yield _filled(", ".join(types), " " * (len(indent) + width) + "types: ")
        for one in inputs if step.shape == "merge" else ():
            yield f"{indent}  {one.name}"
            yield from _listed(one, indent + "    ", width)
    for one in plan.branches:
        yield _filled(one.name, f"{indent}  ")
        yield from _listed(one, indent + "    ", width)


def _types(step: Step) -> list[str]:
    named = getattr(step.stage, "named", None)
    if named is None:
        return []
    known = {name.lower(): type_ for name, type_ in step.scope.types.items()}
    # What the sample has not seen is text, as it is for the expression itself.
    return [f"{column} {known.get(column.lower(), 'VARCHAR')}" for column in named(step.scope)]


def _run(plan: Plan, nodes: list[Node], pools: Workers) -> Iterator[str]:
    """The nodes that the engine will run, with the channels between them."""
    count = f"{pools.workers} worker{'s' if pools.workers != 1 else ''}"
    yield f"as run, with {count} and {_megabytes(pools.memory)} in flight"
    yield from _drawn(plan, nodes, pools, _Places(nodes), "  ")


class _Places:
    """Which nodes belong to which line of the tree, and which are drawn already."""

    def __init__(self, nodes: list[Node]) -> None:
        self._by_step = {id(s): i for i, node in enumerate(nodes) for s in node.steps}

    def of(self, plan: Plan) -> list[int]:
        """The nodes of a plan's own steps, in order."""
        return list(dict.fromkeys(self._by_step[id(s)] for s in plan.steps))


def _drawn(plan: Plan, nodes: list[Node], pools: Workers, places: _Places, margin: str) -> Iterator[str]:
    """A line of nodes downwards; what comes before a merge and behind a split hangs on bars."""
    bound = _megabytes(byte_bound(nodes, pools))

    def channel(i: int) -> str:
        return f"up to {counted(depth(nodes[i], pools), 'parcel')} or {bound}"

    for one in plan.inputs:
        last = places.of(one)[-1]
        yield f"{margin}+- {one.name}"
        yield from _drawn(one, nodes, pools, places, margin + "|  ")
        yield f"{margin}|    |  {channel(last)}"
    own = places.of(plan)
    for k, i in enumerate(own):
        node = nodes[i]
        yield _filled(" + ".join(_names(node)), margin)
        yield f"{margin}    {_role(node)}, {_place(node, pools)}{_calls(node)}"
        if k + 1 < len(own):
            yield f"{margin}  |  {channel(i)}"
    for one in plan.branches:
        yield _filled(f"{one.name}: {channel(own[-1])}", f"{margin}+- ")
        bar = "   " if one is plan.branches[-1] else "|  "
        yield from _drawn(one, nodes, pools, places, margin + bar)


def _place(node: Node, pools: Workers) -> str:
    place = _PLACES.get(node.placement, f"in the {node.placement}")
    return f"{place}, of long input in processes too" if node.portable and pools.workers > 1 else place


def _names(node: Node) -> Iterable[str]:
    """What the node's steps are called; parsing and encoding are work of their own."""
    own = {"decode": "parse", "encode": "encode", "divide": "divide"}
    return [own.get(s.shape, s.name) for s in node.steps]


def _role(node: Node) -> str:
    if node.shape == "hop":
        return "one hop off the loop" if len(node.steps) > 1 else "a hop off the loop"
    stage: Any = node.steps[0].stage
    if node.shape == "merge":
        return "a merge, one input after the other" if stage.in_order else "a merge, as they come"
    if node.shape == "split":
        return "a split, each record to one branch" if stage.divides else "a split, each record to every branch"
    return {"source": "the source", "flow": "a flow", "sink": "the sink"}[node.shape]


def _calls(node: Node) -> str:
    stage: Any = node.steps[0].stage
    limit = getattr(stage, "concurrency", None) if node.shape == "flow" else None
    told = [f"{limit} calls at once"] if limit else []
    told += [f"{rate} at most"] if (rate := getattr(stage, "rate_limit", None)) else []
    retries = getattr(stage, "retries", None)
    told += [f"up to {retries.attempts} attempts each"] if retries is not None else []
    return "".join(f", {text}" for text in told)


def _megabytes(size: int) -> str:
    return f"{round(size / 1e6, 1):g} MB"


def _filled(text: str, first: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False)
