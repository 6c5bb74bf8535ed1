"""`aiopipe` and `python -m aiopipe`."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Run the command line; the one place that turns an outcome into an exit code."""
    # Imports make a hundred thousand objects that stay: looking for rubbish among them takes a tenth of the start.
    gc.set_threshold(50_000, 20, 20)
    # numpy's linear algebra would start a thread for each core; nothing here uses it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from aiopipe.cli import main as cli

    sys.exit(cli())


if __name__ == "__main__":
    main()
