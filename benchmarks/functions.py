"""The functions that a user brings: the same for every contender."""

from __future__ import annotations

SELECTED = ["year", "month", "day", "carrier", "dest", "gain"]


def clean(row: dict[str, str]) -> dict[str, str]:
    """Mend a field, and class a number by hand: what people write when no expression will do."""
    delay = row["arr_delay"]
    row["tailnum"] = row["tailnum"].strip().lower()
    if delay == "NA":
        row["late"] = "unknown"
    else:
        minutes = int(delay)
        row["late"] = "very" if minutes > 120 else "yes" if minutes > 15 else "no"
    return row


def f(x: int) -> int:
    return x + 1


def g(x: int) -> int:
    return x * 2


def h(x: int) -> int:
    return x - 3
