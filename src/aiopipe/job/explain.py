"""What a pipeline will do, as text for a person: the stages, the types they work with, and how they are run."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from aiopipe.engine.runner import depth
from aiopipe.engine.workers import Workers
from aiopipe.fuse import Node, fuse
from aiopipe.job.run import check_ends, typed
from aiopipe.options import parse_size
from aiopipe.plan import Plan, Step, make_plan

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
    return "\n".join([*_written(plan), "", *_run(fuse(plan), pools)])


def _written(plan: Plan) -> Iterator[str]:
    """The stages in order, each with its options and the types of the columns its expressions name."""
    yield "as written"
    steps = [s for s in plan.steps if s.shape not in ("decode", "encode")]
    width = max(len(s.name) for s in steps) + 2
    for step in steps:
        yield _filled(repr(step.stage), f"  {step.name:<{width}}")
        types = _types(step)
        if types:
            yield _filled(", ".join(types), " " * (width + 2) + "types: ")


def _types(step: Step) -> list[str]:
    named = getattr(step.stage, "named", None)
    if named is None:
        return []
    known = {name.lower(): type_ for name, type_ in step.scope.types.items()}
    # What the sample has not seen is text, as it is for the expression itself.
    return [f"{column} {known.get(column.lower(), 'VARCHAR')}" for column in named(step.scope)]


def _run(nodes: list[Node], pools: Workers) -> Iterator[str]:
    """The nodes that the engine will run, with the channels between them."""
    count = f"{pools.workers} worker{'s' if pools.workers != 1 else ''}"
    yield f"as run, with {count} and {_megabytes(pools.memory)} in flight"
    for i, node in enumerate(nodes):
        yield _filled(" + ".join(_names(node)), "  ")
        yield f"      {_role(node)}, {_PLACES.get(node.placement, f'in the {node.placement}')}{_calls(node)}"
        if i + 1 < len(nodes):
            yield f"    |  up to {depth(node, pools)} parcels or {_megabytes(pools.memory // 8)}"


def _names(node: Node) -> Iterable[str]:
    """What the node's steps are called; parsing and encoding are work of their own."""
    own = {"decode": "parse", "encode": "encode"}
    return [own.get(s.shape, s.name) for s in node.steps]


def _role(node: Node) -> str:
    if node.shape == "hop":
        return "one hop off the loop" if len(node.steps) > 1 else "a hop off the loop"
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
    return f"{size / 1e6:g} MB"


def _filled(text: str, first: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False)
