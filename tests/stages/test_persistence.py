"""Calls that are made again, spread, held back or given up: `map` with retries, rate_limit, breaker and on_error."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from aiopipe import (
    Breaker,
    Collect,
    Filter,
    From,
    FunctionError,
    Map,
    Read,
    RecordError,
    Retry,
    UsageError,
    WorkerError,
    Write,
)
from aiopipe.policy import per_second, rate_of, retry_of
from aiopipe.stages._attempts import Attempts, GaveUpError
from tests.faults import functions
from tests.support import drive, failure, leaves, rejects, write

CSV = "v,text\n" + "".join(f'{i},"t{i}"\n' for i in range(1, 5))
QUICK = Retry(attempts=3, backoff=0.001)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return write(tmp_path / "in.csv", CSV)


class FlakyError(Exception):
    pass


def flaky(times: int, only: str = "3", error: type[Exception] = FlakyError) -> tuple[Any, Any, Counter[str]]:
    """A function that raises so many times for one row: as async def, as def, and how often it was called."""
    calls: Counter[str] = Counter()

    def plain(row: dict[str, str]) -> dict[str, str]:
        calls[row["v"]] += 1
        if row["v"] == only and calls[only] <= times:
            raise error(f"call {calls[only]}")
        return {**row, "text": row["text"].upper()}

    async def waiting(row: dict[str, str]) -> dict[str, str]:
        await asyncio.sleep(0)
        return plain(row)

    return waiting, plain, calls


# --- retries


@pytest.mark.parametrize("kind", [0, 1], ids=["async def", "def"])
def test_a_call_that_fails_is_made_again_and_counted(path: str, kind: int) -> None:
    *both, calls = flaky(2)
    report = (Read(path) | Map(both[kind], retries=QUICK) | Collect()).run_sync()
    assert [r["text"] for r in report.items] == ["T1", "T2", "T3", "T4"]
    assert calls == {"1": 1, "2": 1, "3": 3, "4": 1}
    assert (report.retried, report.kept, report.rejected) == (2, 0, 0)
    assert "map: 2 retried" in str(report)


@pytest.mark.parametrize("kind", [0, 1], ids=["async def", "def"])
def test_after_the_last_attempt_the_row_is_rejected_with_the_last_error(path: str, tmp_path: Path, kind: int) -> None:
    *both, calls = flaky(9)
    pipeline = Read(path) | Map(both[kind], retries=QUICK) | Collect()
    assert "FlakyError: call 3" in str(failure(pipeline))
    calls.clear()
    report = pipeline.run_sync(rejects=str(tmp_path / "bad.csv"))
    assert [r["v"] for r in report.items] == ["1", "2", "4"]
    assert calls["3"] == 3 and report.retried == 2 and report.balanced
    [row] = rejects(tmp_path / "bad.csv")
    assert (row["raw"], row["record"]) == (b'3,"t3"\n', "3")


@pytest.mark.parametrize(("on", "calls_made"), [(FlakyError, 3), ("TimeoutError", 1), (["OSError", FlakyError], 3)])
def test_only_named_exceptions_are_worth_another_call(path: str, tmp_path: Path, on: Any, calls_made: int) -> None:
    function, _, calls = flaky(9)
    stage = Map(function, retries=Retry(attempts=3, backoff=0.001, on=on))
    (Read(path) | stage | Collect()).run_sync(rejects=str(tmp_path / "bad.csv"))
    assert calls["3"] == calls_made


def test_a_call_that_took_too_long_has_failed_and_is_made_again(path: str) -> None:
    calls: Counter[str] = Counter()
    ended = []

    async def function(row: dict[str, str]) -> dict[str, str]:
        calls[row["v"]] += 1
        if row["v"] == "2" and calls["2"] == 1:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("2")
        return row

    stage = Map(function, timeout=0.05, retries=Retry(attempts=2, backoff=0.001, on="TimeoutError"))
    report = (Read(path) | stage | Collect()).run_sync()
    assert [r["v"] for r in report.items] == ["1", "2", "3", "4"]
    assert calls["2"] == 2 and ended == ["2"] and report.retried == 1


def test_a_call_that_always_takes_too_long_is_told_as_such(path: str) -> None:
    async def function(row: dict[str, str]) -> dict[str, str]:
        await asyncio.Event().wait()
        return row

    found = failure(Read(path) | Map(function, timeout=0.01, retries=QUICK) | Collect())
    assert isinstance(found, WorkerError)
    assert "no answer within 0.01 s" in str(found)


def test_the_waits_double_up_to_the_longest_and_leave_out_at_most_half() -> None:
    retry = Retry(attempts=9, backoff="1s", max_backoff="5s")
    assert [retry.delay(n, 1.0) for n in (1, 2, 3, 4, 50, 5000)] == [1, 2, 4, 5, 5, 5]
    assert [retry.delay(n, 0.0) for n in (1, 2, 3, 4)] == [0.5, 1, 2, 2.5]


def test_an_exception_can_say_how_long_nobody_should_be_asked() -> None:
    """Measured by the loop's clock: no call of the stage begins in the meantime."""

    class BusyError(Exception):
        retry_after = 0.2

    begun: list[tuple[int, float]] = []

    async def function(value: int) -> int:
        begun.append((value, asyncio.get_running_loop().time()))
        await asyncio.sleep(0)
        if value == 0 and len([v for v, _ in begun if v == 0]) == 1:
            raise BusyError
        return value

    stage = Map(function, concurrency=1, retries=Retry(attempts=2, backoff=0.001))
    report = drive(lambda: (From(range(3)) | stage | Collect()).run())
    assert report.items == [0, 1, 2]
    assert begun[1][1] - begun[0][1] >= 0.2 * 0.99


# --- on_error


@pytest.mark.parametrize("placement", [None, "loop", "process"])
def test_a_row_that_is_kept_stays_as_it_was_byte_for_byte(path: str, tmp_path: Path, placement: str | None) -> None:
    function = functions.refuses_three if placement != "loop" else functions.arefuses_three
    stage = Map(function, placement=placement, on_error="keep")
    report = (Read(path) | stage | Write(f"{tmp_path}/out.csv")).run_sync(workers=1)
    assert (tmp_path / "out.csv").read_text() == 'v,text,n\n1,T1,2\n2,T2,3\n3,"t3",\n4,T4,5\n'
    assert (report.kept, report.rejected, report.written) == (1, 0, 4)
    assert report.balanced and "map: 1 kept" in str(report)


def test_rows_of_the_wrong_shape_are_kept_as_well(path: str) -> None:
    async def function(row: dict[str, str]) -> Any:
        match row["v"]:
            case "2":
                return "no row"
            case "3":
                return {"v": "3"}
            case "4":
                return {**row, "text": ["a", "list"]}
        return {**row, "text": "new"}

    report = (Read(path) | Map(function, on_error="keep") | Collect()).run_sync()
    assert [r["text"] for r in report.items] == ["new", "t2", "t3", "t4"]
    assert report.kept == 3


def test_when_every_row_is_kept_the_file_is_the_same(path: str, tmp_path: Path) -> None:
    def function(row: dict[str, str]) -> Any:
        raise ValueError

    for options in ({}, {"concurrency": 2}):
        stage = Map(function, on_error="keep", **options)
        assert (Read(path) | stage | Write(f"{tmp_path}/out.csv")).run_sync().kept == 4
        assert (tmp_path / "out.csv").read_text() == CSV


@pytest.mark.parametrize("placement", [None, "loop", "process"])
def test_stop_ends_the_run_at_the_first_such_row_rejects_file_or_not(
    path: str, tmp_path: Path, placement: str | None
) -> None:
    """What was set aside by other stages stays in the rejects file; the row that ended the run does not go there."""
    data = CSV.replace("2,", "2,too,many,").replace("4,", "3,")
    write(tmp_path / "in.csv", data)
    function = functions.refuses_three if placement != "loop" else functions.arefuses_three
    stage = Map(function, placement=placement, on_error="stop")
    found = failure(Read(path) | stage | Collect(), rejects=str(tmp_path / "bad.csv"), workers=1)
    assert isinstance(found, FunctionError)
    assert str(found).startswith(f"{path}:4 (record 3, byte {data.index('3,')}): map: ValueError: three")
    assert [r["record"] for r in rejects(tmp_path / "bad.csv")] == ["2"]
    with pytest.raises(ExceptionGroup) as caught:
        (Read(path) | Filter("v > 0") | stage | Collect()).run_sync()
    assert isinstance(next(leaves(caught.value)), RecordError)


def test_items_that_are_kept_stay_as_they_were() -> None:
    def function(value: int) -> int:
        if value == 3:
            raise ValueError("three")
        return value * 10

    for options in ({}, {"concurrency": 2}):
        report = (From(range(5)) | Map(function, on_error="keep", **options) | Collect()).run_sync()
        assert report.items == [0, 10, 20, 3, 40]
        assert report.kept == 1


# --- rate_limit


def test_a_rate_is_kept_over_the_whole_stage_retries_included() -> None:
    """Starts of attempts by the loop's clock: never more than the rate, and what a late timer may catch up."""
    begun: list[float] = []
    failed: set[int] = set()

    async def function(value: int) -> int:
        begun.append(asyncio.get_running_loop().time())
        if value % 5 == 0 and value not in failed:
            failed.add(value)
            raise FlakyError
        return value

    stage = Map(function, concurrency=8, rate_limit="100/s", retries=QUICK)
    report = drive(lambda: (From(range(20)) | stage | Collect()).run())
    assert report.items == list(range(20))
    assert len(begun) == 24 == 20 + report.retried
    burst = 5  # a twentieth of a second's worth
    for i, start in enumerate(begun):
        inside = sum(1 for b in begun[i:] if b < start + 0.1)
        assert inside <= 10 + burst + 1


def test_rates_as_they_are_written() -> None:
    assert [rate_of(r) for r in ("50/s", "050 / 1 s", "3000/m", "10/2s", "1/0.5h")] == [
        "50/s", "50/s", "3000/m", "10/2s", "1/0.5h",
    ]  # fmt: skip
    assert [per_second(r) for r in ("50/s", "3000/m", "10/2s", "36/0.5h")] == [50, 50, 5, 0.02]
    for wrong in ("0/s", "50", "fast", "50/d", "50/0s", 50):
        with pytest.raises(UsageError):
            rate_of(wrong)


# --- breaker


def test_after_some_failures_in_a_row_one_call_at_a_time_tries_whether_it_works_again() -> None:
    down = True
    flying, peak_while_broken, calls = 0, 0, 0

    async def function(value: int) -> int:
        nonlocal flying, calls, down, peak_while_broken
        calls += 1
        flying += 1
        if calls > 8:  # those begun before the circuit broke are under way
            peak_while_broken = max(peak_while_broken, flying if down else 0)
        if calls == 12:
            down = False
        await asyncio.sleep(0.001)
        flying -= 1
        if down:
            raise FlakyError
        return value

    stage = Map(
        function,
        concurrency=8,
        retries=Retry(attempts=50, backoff=0.001, max_backoff=0.002),
        breaker=Breaker(failures=3, wait=0.01),
    )
    report = drive(lambda: (From(range(30)) | stage | Collect()).run())
    assert report.items == list(range(30))
    assert peak_while_broken == 1
    assert calls == 30 + report.retried


def test_a_failure_now_and_then_does_not_break_the_circuit() -> None:
    calls = 0

    async def function(value: int) -> int:
        nonlocal calls
        calls += 1
        if calls % 3:
            return value
        raise FlakyError

    stage = Map(function, concurrency=1, retries=Retry(backoff=0.0001), breaker=Breaker(failures=2, wait="1h"))
    assert drive(lambda: (From(range(50)) | stage | Collect()).run()).items == list(range(50))


def test_a_service_that_stays_away_ends_the_run_instead_of_every_row(tmp_path: Path) -> None:
    calls = 0

    async def function(value: int) -> int:
        nonlocal calls
        calls += 1
        raise FlakyError

    retry = Retry(attempts=10**6, backoff=0.0001, max_backoff=0.0001)
    stage = Map(function, concurrency=4, on_error="keep", retries=retry, breaker=Breaker(2, 0.001, 3))
    found = failure(From(range(1000)) | stage | Collect())
    assert isinstance(found, GaveUpError)
    assert "2 calls failed in a row, and so did 3 more" in str(found)
    assert calls <= 4 + 3


def test_a_probe_that_is_cancelled_makes_room_for_the_next() -> None:
    async def main() -> None:
        attempts = Attempts("map", retry=Retry(attempts=1), breaker=Breaker(failures=1, wait=0.001))
        gate = asyncio.Event()

        async def fail(_: Any) -> None:
            raise FlakyError

        async def hang(_: Any) -> None:
            gate.set()
            await asyncio.Event().wait()

        async def fine(value: int) -> int:
            return value

        with pytest.raises(FlakyError):
            await attempts.around(fail)(0)
        probe = asyncio.create_task(attempts.around(hang)(0))  # type: ignore[arg-type]
        await gate.wait()
        other = asyncio.create_task(attempts.around(fine)(7))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        assert not other.done()
        probe.cancel()
        assert await other == 7
        assert probe.cancelled()

    drive(main)


# --- the window, and what a call leaves behind


def test_a_slow_call_lets_others_go_ahead_within_the_window_and_no_further() -> None:
    """The first call waits until nothing else moves: others got as far as the window, and the source stopped."""

    async def main() -> tuple[int, list[int]]:
        read, done = 0, 0
        gate = asyncio.Event()

        async def source() -> Any:
            nonlocal read
            for i in range(100_000):
                read += 1
                yield i

        class Live:
            def __aiter__(self) -> Any:
                return source()

        async def function(value: int) -> int:
            nonlocal done
            if value == 0:
                seen = -1
                while seen != (seen := done):  # noqa: ASYNC110 - until nobody gets any further
                    await asyncio.sleep(0.05)
                gate.set()
            done += 1
            return value

        async with (From(Live(), size=16) | Map(function, concurrency=3)).stream() as rows:
            first = await anext(aiter(rows))
            assert gate.is_set()
            ahead = done
        return ahead, [first, read]

    ahead, (first, _) = drive(main)
    assert first == 0
    assert 16 < ahead <= (3 + 1) * 16


def test_what_a_call_sets_in_its_context_the_next_one_does_not_see() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=-1)

    async def function(value: int) -> int:
        seen = variable.get()
        variable.set(value)
        if value % 2:
            await asyncio.sleep(0)
        return seen

    variable.set(7)
    report = drive(lambda: (From(range(20)) | Map(function, concurrency=2) | Collect()).run())
    assert report.items == [7] * 20


def test_a_call_that_cancels_itself_and_returns_harms_no_other() -> None:
    async def function(value: int) -> int:
        if value == 3:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            return value
        await asyncio.sleep(0)
        return value

    assert drive(lambda: (From(range(9)) | Map(function, concurrency=2) | Collect()).run()).items == list(range(9))


def test_calls_that_never_wait_let_the_loop_turn() -> None:
    """A clock beside 30,000 such calls of 20 us: it ticks all the time."""

    async def main() -> float:
        gap, last = 0.0, asyncio.get_running_loop().time()

        async def tick() -> None:
            nonlocal gap, last
            while True:
                await asyncio.sleep(0)
                now = asyncio.get_running_loop().time()
                gap, last = max(gap, now - last), now

        async def function(value: int) -> int:
            return sum(range(500)) and value

        ticking = asyncio.create_task(tick())
        await (From(range(30_000)) | Map(function, concurrency=4) | Collect()).run()
        ticking.cancel()
        await asyncio.wait([ticking])
        return gap

    ticks = drive(main)
    assert ticks < 0.25  # all of it at once would be several times that, and a busy machine is slow


def test_cancellation_reaches_every_call_in_flight_and_every_wait() -> None:
    """Calls under way, calls waiting for a retry, for the rate and for the circuit."""
    for options in (
        {},
        {"retries": Retry(backoff="1h", max_backoff="1h")},
        {"rate_limit": "1/h"},
        {"retries": Retry(backoff=0.001), "breaker": Breaker(failures=1, wait="1h")},
    ):
        begun, ended = [], []

        async def main(options: Any = options, begun: list[int] = begun, ended: list[int] = ended) -> None:
            first = asyncio.Event()

            async def function(value: int) -> int:
                begun.append(value)
                first.set()
                try:
                    if "retries" in options:
                        raise FlakyError
                    await asyncio.Event().wait()
                finally:
                    ended.append(value)
                return value

            running = asyncio.create_task(
                (From(range(100)) | Map(function, concurrency=8, **options) | Collect()).run()
            )
            await first.wait()
            await asyncio.sleep(0.02)
            running.cancel()
            await asyncio.wait([running])
            assert running.cancelled()

        drive(main)
        assert begun and sorted(begun) == sorted(ended)


def test_threads_of_calls_are_gone_after_a_run_that_failed(path: str) -> None:
    def function(row: dict[str, str]) -> dict[str, str]:
        raise FlakyError

    failure(Read(path) | Map(function, retries=QUICK) | Collect())
    assert [t.name for t in threading.enumerate() if t.name.startswith("aiopipe")] == []


# --- what is refused


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Map(functions.same, placement="process", retries=2), "not for those of a process"),
        (lambda: Map(functions.same, placement="thread", rate_limit="5/s"), "not for those of a thread"),
        (lambda: Map(functions.same, thread_sensitive=True, breaker=2), "one thread is shared"),
        (lambda: Map(functions.twice, retries=2), "generator"),
        (lambda: Map(functions.twice, on_error="keep"), "generator"),
        (lambda: Map(functions.ashout, retries=-1), "-1 retries"),
        (lambda: Map(functions.ashout, retries=True), "no Retry"),
        (lambda: Map(functions.ashout, retries="attempts"), "not name=value"),
        (lambda: Map(functions.ashout, retries={"attempt": 2}), "no 'attempt'"),
        (lambda: Map(functions.ashout, retries=Retry(on="NoSuchError")), "no exception"),
        (lambda: Map(functions.ashout, retries=Retry(on="os:path")), "no exception"),
        (lambda: Map(functions.ashout, rate_limit="fast"), "no rate"),
        (lambda: Map(functions.ashout, breaker=0), "failures is 0"),
        (lambda: Map(functions.ashout, on_error="ignore"), "on_error is 'ignore'"),
        (lambda: Retry(attempts=0), "attempts is 0"),
        (lambda: Retry(backoff="soon"), "no time"),
        (lambda: Retry(on=3), "names no exception"),
        (lambda: Breaker(wait=0), "no time"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(make: Any, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert reason in str(caught.value)
    assert caught.value.hint or "on_error" in reason


def test_no_retries_are_the_same_as_none() -> None:
    assert Map(functions.ashout, retries=0) == Map(functions.ashout)
    assert retry_of("0") is None
    assert Map(functions.ashout, retries=3) == Map(functions.ashout, retries=Retry(attempts=4))
    assert repr(Map(functions.ashout, retries="attempts=4")).endswith("retries=Retry(attempts=4))")
    assert eval(repr(Retry(on=[FlakyError, TimeoutError]))) == Retry(on=[FlakyError, TimeoutError])


def test_explain_tells_of_retries_and_rates(path: str) -> None:
    stage = Map(functions.ashout, concurrency=8, retries=3, rate_limit="50/s", breaker=5, on_error="keep")
    text = (Read(path) | stage | Write("-")).explain()
    flat = " ".join(text.split())
    assert "retries=Retry(attempts=4), rate_limit='50/s', breaker=Breaker(failures=5), on_error='keep'" in flat
    assert "8 calls at once, 50/s at most, up to 4 attempts each" in flat
