"""Inside the programs people have: web services, notebooks, bots, and plain scripts with threads."""

from __future__ import annotations

import ast
import asyncio
import logging
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request

from aiopipe import Collect, Filter, From, Map, Read, RecordError, UsageError, Write
from tests.engine.pieces import forever
from tests.support import drive, write

GOOD = "id,amount\n1,5\n2,500\n"
BAD = "id,amount\n3,7\n1\n"


def over_100(source: str | Path, target: Path) -> Any:
    return Read(source) | Filter("amount > 100") | Write(target)


def test_requests_of_a_fastapi_service_run_pipelines_side_by_side(tmp_path: Path):
    """A good and a bad upload, eight at once; the bad ones are answered with what is wrong in them."""
    app = FastAPI()

    @app.post("/{number}")
    async def upload(number: int, request: Request) -> dict[str, int]:
        source = write(tmp_path / f"{number}.csv", await request.body())
        try:
            report = await over_100(source, tmp_path / f"out{number}.csv").run()
        except ExceptionGroup as group:  # what is raised under except* would become a group itself
            problem = next(e for e in group.exceptions if isinstance(e, RecordError))
            raise HTTPException(422, problem.message) from None
        return {"read": report.read, "written": report.written}

    async def main() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            bodies = [BAD if i % 2 else GOOD for i in range(8)]
            return await asyncio.gather(*(client.post(f"/{i}", content=body) for i, body in enumerate(bodies)))

    answers = drive(main, within=60)
    assert [a.status_code for a in answers] == [200, 422] * 4
    assert answers[0].json() == {"read": 2, "written": 1}
    assert answers[1].json() == {"detail": "1 field, header has 2"}
    assert sorted(p.name for p in tmp_path.glob("out*")) == ["out0.csv", "out2.csv", "out4.csv", "out6.csv"]


@pytest.fixture(scope="module")
def urls() -> types.ModuleType:
    """A Django project of two views, configured once for this process."""

    import django
    from django.conf import settings
    from django.http import HttpRequest, JsonResponse
    from django.urls import path

    async def async_view(request: HttpRequest, folder: str) -> JsonResponse:
        report = await over_100(Path(folder, "in.csv"), Path(folder, "async.csv")).run()
        return JsonResponse({"written": report.written})

    def sync_view(request: HttpRequest, folder: str) -> JsonResponse:
        mine = threading.get_ident()
        pipeline = From([1]) | Map(lambda _: threading.get_ident() == mine, thread_sensitive=True) | Collect()
        written = over_100(Path(folder, "in.csv"), Path(folder, "sync.csv")).run_sync().written
        return JsonResponse({"written": written, "same thread": pipeline.run_sync().items})

    module = types.ModuleType("guest_urls")
    module.urlpatterns = [  # type: ignore[attr-defined]
        path("async/<path:folder>", async_view),
        path("sync/<path:folder>", sync_view),
    ]
    sys.modules["guest_urls"] = module
    if not settings.configured:
        settings.configure(
            ROOT_URLCONF="guest_urls", ALLOWED_HOSTS=["testserver"], SECRET_KEY="none", LOGGING_CONFIG=None
        )
        django.setup()
    return module


@pytest.fixture
def project(urls: types.ModuleType) -> Iterator[None]:
    from django.test import override_settings

    with override_settings(ROOT_URLCONF="guest_urls", ALLOWED_HOSTS=["testserver"]):
        yield


def test_a_django_async_view_awaits_a_pipeline(project: None, tmp_path: Path):
    from django.test import AsyncClient

    write(tmp_path / "in.csv", GOOD)

    async def main() -> Any:
        return (await AsyncClient().get(f"/async/{tmp_path}")).json()

    assert drive(main, within=60) == {"written": 1}
    assert (tmp_path / "async.csv").read_text() == "id,amount\n2,500\n"


@pytest.mark.parametrize("server", ["asgi", "wsgi"])
def test_a_sync_django_view_runs_a_pipeline_and_thread_bound_code_in_its_own_thread(
    project: None, tmp_path: Path, server: str
):
    """Under ASGI the view stands in a thread that the event loop waits for: neither may wait for the other."""
    from django.test import AsyncClient, Client

    write(tmp_path / "in.csv", GOOD)

    async def main() -> Any:
        return (await AsyncClient().get(f"/sync/{tmp_path}")).json()

    answer = drive(main, within=60) if server == "asgi" else Client().get(f"/sync/{tmp_path}").json()
    assert answer == {"written": 1, "same thread": [True]}


CELLS = """
from aiopipe import Collect, Filter, Read
pipeline = Read("in.csv") | Filter("amount > 100") | Collect()
# %%
report = await pipeline.run()
# %%
found = [row["id"] async for row in rows] if False else []
async with (Read("in.csv") | Filter("amount < 100")).stream() as rows:
    async for row in rows:
        found.append(row["id"])
# %%
report = await pipeline.run()
"""


def test_cells_of_a_notebook_await_pipelines_in_the_kernels_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As a kernel does it: each cell is compiled with await at its top and run as a task of one running loop."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.csv", GOOD)
    names: dict[str, Any] = {}

    async def main() -> None:
        for cell in CELLS.split("# %%"):
            code = compile(cell, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            coroutine = eval(code, names)
            if coroutine is not None:
                await asyncio.create_task(coroutine)

    drive(main)
    assert names["report"].items == [{"id": "2", "amount": "500"}] and names["found"] == ["1"]


def test_run_sync_in_a_notebook_says_what_to_write_instead():
    async def main() -> None:
        with pytest.raises(UsageError) as caught:
            (From([1]) | Collect()).run_sync()
        assert "await pipeline.run(...)" in str(caught.value)

    drive(main)


def test_run_sync_in_threads_of_an_async_program(tmp_path: Path):
    sources = [write(tmp_path / f"{i}.csv", GOOD) for i in range(4)]

    async def main() -> list[int]:
        runs = [asyncio.to_thread(over_100(s, tmp_path / f"out{i}.csv").run_sync) for i, s in enumerate(sources)]
        return [report.written for report in await asyncio.gather(*runs)]

    assert drive(main, within=60) == [1, 1, 1, 1]


def test_a_bot_lives_on_through_a_hundred_runs_of_which_some_fail(tmp_path: Path):
    """Each message starts a run. After the last one there are as many tasks as before the first, and no new thread."""
    good, bad = write(tmp_path / "good.csv", GOOD), write(tmp_path / "bad.csv", BAD)

    async def bot(messages: asyncio.Queue[str | None], answers: list[str]) -> None:
        while (path := await messages.get()) is not None:
            try:
                report = await (Read(path) | Filter("amount > 100") | Collect()).run(workers=1)
                answers.append(f"{len(report.items)} found")
            except* RecordError as group:
                answers.append(group.exceptions[0].message)  # type: ignore[attr-defined]
            if len(answers) == 100:
                answered.set()

    async def main() -> None:
        nonlocal answered
        answered = asyncio.Event()
        messages: asyncio.Queue[str | None] = asyncio.Queue()
        answers: list[str] = []
        running = asyncio.create_task(bot(messages, answers))
        # Of the test before some may still be on their way out: how many there are says nothing, whose they are does.
        tasks, threads = len(asyncio.all_tasks()), set(threading.enumerate())
        for i in range(100):
            messages.put_nowait(bad if i % 10 == 9 else good)
        await answered.wait()
        assert len(asyncio.all_tasks()) == tasks
        assert set(threading.enumerate()) <= threads
        messages.put_nowait(None)
        await running
        assert answers == (["1 found"] * 9 + ["1 field, header has 2"]) * 10

    answered: asyncio.Event
    drive(main, within=120)


@pytest.mark.parametrize("how", ["timeout", "sibling", "cancel"])
def test_a_run_is_cancelled_with_its_parent(tmp_path: Path, how: str):
    source = write(tmp_path / "in.csv", GOOD)
    cancelled: list[str] = []

    async def waits(row: Any) -> Any:
        begun.set()
        try:
            await forever()
        except asyncio.CancelledError:
            cancelled.append(row["id"])
            raise

    async def main() -> None:
        nonlocal begun
        begun = asyncio.Event()
        run = (Read(source) | Map(waits) | Write(tmp_path / "out.csv")).run

        async def fails() -> None:
            await begun.wait()
            raise OSError("sibling")

        if how == "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(None) as clock:
                    task = asyncio.create_task(begun.wait())
                    task.add_done_callback(lambda _: clock.reschedule(0))
                    await run()
        elif how == "sibling":
            with pytest.raises(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(run())
                    group.create_task(fails())
        else:
            running = asyncio.create_task(run())
            await begun.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    begun: asyncio.Event
    drive(main)
    assert sorted(cancelled) == ["1", "2"] and not (tmp_path / "out.csv").exists()


def test_cancelling_one_of_two_runs_does_not_touch_the_other(tmp_path: Path):
    source = write(tmp_path / "in.csv", GOOD)
    threads: dict[str, set[int]] = {"one": set(), "two": set()}

    async def main() -> Any:
        begun, free = asyncio.Event(), asyncio.Event()

        def pipeline(name: str) -> Any:
            def compute(row: Any) -> Any:
                threads[name].add(threading.get_ident())
                return row

            async def waits(row: Any) -> Any:
                begun.set()
                await free.wait()
                return row

            return Read(source) | Map(compute) | Map(waits) | Write(tmp_path / f"{name}.csv")

        one, two = (asyncio.create_task(pipeline(name).run()) for name in threads)
        while not all(threads.values()):
            await begun.wait()
            await asyncio.sleep(0)
        one.cancel()
        await asyncio.wait([one])
        assert one.cancelled() and not two.done()
        free.set()
        return await two

    report = drive(main)
    assert report.written == 2 and report.balanced
    assert (tmp_path / "two.csv").read_text() == GOOD and not (tmp_path / "one.csv").exists()
    assert threads["one"].isdisjoint(threads["two"])


def test_a_library_run_leaves_the_hosts_signals_loop_and_logging_alone(tmp_path: Path):
    source = write(tmp_path / "in.csv", GOOD)
    heard: asyncio.Queue[int]

    def state() -> tuple[Any, ...]:
        loop = asyncio.get_running_loop()
        signals = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
        logs = [(logging.getLogger(n).level, logging.getLogger(n).handlers[:]) for n in ("", "aiopipe", "asyncio")]
        return signals, logs, loop.get_debug(), loop.get_task_factory(), loop.get_exception_handler()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        nonlocal heard
        heard = asyncio.Queue()
        loop.add_signal_handler(signal.SIGTERM, heard.put_nowait, 1)
        before = state()

        async def inside(row: Any) -> Any:
            assert state() == before
            signal.raise_signal(signal.SIGTERM)
            return row

        report = await (Read(source) | Map(inside) | Write(tmp_path / "out.csv")).run(debug=True)
        assert report.written == 2 and not report.interrupted
        assert state() == before
        assert [await heard.get(), await heard.get()] == [1, 1]
        loop.remove_signal_handler(signal.SIGTERM)

    drive(main)


def test_the_hosts_choice_of_loop_is_kept(tmp_path: Path):
    uvloop = pytest.importorskip("uvloop")
    source = write(tmp_path / "in.csv", GOOD)

    async def main() -> Any:
        loops: set[Any] = set()

        async def inside(row: Any) -> Any:
            loops.add(asyncio.get_running_loop())
            return row

        report = await (Read(source) | Map(inside) | Write(tmp_path / "out.csv")).run()
        assert loops == {asyncio.get_running_loop()} and isinstance(loops.pop(), uvloop.Loop)
        return report

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()).written == 2


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="eager tasks came with Python 3.12")
def test_a_host_with_eager_tasks_is_served_as_well(tmp_path: Path):
    source = write(tmp_path / "in.csv", GOOD)

    async def same(row: Any) -> Any:
        return row

    async def main() -> Any:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        run = (Read(source) | Map(same) | Filter("amount > 100") | Map(same) | Write(tmp_path / "out.csv")).run
        return await run(debug=True)

    report = drive(main)
    assert report.balanced and (tmp_path / "out.csv").read_text() == "id,amount\n2,500\n"


FIRST = """
import asyncio, sys, threading
from aiopipe import Derive, Filter, Map, Read, Select, Write, preload
import aiopipe.cli.running
if "preload" in sys.argv:
    preload()
before = set(sys.modules)
names = set()

class Watching:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("aiopipe", "numpy", "pyarrow", "duckdb", "aiofiles"):
            names.add((name, threading.current_thread() is threading.main_thread()))

async def same(row):
    return row

sys.meta_path.insert(0, Watching())
derive = Derive(c="upper(CAST(id AS VARCHAR))")
pipeline = Read("in.csv") | Filter("amount > 1") | derive | Map(same) | Select("c") | Write("out.csv")
asyncio.run(pipeline.run())
print(sorted(n for n, in_loop in names if in_loop), len([n for n, in_loop in names if not in_loop]))
"""


@pytest.mark.parametrize("how", ["", "preload"])
def test_the_first_run_imports_off_the_loop_or_nothing_at_all(tmp_path: Path, how: str):
    write(tmp_path / "in.csv", GOOD)
    write(tmp_path / "first.py", FIRST)
    done = subprocess.run([sys.executable, "first.py", how], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    in_loop, _, elsewhere = done.stdout.rpartition(" ")
    assert in_loop == "[]" and (int(elsewhere) == 0) == (how == "preload")
