"""What is said of failures, and how signals are received where the event loop has no handlers for them."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from aiopipe import FunctionError, InputError, Position, UsageError
from aiopipe.cli.failures import exit_code_of, show_failure, users_frames
from aiopipe.cli.running import execute
from aiopipe.cli.signals import Stopper
from aiopipe.job.options import JobOptions
from aiopipe.stage import Outcome, Pipeline, Sink
from aiopipe.stages.items import From

MISSING = InputError("in.csv: no such file", hint="check the path")


def said(error: BaseException, capsys: pytest.CaptureFixture[str], *, debug: bool = False) -> str:
    show_failure(error, debug=debug)
    return capsys.readouterr().err


def test_every_cause_in_a_group_is_told_once(capsys: pytest.CaptureFixture[str]):
    wrong = FunctionError("KeyError: 'x'", position=Position("a.csv", 3, 2, 17), stage="map", hint="mend it")
    wrong.add_note("column x was dropped before")
    group = ExceptionGroup("", [MISSING, ExceptionGroup("", [wrong, MISSING])])
    assert said(group, capsys) == (
        "aiopipe: in.csv: no such file\n  next: check the path\n"
        "aiopipe: a.csv:3 (record 2, byte 17): map: KeyError: 'x'\n  next: mend it\ncolumn x was dropped before\n"
    )
    assert "ExceptionGroup" in said(group, capsys, debug=True)


def test_more_causes_than_anybody_reads_are_counted(capsys: pytest.CaptureFixture[str]):
    text = said(ExceptionGroup("", [InputError(f"file {i}") for i in range(14)]), capsys)
    assert text.count("aiopipe: file") == 10
    assert text.endswith("aiopipe: and 4 more\n")


@pytest.mark.parametrize(
    ("causes", "code"),
    [([MISSING], 1), ([UsageError("a")], 2), ([UsageError("a"), UsageError("b")], 2), ([UsageError("a"), MISSING], 1)],
)
def test_only_wrong_usage_exits_with_2(causes: list[Exception], code: int):
    assert exit_code_of(ExceptionGroup("", causes)) == code


def test_a_traceback_is_shown_without_our_frames():
    import aiopipe.stages._calls as ours

    trace = (
        "Traceback (most recent call last):\n"
        f'  File "{ours.__file__}", line 1, in call_each\n    function(value)\n'
        '  File "/home/me/mine.py", line 2, in boom\n    raise KeyError("x")\n'
        "KeyError: 'x'\n"
    )
    assert users_frames(trace) == (
        'Traceback (most recent call last):\n  File "/home/me/mine.py", line 2, in boom\n    raise KeyError("x")\n'
        "KeyError: 'x'"
    )


def test_a_mistake_of_ours_is_called_one(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    # Code that no file holds is neither a user's nor a library's: it stands for ours.
    code = compile("def consume():\n    raise IndexError('list index out of range')", "<ours>", "exec")
    scope: dict[str, object] = {}
    exec(code, scope)
    try:
        scope["consume"]()  # type: ignore[operator]
    except IndexError as error:
        assert error.__traceback__ is not None
        error.__traceback__ = error.__traceback__.tb_next
        text = said(error, capsys)
    assert text.startswith("Traceback (most recent call last):")
    assert "this is a bug of aiopipe, not of your data: please report it" in text


def test_out_of_memory_says_what_to_change(capsys: pytest.CaptureFixture[str]):
    assert "give --memory a smaller size" in said(MemoryError(), capsys)


class Waits(Sink):
    """Takes nothing until the run is stopped."""

    word = "waits"

    async def consume(self, parcels: object, context: object) -> Outcome:  # type: ignore[override]
        os.kill(os.getpid(), signal.SIGTERM)
        await context.stop.wait()  # type: ignore[attr-defined]
        return Outcome()


@pytest.mark.skipif(os.name == "nt", reason="os.kill is another thing on Windows")
@pytest.mark.parametrize("loop_has_handlers", [True, False])
def test_a_signal_is_received_with_and_without_the_loops_help(
    loop_has_handlers: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def refuse(*_: object) -> None:
        raise NotImplementedError

    if not loop_has_handlers:  # as on Windows
        monkeypatch.setattr(asyncio.SelectorEventLoop, "add_signal_handler", refuse)
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    assert execute(Pipeline((From([1]), Waits())), JobOptions()) == 143
    assert "stopping: no more is read" in capsys.readouterr().err
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.skipif(os.name == "nt", reason="os.kill is another thing on Windows")
def test_a_signal_that_was_ignored_before_stays_ignored():
    async def main() -> int:
        task = asyncio.ensure_future(asyncio.sleep(60))
        stopper = Stopper(task, asyncio.Event())
        with stopper.listening():
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.05)
        task.cancel()
        return stopper.count

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert asyncio.run(main()) == 0
    finally:
        signal.signal(signal.SIGINT, before)
