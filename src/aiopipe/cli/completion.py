"""What a shell offers next inside a chain of stages.

Click makes the scripts: eval "$(_AIOPIPE_COMPLETE=bash_source aiopipe)", or zsh_source, or fish_source.
"""

from __future__ import annotations

from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from aiopipe.cli.chains import segment_in_hand
from aiopipe.stages import find_stage, words

__all__ = ["complete_chain", "complete_stages", "complete_words"]


def complete_words(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The words of stages; for click."""
    return [CompletionItem(w) for w in words() if w.startswith(incomplete)]


def complete_chain(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What may come next in the chain that the parameter holds; for click."""
    typed = tuple(ctx.params.get(param.name or "") or ())
    offered = complete_stages(typed, incomplete)
    if not typed and ctx.command.name == "explain":
        offered.append(CompletionItem(incomplete, type="file"))  # a pipeline file
    return offered


def complete_stages(typed: Sequence[str], incomplete: str) -> list[CompletionItem]:
    """A stage's word, an option of the stage in hand or its value, `then`, or a file."""
    segment = segment_in_hand(typed)
    if not segment:
        return [CompletionItem(w) for w in words() if w.startswith(incomplete)]
    if segment[0] in words():
        found = _of_stage(segment, incomplete)
        if found is not None:
            return found
    joined = [CompletionItem("then")] if incomplete and "then".startswith(incomplete) else []
    return [*joined, CompletionItem(incomplete, type="file")]


def _of_stage(segment: Sequence[str], incomplete: str) -> list[CompletionItem] | None:
    """Options of the stage, or values of the option before; None where an argument may stand."""
    from aiopipe.cli.segments import command_of

    command = command_of(find_stage(segment[0]))
    with command.make_context(segment[0], list(segment[1:]), resilient_parsing=True) as context:
        for param in command.params:
            if isinstance(param, click.Option) and not param.is_flag and segment[-1] in param.opts:
                return param.shell_complete(context, incomplete)
        return command.shell_complete(context, incomplete) if incomplete.startswith("-") else None
