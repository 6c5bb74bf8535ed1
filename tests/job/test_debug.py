"""`debug=True` names what holds the loop and what nobody awaits, and leaves no trace in its host."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
import threading
import time
import urllib.request
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from aiopipe import Collect, From, Map
from aiopipe.job.debug import DebugReport, HoldReport
from aiopipe.loopwatch import OTHER, OUTSIDE, LoopWatch
from tests.support import drive

HERE = __file__


def line_of(text: str) -> int:
    """The one line of this file that ends in the marker."""
    [number] = [i for i, line in enumerate(Path(HERE).read_text().splitlines(), 1) if line.endswith(f"# {text}")]
    return number


async def sleeps(value: int) -> int:
    if value == 3:
        time.sleep(0.2)  # sleeping  # noqa: ASYNC251
    return value


async def computes(value: int) -> int:
    return sum(range(12_000_000)) if value == 3 else value  # computing


async def starts_a_task(value: int) -> int:
    return await asyncio.create_task(sleeps(value))


def found(function: Callable[[int], Awaitable[Any]], **job: Any) -> DebugReport:
    report = drive(lambda: (From(range(5)) | Map(function) | Collect()).run(debug=True, **job))
    assert report.debug is not None
    return report.debug


def the_hold(debug: DebugReport, marker: str) -> HoldReport:
    [hold] = [h for h in debug.holds if h.file == HERE and h.line == line_of(marker)]
    return hold


def test_a_line_that_sleeps_is_named_with_its_stage():
    hold = the_hold(found(sleeps), "sleeping  # noqa: ASYNC251")
    assert (hold.stage, hold.function, hold.times) == ("map", "sleeps", 1)
    assert "time.sleep(0.2)" in hold.code
    assert 0.15 < hold.longest == hold.seconds
    assert hold.cpu is None or hold.cpu < 0.1
    assert "test_debug.py" in hold.stack[0]


def test_a_line_that_computes_is_named_although_it_keeps_the_interpreter_to_itself():
    hold = the_hold(found(computes), "computing")
    assert hold.stage == "map"
    assert hold.cpu is None or hold.cpu > 0.05


def test_a_task_that_a_function_starts_belongs_to_its_stage():
    assert the_hold(found(starts_a_task), "sleeping  # noqa: ASYNC251").stage == "map"


def test_under_uvloop_as_well():
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run((From(range(5)) | Map(sleeps) | Collect()).run(debug=True))
    assert the_hold(report.debug, "sleeping  # noqa: ASYNC251").stage == "map"


def test_a_blocking_request_is_named_by_the_users_line_not_the_librarys():
    """The server answers when the watch has seen its client wait, or never."""
    server = socket.create_server(("127.0.0.1", 0))
    seen = threading.Event()

    def serve() -> None:
        client, _ = server.accept()
        with client:
            client.recv(1000)
            seen.wait(10)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    thread = threading.Thread(target=serve)
    thread.start()
    url = f"http://127.0.0.1:{server.getsockname()[1]}/"

    async def asks(value: int) -> bytes:
        answer: bytes = urllib.request.urlopen(url).read()  # asking  # noqa: ASYNC210
        return answer

    with told(seen, "is holding"):
        report = drive(lambda: (From([1]) | Map(asks) | Collect()).run(debug=True))
    thread.join()
    server.close()
    assert seen.is_set() and report.items == [b"ok"]
    assert report.debug is not None
    hold = the_hold(report.debug, "asking  # noqa: ASYNC210")
    assert hold.stage == "map" and "socket.py" in hold.stack[0]


class told:  # noqa: N801 - a context manager
    """Sets an event when the log says something."""

    def __init__(self, event: threading.Event, words: str) -> None:
        self.handler = logging.Handler()
        self.lines: list[str] = []

        def emit(record: logging.LogRecord) -> None:
            self.lines.append(record.getMessage())
            if words in self.lines[-1]:
                event.set()

        self.handler.emit = emit  # type: ignore[method-assign]

    def __enter__(self) -> list[str]:
        logging.getLogger("aiopipe").addHandler(self.handler)
        return self.lines

    def __exit__(self, *_: object) -> None:
        logging.getLogger("aiopipe").removeHandler(self.handler)


def test_a_hold_is_told_while_it_lasts():
    """The function waits, in the loop, for the log to tell of it: otherwise it would never end."""
    heard = threading.Event()

    async def waits(value: int) -> bool:
        return heard.wait(20)  # waiting

    with told(heard, "is holding") as lines:
        report = drive(lambda: (From([1]) | Map(waits) | Collect()).run(debug=True), within=30)
    assert report.items == [True]
    assert "map is holding the event loop, 1.0" in lines[0] and f"{HERE}:{line_of('waiting')}, in waits" in lines[0]


def test_the_hosts_own_hold_is_told_as_outside():
    async def main() -> DebugReport:
        begun, held = asyncio.Event(), asyncio.Event()

        async def waits(value: int) -> int:
            begun.set()
            await held.wait()
            return value

        async def host() -> None:
            await begun.wait()
            time.sleep(0.2)  # hosting  # noqa: ASYNC251
            held.set()

        task = asyncio.create_task(host())
        report = await (From([1]) | Map(waits) | Collect()).run(debug=True)
        await task
        assert report.debug is not None
        return report.debug

    assert the_hold(drive(main), "hosting  # noqa: ASYNC251").stage == OUTSIDE


def test_what_holds_the_loop_before_and_after_the_run_is_not_told():
    async def main() -> DebugReport:
        time.sleep(0.1)  # noqa: ASYNC251
        report = await (From([1]) | Collect()).run(debug=True)
        time.sleep(0.1)  # noqa: ASYNC251
        assert report.debug is not None
        return report.debug

    assert not [h for h in drive(main).holds if h.file == HERE]


def test_of_two_runs_in_a_loop_each_knows_its_own_lines():
    async def main() -> list[DebugReport]:
        met = asyncio.Barrier(2)

        async def together(value: int) -> int:
            await met.wait()
            await met.wait()
            return value

        async def holds(value: int) -> int:
            await met.wait()
            time.sleep(0.2)  # holding  # noqa: ASYNC251
            await met.wait()
            return value

        runs = [(From([1]) | Map(f) | Collect()).run(debug=True) for f in (holds, together)]
        return [report.debug for report in await asyncio.gather(*runs) if report.debug is not None]

    one, two = drive(main)
    assert the_hold(one, "holding  # noqa: ASYNC251").stage == "map"
    assert the_hold(two, "holding  # noqa: ASYNC251").stage == OTHER


@pytest.mark.filterwarnings("ignore:coroutine")
def test_a_coroutine_that_nobody_awaits_is_named_by_the_line_that_called_it():
    async def forgets(value: int) -> int:
        sleeps(value)  # forgotten
        return value

    [lost] = found(forgets).unawaited
    assert (lost.stage, lost.coroutine, lost.times) == ("map", "sleeps", 5)
    assert (lost.file, lost.line) == (HERE, line_of("forgotten"))


def test_the_hosts_warning_of_it_stays_as_it_is():
    async def forgets(value: int) -> int:
        sleeps(value)
        return value

    texts = []
    for debug in (False, True):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            drive(lambda debug=debug: (From([1]) | Map(forgets) | Collect()).run(debug=debug))
        texts.append([(str(w.message), w.category, w.filename, w.lineno) for w in caught])
    assert texts[0] == texts[1] != []


def test_nothing_runs_and_nothing_is_patched_without_it_or_after_it():
    function, depth = warnings._warn_unawaited_coroutine, sys.get_coroutine_origin_tracking_depth()  # type: ignore[attr-defined]

    async def looks(value: int) -> tuple[Any, ...]:
        names = {t.name for t in threading.enumerate()}
        current = warnings._warn_unawaited_coroutine  # type: ignore[attr-defined]
        debug = asyncio.get_running_loop().get_debug()
        return "aiopipe-debug" in names, current is function, sys.get_coroutine_origin_tracking_depth() == depth, debug

    async def main() -> None:
        pipeline = From([1]) | Map(looks) | Collect()
        plain = await pipeline.run()
        assert plain.items == [(False, True, True, False)] and plain.debug is None
        assert (await pipeline.run(debug=True)).items == [(True, False, False, False)]
        assert (await pipeline.run()).items == [(False, True, True, False)]

    drive(main)


def test_a_run_that_fails_logs_what_was_found(caplog: pytest.LogCaptureFixture):
    async def fails(value: int) -> int:
        await sleeps(3)
        raise ValueError(value)

    with pytest.raises(ExceptionGroup):
        found(fails)
    assert "by\n  stage  times" in caplog.text and "time.sleep(0.2)" in caplog.text


def test_lateness_with_no_code_in_the_loop_is_blamed_on_nobody():
    """A watch whose looks saw an idle loop; and one that saw somebody, to prove that it can blame."""
    from aiopipe.loopwatch import _Now, _Sample

    line = (test_lateness_with_no_code_in_the_loop_is_blamed_on_nobody.__code__, 1)
    watch = LoopWatch(object())
    watch._note(_Now(0.0, 0.0), [(None, _Now(0.07, 0.0))])
    assert watch.holds == {} and (watch.waits.count, watch.waits.longest) == (1, 0.07)
    watch._note(_Now(0.0, 0.0), [(_Sample("map", line, (line,)), _Now(0.07, 0.0))])
    assert watch.waits.count == 1 and list(watch.holds) == [("map", line)]


def test_the_command_line_shows_a_table_and_the_report_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    from aiopipe.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "holding.py").write_text("import time\nasync def hold(row):\n    time.sleep(0.1)\n    return row\n")
    (tmp_path / "in.csv").write_text("id\n1\n2\n")
    argv = "pipe --debug --report r.json read in.csv then map holding.py:hold then write out.csv"
    assert main(argv.split()) == 0
    shown = capfd.readouterr().err
    assert "debug: the event loop was held longer than 50 ms by" in shown
    assert "holding.py:3, in hold: time.sleep(0.1)" in shown
    [hold] = json.loads((tmp_path / "r.json").read_text())["debug"]["holds"]
    assert (hold["stage"], hold["line"], hold["function"]) == ("map", 3, "hold")
