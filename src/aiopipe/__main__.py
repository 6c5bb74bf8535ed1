"""`aiopipe` and `python -m aiopipe`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; the one place that turns an outcome into an exit code."""
    from aiopipe.cli import main as cli

    sys.exit(cli())


if __name__ == "__main__":
    main()
