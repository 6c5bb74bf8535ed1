"""Context variables reach users' functions, wherever these run, and those of two callers never mix."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest

from aiopipe import Collect, Map, Read
from aiopipe.carried import carried, restored
from tests.guest import functions
from tests.support import drive, write

PLACES: dict[str, dict[str, Any]] = {
    "loop": {"function": functions.whose_in_loop},
    "generator": {"function": functions.whose_of_a_file},
    "thread": {"function": functions.whose},
    "threads of its own": {"function": functions.whose, "concurrency": 2},
    "shared thread": {"function": functions.whose, "thread_sensitive": True},
    "process": {"function": functions.whose, "placement": "process"},
}


@pytest.fixture
def source(tmp_path: Path) -> str:
    return write(tmp_path / "in.csv", "id\n1\n2\n")


@pytest.mark.parametrize("place", PLACES)
def test_a_context_variable_reaches_the_function(place: str, source: str):
    async def ask(name: str) -> list[Any]:
        functions.tenant.set(name)
        options = dict(PLACES[place])
        report = await (Read(source) | Map(options.pop("function"), **options) | Collect()).run()
        return report.items

    async def main() -> list[list[Any]]:
        return await asyncio.gather(ask("ada"), ask("bob"))

    answers = drive(main, within=60)
    assert [{row["tenant"] for row in rows} for rows in answers] == [{"ada"}, {"bob"}]
    away = {row["pid"] for rows in answers for row in rows} != {str(os.getpid())}
    assert away == (place == "process")
    assert functions.tenant.get() == "nobody"


def test_to_a_process_goes_what_pickles_and_the_rest_keeps_its_default(source: str):
    async def main() -> list[Any]:
        functions.tenant.set("ada")
        functions.lock.set(threading.Lock())  # cannot be pickled
        report = await (Read(source) | Map(functions.whose, placement="process") | Collect()).run()
        return report.items

    assert {(row["tenant"], row["lock"]) for row in drive(main, within=60)} == {("ada", "no lock")}


def test_a_variable_that_no_module_holds_stays_behind():
    import contextvars

    hidden: contextvars.ContextVar[str] = contextvars.ContextVar("hidden")

    def inside() -> None:
        hidden.set("secret")
        functions.tenant.set("ada")
        sent = carried()
        assert [addresses for addresses, _ in sent] == [(("tests.guest.functions", "tenant"),)]
        context = contextvars.Context().run(restored, sent)
        assert context[functions.tenant] == "ada" and hidden not in context

    contextvars.copy_context().run(inside)


def test_what_a_worker_does_not_have_or_cannot_read_is_left_alone():
    sent = (
        ((("no.such.module", "tenant"),), b"\x80\x04."),
        ((("tests.guest.functions", "whose"),), b"\x80\x04N."),  # no variable
        ((("tests.guest.functions", "tenant"),), b"no pickle"),
    )
    assert functions.tenant not in restored(sent)


def test_looking_for_variables_wakes_no_lazy_object(monkeypatch):
    """Django's settings, for one, read their files when somebody asks for their class."""

    class Lazy:
        @property
        def __class__(self):
            raise RuntimeError("woken")

    module = types.ModuleType("lazy_module")
    module.lazy, module.var = Lazy(), contextvars.ContextVar("lazy_var")
    monkeypatch.setitem(sys.modules, "lazy_module", module)

    def look():
        module.var.set(7)
        return carried()

    found = [names for names, _ in contextvars.copy_context().run(look)]
    assert (("lazy_module", "var"),) in found
