"""Text for terminals of 80 columns: docstrings as paragraphs and lists, commands broken at `then`."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator

from aiopipe.errors import UsageError
from aiopipe.stages import find_stage

__all__ = ["WIDTH", "blocks", "first_line", "summary_of", "wrapped_shell"]

WIDTH = 76  # inside an indentation of two


def first_line(declaring: type) -> str:
    """The first sentence of a class's docstring, on one line."""
    paragraph = (inspect.getdoc(declaring) or "").split("\n\n")[0]
    return " ".join(paragraph.split())


def summary_of(word: str) -> str:
    """The first sentence of a stage, or why it has none: one broken package must not hide the other stages."""
    try:
        return first_line(find_stage(word))
    except UsageError as error:
        return f"({error.message})"


def blocks(doc: str, width: int = WIDTH) -> Iterator[str]:
    """The blocks of a docstring, wrapped: paragraphs, items of a list one by one, indented code as it is."""
    for part in doc.split("\n\n"):
        lines = part.splitlines()
        if part.startswith("- "):
            yield "\n".join(
                textwrap.fill(item, width, subsequent_indent="  ", break_long_words=False) for item in _items(lines)
            )
        elif lines and all(line.startswith("    ") for line in lines if line):
            yield part
        else:
            yield textwrap.fill(" ".join(part.split()), width, break_long_words=False)


def _items(lines: list[str]) -> Iterator[str]:
    item = ""
    for line in lines:
        if line.startswith("- ") and item:
            yield item
            item = ""
        item += (" " if item else "") + line.strip()
    yield item


def wrapped_shell(command: str, width: int = WIDTH) -> str:
    """A command line, broken with backslashes before `then` where it is too long; it still runs when pasted."""
    lines = [""]
    for i, piece in enumerate(command.split(" then ")):
        text = piece if i == 0 else f"then {piece}"
        if i and len(lines[-1]) + len(text) + 3 > width:
            lines[-1] += " \\"
            lines.append("  " + text)
        else:
            lines[-1] += (" " if i else "") + text
    return "\n".join(lines)
