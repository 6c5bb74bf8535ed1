"""One call made as its stage says: within its time, not too often, again after a failure, not into a wall.

Everything here lives in one event loop, as long as one run of one stage.
"""

from __future__ import annotations

import asyncio
import builtins
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from aiopipe.errors import FunctionError, UsageError
from aiopipe.policy import Breaker, Retry, per_second
from aiopipe.stages._calls import CAUGHT

__all__ = ["Attempts", "GaveUpError", "exceptions_named"]

_BURST = 0.05  # seconds' worth of calls that may be caught up at once: timers are late by some of that


class GaveUpError(FunctionError):
    """Whoever is asked does not answer any more: no row's fault, and the end of the run."""


def exceptions_named(names: Sequence[str], stage: str) -> tuple[type[BaseException], ...]:
    """The classes behind `TimeoutError` or `module:Error`; UsageError where a name is none of an exception."""
    return tuple(_exception(name, stage) for name in names)


def _exception(name: str, stage: str) -> type[BaseException]:
    module, colon, rest = name.rpartition(":")
    found: Any = getattr(builtins, name, None)
    if colon:
        from aiopipe.stages._names import load_module

        found = load_module(module, stage)
        for part in rest.split("."):
            found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        raise UsageError(f"{name!r} is no exception", stage=stage, hint="write TimeoutError, or module:Error")
    return found


class Attempts:
    """Makes calls for one stage.

    timeout: seconds one attempt may take. retry, rate, breaker: see aiopipe.policy. retryable: whether a failure
    is worth another attempt (default: what retry.on names). counts: what happened since somebody last looked.

    An exception may have a number `retry_after`: seconds in which nobody should be asked again. All calls of the
    stage then wait that long.
    """

    def __init__(
        self,
        stage: str,
        *,
        timeout: float | None = None,
        retry: Retry | None = None,
        rate: str | None = None,
        breaker: Breaker | None = None,
        retryable: Callable[[BaseException], bool] | None = None,
    ) -> None:
        self._timeout = timeout
        self._retry = retry or Retry(attempts=1)
        self._breaker = _Breaker(breaker, stage) if breaker is not None else None
        self._limiter = _limiter(rate) if rate is not None else None
        self._retryable = retryable or _worth_it(exceptions_named(self._retry.on, stage))
        self._asked_to_wait = 0.0  # loop time before which no attempt starts
        self._random = random.Random()
        self._plain = retry is None and rate is None and breaker is None
        self._gated = rate is not None or breaker is not None
        self.counts: Counter[str] = Counter()

    def taken(self) -> tuple[tuple[str, int], ...]:
        """The counts, which begin at nothing again."""
        counts = tuple(self.counts.items())
        self.counts.clear()
        return counts

    def around(self, function: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        """`function` as one call that does all of it; the function itself where there is nothing to do."""
        if self._timeout is not None:
            function = _timed(function, self._timeout)
        return function if self._plain else partial(self._persist, function)

    async def _persist(self, function: Callable[[Any], Awaitable[Any]], value: Any) -> Any:
        failures = 0
        while True:
            probe = await self._enter() if self._gated or self._asked_to_wait else False
            try:
                result = await function(value)
            except CAUGHT as error:
                failures += 1
                worth = self._retryable(error)
                self._failed(probe, worth)
                after = self._hold(error)
                if not worth or failures >= self._retry.attempts or after is None:
                    raise
                delay = max(self._retry.delay(failures, self._random.random()), after)
            except BaseException:
                if self._breaker is not None:
                    self._breaker.left(probe)
                raise
            else:
                if self._breaker is not None:
                    self._breaker.succeeded()
                return result
            self.counts["retried"] += 1
            await asyncio.sleep(delay)

    async def _enter(self) -> bool:
        """Wait until an attempt may start; True for the single one that tries a broken circuit."""
        loop = asyncio.get_running_loop()
        while True:
            pause = self._asked_to_wait - loop.time()
            if pause > 0:
                await asyncio.sleep(pause)
                continue
            probe = await self._breaker.enter() if self._breaker is not None else False
            if self._limiter is None:
                return probe
            try:
                await self._limiter.acquire()
            except BaseException:
                if self._breaker is not None:
                    self._breaker.left(probe)
                raise
            if probe or (self._asked_to_wait <= loop.time() and (self._breaker is None or not self._breaker.broken)):
                return probe

    def _failed(self, probe: bool, worth: bool) -> None:
        if self._breaker is None:
            return
        if worth:
            self._breaker.failed(probe)
        else:  # it was answered, if only with a refusal
            self._breaker.succeeded()

    def _hold(self, error: BaseException) -> float | None:
        """Seconds the error asks to wait; None where that is longer than a run can wait."""
        after = getattr(error, "retry_after", None)
        if not isinstance(after, (int, float)) or isinstance(after, bool) or not math.isfinite(after):
            return 0.0
        if after > LONGEST_HOLD:
            return None
        self._asked_to_wait = max(self._asked_to_wait, asyncio.get_running_loop().time() + after)
        return max(0.0, float(after))


LONGEST_HOLD = 300.0  # seconds that a `retry_after` may ask for; who asks for more is not asked again in this run


def _worth_it(named: tuple[type[BaseException], ...]) -> Callable[[BaseException], bool]:
    kinds = named or (Exception,)
    return lambda error: isinstance(error, kinds)


def _timed(function: Callable[[Any], Awaitable[Any]], seconds: float) -> Callable[[Any], Awaitable[Any]]:
    async def call(value: Any) -> Any:
        clock = asyncio.timeout(seconds)
        try:
            async with clock:
                return await function(value)
        except TimeoutError as error:
            if clock.expired():
                raise TimeoutError(f"no answer within {seconds:g} s") from error
            raise

    return call


def _limiter(rate: str) -> Any:
    """aiolimiter's bucket, so small that starts are spread evenly: a whole second's worth at once is no `50/s`."""
    from aiolimiter import AsyncLimiter

    second = per_second(rate)
    size = max(1, math.ceil(second * _BURST))
    return AsyncLimiter(size, size / second)


class _Breaker:
    """Closed: calls are made. Open: none is, until `_until`. Half open: one is, and all others wait for it."""

    def __init__(self, policy: Breaker, stage: str) -> None:
        self._policy = policy
        self._stage = stage
        self._failures = 0
        self._vain = 0  # probes that failed since the last success
        self._until: float | None = None
        self._idle = asyncio.Event()  # set while no probe is under way
        self._idle.set()
        self._gave_up = False

    @property
    def broken(self) -> bool:
        """Whether no ordinary call should be made now."""
        return self._until is not None

    async def enter(self) -> bool:
        """Wait until a call may be made; True for the one that is a probe. GaveUpError after too many of them."""
        loop = asyncio.get_running_loop()
        while self._until is not None:
            if self._gave_up:
                policy = self._policy
                raise GaveUpError(
                    f"{policy.failures} calls failed in a row, and so did {policy.probes} more, each after "
                    f"{policy.wait:g} s",
                    stage=self._stage,
                    hint="see whether the service runs, or be more patient with breaker (wait, probes)",
                )
            if not self._idle.is_set():
                await self._idle.wait()
            elif (pause := self._until - loop.time()) > 0:
                await asyncio.sleep(pause)
            else:
                self._idle.clear()
                return True
        return False

    def succeeded(self) -> None:
        """A call was answered: all may go on."""
        self._failures = self._vain = 0
        self._until = None
        self._idle.set()

    def failed(self, probe: bool) -> None:
        """A call failed; one that began before the circuit broke tells nothing new."""
        if probe:
            self._vain += 1
            self._gave_up = self._vain >= self._policy.probes
            self._break()
        elif self._until is None:
            self._failures += 1
            if self._failures >= self._policy.failures:
                self._break()

    def left(self, probe: bool) -> None:
        """A call was cancelled: it tells nothing, but a probe makes room for the next one."""
        if probe:
            self._idle.set()

    def _break(self) -> None:
        self._failures = 0
        self._until = asyncio.get_running_loop().time() + float(self._policy.wait)
        self._idle.set()
