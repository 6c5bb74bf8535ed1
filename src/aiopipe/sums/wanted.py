"""Reading files of which somebody has said what they hold: the innermost loop of a check.

Bytes whose digest is the one that was expected are those bytes, whatever happened to the file meanwhile: so nothing
else is asked about a file that is all right, which saves a system call of four. Everything else is `Reader`'s.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence

from aiopipe.sums.algorithms import algorithm
from aiopipe.sums.reader import BASE_FLAGS, NOFOLLOW, TINY, Outcome, Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Wanted", "wanted", "wanted_size"]


def wanted(paths: Iterable[bytes], digests: Iterable[tuple[str, ...]]) -> list[bytes]:
    """Paths and the digests that are expected of them as what a job names: no path has a NUL byte in it."""
    return [b"%s\0%s" % (path, ",".join(each).encode()) for path, each in zip(paths, digests, strict=True)]


def wanted_size(given: bytes) -> int:
    """The size of the file that is meant."""
    return os.stat(given.partition(b"\0")[0]).st_size


class Wanted:
    """What a `Reader` is for digests, this is for expected ones (see `wanted`): True stands for a file that has them.

    For any other the result is that of `reader`.
    """

    def __init__(self, reader: Reader, names: Sequence[str]) -> None:
        self._reader = reader
        self._asked = tuple(names)

    @property
    def maps(self) -> bool:
        """Whether files may be mapped, see `Reader`."""
        return self._reader.maps

    @maps.setter
    def maps(self, allowed: bool) -> None:
        self._reader.maps = allowed

    def run(
        self,
        paths: Sequence[bytes],
        *,
        follow: bool = False,
        alone: bool = False,
        algorithms: tuple[str, ...] = (),
        seconds: float = 0.040,
    ) -> Outcome:
        """Look at files in order until `seconds` have passed, at least at one."""
        clock, close, os_open = time.perf_counter, os.close, os.open
        pread: Any = getattr(os, "pread", None)  # not on Windows
        begin, begun_ns = clock(), time.time_ns()
        deadline = begin + seconds
        once = _together([algorithm(name).once for name in algorithms or self._asked])
        flags = BASE_FLAGS if follow else BASE_FLAGS | NOFOLLOW
        results: list[Any] = []
        append, tiny = results.append, pread is not None and not alone
        for each in paths:
            if results and clock() > deadline:
                break
            path, _, expected = each.partition(b"\0")
            if tiny:
                try:
                    fd = os_open(path, flags)
                    try:
                        data = pread(fd, TINY + 1, 0)  # of a pipe it takes nothing
                    finally:
                        close(fd)
                except OSError:
                    data = b""
                if 0 < len(data) <= TINY and once(data) == expected.decode():
                    append(True)
                    continue
            outcome = self._reader.run([path], follow=follow, alone=alone, algorithms=algorithms)
            if not outcome.results:
                break  # the run was stopped
            append(outcome.results[0])
            tiny = pread is not None and not alone and outcome.size <= TINY  # neighbours are alike
        return Outcome(results, clock() - begin, begun_ns)

    def close(self) -> None:
        """Let go of what the reader holds."""
        self._reader.close()


def _together(functions: list[Callable[[Any], str]]) -> Callable[[Any], str]:
    if len(functions) == 1:
        return functions[0]
    return lambda data: ",".join([each(data) for each in functions])
