"""How often, how fast and how stubbornly calls are made: plain values that options hold and files can write down.

What acts on them lives in `stages/_attempts.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

from aiopipe.errors import UsageError, nearest
from aiopipe.options import parse_time, strings

__all__ = ["Breaker", "Retry", "breaker_of", "per_second", "rate_of", "retry_of"]

T = TypeVar("T", bound="Retry | Breaker")


class _Plain:
    """What both policies share: the same value in all three doors."""

    first: ClassVar[str]

    def plain(self) -> dict[str, Any]:
        """The fields that differ from their defaults (one at least), as a pipeline file writes them."""
        names = [f.name for f in fields(self)]  # type: ignore[arg-type]
        told = {n: getattr(self, n) for n in names if getattr(self, n) != getattr(type(self), n)}
        return told or {self.first: getattr(self, self.first)}

    def __repr__(self) -> str:
        inner = ", ".join(f"{k}={list(v) if isinstance(v, tuple) else v!r}" for k, v in self.plain().items())
        return f"{type(self).__name__}({inner})"


@dataclass(frozen=True, repr=False)
class Retry(_Plain):
    """A call that fails is made again, until it has been made `attempts` times.

    backoff: the wait after the first failure; it doubles with each one, up to max_backoff, and a random half of it
    is left out, so that calls that failed together do not come back together. on: the exceptions that are worth
    another call, as classes or as names ("TimeoutError", "mymod:Error"); all, if none is named. Times are in
    seconds, or texts such as "200ms".
    """

    first: ClassVar[str] = "attempts"

    attempts: int = 4
    backoff: float | str = 0.5
    max_backoff: float | str = 30.0
    on: Any = ()

    def __post_init__(self) -> None:
        _count(self.attempts, "attempts")
        _time(self, "backoff")
        _time(self, "max_backoff")
        one = self.on if isinstance(self.on, (list, tuple, set, frozenset)) else [self.on]
        object.__setattr__(self, "on", strings([_exception_name(e) for e in one]))

    def delay(self, failures: int, chance: float) -> float:
        """Seconds to wait after so many failures of a call. chance: a random number from 0 to 1."""
        whole = min(float(self.max_backoff), float(self.backoff) * 2.0 ** min(failures - 1, 60))
        return whole * (0.5 + 0.5 * chance)


@dataclass(frozen=True, repr=False)
class Breaker(_Plain):
    """After `failures` failed calls in a row no call is made for `wait`; then a single one, to see.

    If that one succeeds, all go on; if not, there is another wait. After `probes` such calls in vain the run is
    ended: whoever is asked will not answer any more.
    """

    first: ClassVar[str] = "failures"

    failures: int = 5
    wait: float | str = 30.0
    probes: int = 10

    def __post_init__(self) -> None:
        _count(self.failures, "failures")
        _time(self, "wait")
        _count(self.probes, "probes")


def _count(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{name} is {value!r}", hint="give it a whole number, 1 or more")


def _time(policy: Any, name: str) -> None:
    seconds = parse_time(getattr(policy, name))
    if seconds is None:
        raise UsageError(f"{name} is None", hint="write seconds, or 300ms, 5s, 2m, 1h")
    object.__setattr__(policy, name, seconds)


def _exception_name(value: Any) -> str:
    if isinstance(value, type) and issubclass(value, BaseException):
        return value.__name__ if value.__module__ == "builtins" else f"{value.__module__}:{value.__qualname__}"
    if isinstance(value, str) and value.strip():
        return value.strip()
    raise UsageError(f"{value!r} names no exception", hint='write "TimeoutError", "mymod:Error", or the class itself')


def retry_of(value: Any) -> Retry | None:
    """A Retry from a number of retries, `attempts=4,backoff=1s,on=TimeoutError`, a table, or a Retry.

    >>> retry_of(3) == Retry(attempts=4), retry_of("attempts=2,backoff=1s"), retry_of(0)
    (True, Retry(attempts=2, backoff=1.0), None)
    """
    if value is None:
        return None
    if isinstance(value, str) and value.strip().isdigit():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise UsageError(f"{value} retries", hint="give it 0 or more")
        return Retry(attempts=value + 1) if value else None
    return _made(Retry, value, "3, or attempts=4,backoff=500ms,max_backoff=30s,on=TimeoutError")


def breaker_of(value: Any) -> Breaker:
    """A Breaker from a number of failures, `failures=5,wait=30s`, a table, or a Breaker."""
    if isinstance(value, str) and value.strip().isdigit():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return Breaker(failures=value)
    return _made(Breaker, value, "5, or failures=5,wait=30s,probes=10")


def _made(policy: type[T], value: Any, example: str) -> T:
    if isinstance(value, policy):
        return value
    if isinstance(value, str):
        value = _table(value, example)
    if not isinstance(value, Mapping):
        raise UsageError(f"{value!r} is no {policy.__name__}", hint=f"such as {example}")
    known = [f.name for f in fields(policy)]
    for name in value:
        if name not in known:
            raise UsageError(f"{policy.__name__} has no {name!r}", hint=nearest(str(name), known))
    return policy(**value)


def _table(text: str, example: str) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = (p.strip() for p in part.partition("="))
        if not equals or not value:
            raise UsageError(f"{part.strip()!r} is not name=value", hint=f"such as {example}")
        if name == "on":
            table.setdefault("on", []).append(value)
        else:
            table[name] = int(value) if value.isdigit() else value
    return table


def rate_of(value: Any) -> str:
    """`50/s`, `3000/m`, `10/2s` in its canonical form; UsageError for anything else. See `per_second`.

    >>> rate_of(" 50 / s"), rate_of("10/2s")
    ('50/s', '10/2s')
    """
    match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d*(?:\.\d+)?)\s*(ms|s|m|h)\s*", str(value))
    if not match or int(match[1]) == 0 or (match[2] and float(match[2]) == 0):
        raise UsageError(f"{value!r} is no rate", hint="write calls a time, such as 50/s, 3000/m or 10/2s")
    return f"{int(match[1])}/{'' if match[2] in ('', '1') else match[2]}{match[3]}"


def per_second(rate: str) -> float:
    """What a rate in its canonical form is in calls a second."""
    count, _, time = rate.partition("/")
    return int(count) / (parse_time(time if time[0].isdigit() or time[0] == "." else f"1{time}") or 1.0)
