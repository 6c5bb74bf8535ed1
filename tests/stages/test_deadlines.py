"""Time limits of many calls share one timer, and end calls as `asyncio.timeout` would."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aiopipe.stages._deadlines import Deadlines


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    """In a loop whose clock stands still while there is something to do, and then goes on to the next timer."""

    class Loop(asyncio.SelectorEventLoop):
        now = 0.0

        def time(self) -> float:
            return self.now

        def _run_once(self) -> None:
            if not self._ready and self._scheduled:  # type: ignore[attr-defined]
                self.now = max(self.now, self._scheduled[0].when())  # type: ignore[attr-defined]
            super()._run_once()  # type: ignore[misc]

    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main())  # type: ignore[arg-type]


def test_each_call_has_its_own_time_and_a_call_in_time_is_left_alone() -> None:
    async def main() -> None:
        deadlines, loop = Deadlines(10), asyncio.get_running_loop()

        async def call(begin: float, seconds: float) -> tuple[str, float]:
            await asyncio.sleep(begin)
            try:
                with deadlines.begin() as deadline:
                    await asyncio.sleep(seconds)
            except TimeoutError:
                assert deadline.expired
                return "late", loop.time()
            return "done", loop.time()

        ends = await asyncio.gather(call(0, 20), call(1, 9), call(2, 50), call(3, 10.5), call(3, 1))
        assert ends == [("late", 10), ("done", 10), ("late", 12), ("late", 13), ("done", 4)]

    run(main)


def test_no_timer_is_left_when_the_last_call_has_ended() -> None:
    async def main() -> None:
        deadlines, loop = Deadlines(10), asyncio.get_running_loop()
        with deadlines.begin(), deadlines.begin() as lifted:
            lifted.lift()
            assert len([h for h in loop._scheduled if not h.cancelled()]) == 1  # type: ignore[attr-defined]
        assert all(h.cancelled() for h in loop._scheduled)  # type: ignore[attr-defined]

    run(main)


def test_time_that_was_lifted_does_not_end_a_call() -> None:
    async def main() -> None:
        with Deadlines(1).begin() as deadline:
            await asyncio.sleep(0.25)
            assert deadline.left() == 0.75
            deadline.lift()
            await asyncio.sleep(5)
        assert not deadline.expired

    run(main)


def test_who_is_cancelled_is_cancelled_also_when_the_time_ends_at_the_same_moment() -> None:
    async def main() -> None:
        deadlines = Deadlines(1)

        async def call() -> None:
            with deadlines.begin():
                await asyncio.sleep(9)

        for moment in (0.5, 1.0):
            task = asyncio.create_task(call())
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(moment, task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()

    run(main)


def test_a_failure_of_the_call_itself_is_told_and_leaves_the_task_uncancelled() -> None:
    async def main() -> None:
        deadlines = Deadlines(1)

        async def call() -> int | None:
            try:
                with deadlines.begin():
                    try:
                        await asyncio.sleep(9)
                    except asyncio.CancelledError:
                        raise KeyError("mine") from None
            except KeyError:
                task = asyncio.current_task()
                return task.cancelling() if task else None
            return None

        assert await asyncio.create_task(call()) == 0

    run(main)
