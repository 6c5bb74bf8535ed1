"""Errors that show their place: the expression, and under it a caret."""

from __future__ import annotations

import unicodedata

from aiopipe.errors import ExpressionError

__all__ = ["char_of_byte", "expression_error", "pointed"]

WIDTH = 96  # characters of a long line that are shown around the caret


def expression_error(message: str, text: str, at: int | None, hint: str | None = None) -> ExpressionError:
    """An ExpressionError whose message ends in the expression and a caret under its character `at`."""
    return ExpressionError(f"{message}\n{pointed(text, at)}", hint=hint)


def pointed(text: str, at: int | None) -> str:
    """The line of `text` that holds character `at`, and a line with a caret under it; no caret for None.

    >>> print(pointed("amount > 1O0", 10))
      amount > 1O0
                ^
    """
    if at is None:
        return "  " + _shorten(" ".join(text.split()), 0)[0]
    at = max(0, min(at, len(text)))
    start = text.rfind("\n", 0, at) + 1
    stop = text.find("\n", at)
    line, column = _shorten(text[start : len(text) if stop < 0 else stop], at - start)
    return f"  {line}\n  {_blank(line[:column])}^"


def _shorten(line: str, column: int) -> tuple[str, int]:
    """The part of a long line around `column`, and where the column is in it."""
    if len(line) <= WIDTH:
        return line, column
    start = max(0, min(column - WIDTH // 2, len(line) - WIDTH))
    head = "..." if start else ""
    tail = "..." if start + WIDTH < len(line) else ""
    return f"{head}{line[start : start + WIDTH]}{tail}", column - start + len(head)


def _blank(text: str) -> str:
    """Spaces as wide as `text` stands on a terminal; tabs stay, their width is the terminal's."""
    return "".join("\t" if c == "\t" else " " * _cells(c) for c in text)


def _cells(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def char_of_byte(text: str, byte: int) -> int:
    """Which character of `text` begins at (or holds) byte `byte` of its UTF-8; past the end is the end."""
    return len(text.encode("utf-8", "surrogatepass")[: max(0, byte)].decode("utf-8", "ignore"))
