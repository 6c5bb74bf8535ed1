"""Values that must not stand on a command line or in a pipeline file: named, and looked up when a run begins."""

from __future__ import annotations

import os

from aiopipe.errors import UsageError

__all__ = ["looked_up"]


def looked_up(value: str, stage: str) -> str:
    """The variable of `env:NAME`, the first line of `file:PATH`, any other text as it is; UsageError without one."""
    kind, _, name = value.partition(":")
    if kind == "env" and name:
        if name not in os.environ:
            raise UsageError(f"the environment variable {name} is not set", stage=stage, hint=f"export {name}=...")
        return os.environ[name]
    if kind == "file" and name:
        try:
            with open(os.path.expanduser(name), encoding="utf-8") as file:
                return file.readline().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the file {name} cannot be read: {error}", stage=stage, hint="check its path") from None
    return value
