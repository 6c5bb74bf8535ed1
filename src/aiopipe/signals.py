"""Signals without the enumerations that `signal` makes of them: 3 to 6 ms of a command's start-up.

The functions and constants are the same; where an interpreter has no such module, this is `signal`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as signals
else:
    try:
        import _signal as signals
    except ImportError:
        import signal as signals

__all__ = ["signals"]
