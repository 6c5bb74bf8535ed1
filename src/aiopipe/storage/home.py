"""Paths as people type them where no shell has seen them: a ~ in quotes, a comma between two."""

from __future__ import annotations

import os

from aiopipe.errors import UsageError

__all__ = ["path_hint", "refuse_tilde"]


def path_hint(path: str) -> str:
    """What to do about a path that is not there."""
    if (home := os.path.expanduser(path)) != path:
        return f"only a shell knows ~, and only without quotes: write {home}"
    if path.endswith(",") and os.path.lexists(path[:-1]):
        return "leave the comma away: blanks stand between paths"
    return "check the path"


def refuse_tilde(path: str | None, option: str, stage: str | None = None) -> None:
    """UsageError for an output that begins with ~: nobody means a directory of that name here."""
    if path is None or (home := os.path.expanduser(path)) == path:
        return
    raise UsageError(
        f"{option} is {path}, and nobody has put your home directory in place of ~",
        stage=stage,
        hint=f"only a shell knows ~, at the beginning of a word and without quotes: write {home} (or ./{path})",
    )
