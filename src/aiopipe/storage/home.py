"""Paths as people type them where no shell has seen them: a ~ in quotes, a comma between two, a slip."""

from __future__ import annotations

import os
from itertools import islice

from aiopipe.errors import UsageError

__all__ = ["path_hint", "refuse_tilde"]


def path_hint(path: str) -> str:
    """What to do about a path that is not there."""
    if (home := os.path.expanduser(path)) != path:
        return f"only a shell knows ~, and only without quotes: write {home}"
    if path.endswith(",") and os.path.lexists(path[:-1]):
        return "leave the comma away: blanks stand between paths"
    if path.isprintable() and not any(c in path for c in "*?[") and (meant := _near(path)):
        return f"did you mean {meant}?"
    return "check the path"


_LOOKED_AT = 5000  # names in a directory, for one that may be meant


def _near(path: str) -> str | None:
    """A path that is there, and like this one but for a slip in the first name that is not."""
    import difflib

    above, parts = path.rstrip(os.sep), list[str]()
    while above and not os.path.lexists(above):
        above, name = os.path.split(above)
        parts.insert(0, name)
    if not parts:
        return None
    name, *below = parts
    try:
        with os.scandir(above or ".") as entries:
            names = [e.name for e in islice(entries, _LOOKED_AT)]
    except OSError:
        return None
    alike = [n for n in names if n.lower() == name.lower()] or difflib.get_close_matches(name, names, n=3, cutoff=0.75)
    meant = (os.path.join(above, other, *below) for other in alike)
    return next((m for m in meant if os.path.lexists(m) and m.isprintable()), None)


def refuse_tilde(path: str | None, option: str, stage: str | None = None) -> None:
    """UsageError for an output that begins with ~: nobody means a directory of that name here."""
    if path is None or (home := os.path.expanduser(path)) == path:
        return
    raise UsageError(
        f"{option} is {path}, and nobody has put your home directory in place of ~",
        stage=stage,
        hint=f"only a shell knows ~, at the beginning of a word and without quotes: write {home} (or ./{path})",
    )
