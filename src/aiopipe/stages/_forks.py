"""What tee, route and merge share: whatever may stand for a branch or an input."""

from __future__ import annotations

from typing import Any

from aiopipe.errors import UsageError
from aiopipe.stage import Branch, Chain, Pipeline, Sink, Source, Stream, branch_of, stream_of

__all__ = ["as_branch", "as_stream"]


def as_branch(value: Any, word: str) -> Branch:
    """A sink, or stages that end with one, as a branch; UsageError for anything else."""
    try:
        if isinstance(value, Branch):
            return value
        if isinstance(value, Sink):
            return Branch((value,))
        if isinstance(value, (Chain, Stream, Pipeline)):
            return branch_of(value.stages)
        raise UsageError(f"{value!r} is no branch", hint="give it a sink, or stages that end with one")
    except UsageError as error:
        error.stage = word
        raise


def as_stream(value: Any) -> Stream:
    """A source, or a source with stages behind it; UsageError for anything else."""
    try:
        if isinstance(value, Stream):
            return value
        if isinstance(value, Source):
            return Stream((value,))
        if isinstance(value, (Chain, Branch, Pipeline)):
            return stream_of(value.stages)
        raise UsageError(f"{value!r} is no input", hint="give it a source, or a source with stages behind it")
    except UsageError as error:
        error.stage = "merge"
        raise
