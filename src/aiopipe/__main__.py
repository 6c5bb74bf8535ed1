"""`aiopipe` and `python -m aiopipe`."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Run the command line; the one place that turns an outcome into an exit code."""
    gc.disable()  # importing makes no garbage, and looking for it takes 10 ms; commands switch it on again
    from aiopipe.cli import QUICK
    from aiopipe.cli import main as cli

    code = cli()
    if sys.argv[1:2] and sys.argv[1] in QUICK:
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> None:
    """End without taking apart what is in memory: 10 ms, and more after a million files.

    Lanes and workers have ended, outputs are closed. Where the last words cannot be written Python says so itself.
    """
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        return
    os._exit(code)


if __name__ == "__main__":
    main()
