"""`@stage`: a user's functions and classes as stages, in the library, the shell, files and worker processes."""

from __future__ import annotations

import dataclasses
import importlib
import pickle
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiopipe import Collect, From, Pipeline, Read, UnknownNameError, UsageError, Write, stage, stages
from aiopipe.cli import main
from aiopipe.cli.segments import command_of, pipeline_of
from aiopipe.pipefile import dumps, loads
from aiopipe.stage import Apply, FanIn, FanOut, Flow, Scope, Sink, Source, Stage, Transform
from aiopipe.stages import find_stage, words

MODULE = '''
"""Stages of a user."""
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pyarrow.compute as pc

from aiopipe import Row, stage
from aiopipe.options import option
from aiopipe.stage import Apply, Scope

@stage
def shout(row: Row, *, column: str = "name", times: int = 1) -> Row:
    """Make a column loud."""
    row[column] = row[column].upper() + "!" * times
    return row

@stage(word="count-up", placement="process")
def count_up(row, *, by: int):
    row["id"] = str(int(row["id"]) + by)
    return row

@stage(concurrency=4, timeout=5)
async def enquire(row, *, twice: bool = False, rate: float = 0.5):
    row["name"] = f"{row['name']} {twice} {rate}"
    return row

@stage
async def every(rows: AsyncIterator[Row], *, n: int = 2) -> AsyncIterator[Row]:
    i = 0
    async for row in rows:
        i += 1
        if i % n == 0:
            yield row

@stage
class Upper(Apply):
    """Put a column in capitals."""
    column: str = option(positional="one", help="which column")
    def apply(self, batch: Any, scope: Scope) -> Any:
        return batch.with_columns({self.column: pc.utf8_upper(batch.values(self.column))})

@stage
class Faulty(Apply):
    """Fails."""
    def apply(self, batch: Any, scope: Scope) -> Any:
        return batch.nothing
'''
ROWS = "id,name\n1,ann\n2,bob\n"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module above, imported from a file, beside in.csv; both are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(stages, "_registered", dict(stages._registered))
    (tmp_path / "users_stages.py").write_text(MODULE)
    (tmp_path / "in.csv").write_text(ROWS)
    importlib.invalidate_caches()
    yield importlib.import_module("users_stages")
    del sys.modules["users_stages"]


# What follows `then`, the same in Python, its table in a file, and what it makes of the rows.
DOORS = [
    ("shout", "shout()", 'use = "shout"', "id,name\n1,ANN!\n2,BOB!\n"),
    (
        "shout --column id --times 2",
        "shout(column='id', times=2)",
        'use = "shout"\ncolumn = "id"\ntimes = 2',
        "id,name\n1!!,ann\n2!!,bob\n",
    ),
    ("count-up --by 3", "count_up(by=3)", 'use = "count-up"\nby = 3', "id,name\n4,ann\n5,bob\n"),
    (
        "enquire --twice --rate 2",
        "enquire(twice=True, rate=2.0)",
        'use = "enquire"\ntwice = true\nrate = 2.0',
        "id,name\n1,ann True 2.0\n2,bob True 2.0\n",
    ),
    ("every", "every()", 'use = "every"', "id,name\n2,bob\n"),
    ("every --n 1", "every(n=1)", 'use = "every"\nn = 1', ROWS),
    ("upper name", "Upper('name')", 'use = "upper"\ncolumn = "name"', "id,name\n1,ANN\n2,BOB\n"),
]


@pytest.mark.parametrize(("shell", "python", "toml", "out"), DOORS, ids=[d[0] for d in DOORS])
def test_a_users_stage_is_the_same_in_all_doors(
    mine: Any, shell: str, python: str, toml: str, out: str, capfd: pytest.CaptureFixture[str]
):
    library = Read("in.csv") | eval(python, vars(mine)) | Write("-")
    from_shell = pipeline_of(shlex.split(f"read in.csv then {shell} then write -"))
    ends = '[[stage]]\nuse = "read"\npaths = "in.csv"\n', '[[stage]]\nuse = "write"\nto = "-"\n'
    from_file = loads(f"{ends[0]}[[stage]]\n{toml}\n{ends[1]}")
    assert library == from_shell == from_file == loads(dumps(library))
    assert repr(library.stages[1]) == python
    library.run_sync()
    assert capfd.readouterr().out == out


def test_stages_with_other_options_differ(mine: Any):
    assert mine.shout(times=1) == mine.shout() != mine.shout(times=2)
    assert hash(mine.shout(times=1)) == hash(mine.shout())


def test_a_users_stage_travels_to_another_process(mine: Any):
    for made in (mine.shout(times=3), mine.count_up(by=2), mine.Upper("name")):
        assert pickle.loads(pickle.dumps(made)) == made
    assert mine.count_up(by=2).placement == "process"
    assert mine.enquire().placement == "loop"


def test_the_shell_knows_a_stage_once_its_module_is_imported(
    mine: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(stages, "_registered", {})
    del sys.modules["users_stages"]
    assert main(shlex.split("pipe read in.csv then shout then write -")) == 2
    assert "no stage 'shout'" in capfd.readouterr().err
    for module in ("users_stages", "users_stages.py"):
        assert main(shlex.split(f"pipe --import {module} read in.csv then shout then write -")) == 0
        assert capfd.readouterr().out == "id,name\n1,ANN!\n2,BOB!\n"


def test_a_users_stage_has_help_from_its_docstring_and_parameters(mine: Any):
    command = command_of(find_stage("shout"))
    with command.make_context("shout", [], resilient_parsing=True) as context:
        text = command.get_help(context)
    assert "Make a column loud." in text
    assert "--times INTEGER  parameter times of shout  [default: 1]" in text


def test_an_error_of_a_users_class_is_shown_with_its_own_line(mine: Any, capfd: pytest.CaptureFixture[str]):
    assert main(shlex.split("pipe read in.csv then faulty then write -")) == 1
    err = capfd.readouterr().err
    assert "has no attribute 'nothing' (users_stages.py:" in err
    assert "bug of aiopipe" not in err


def test_a_stage_of_an_installed_package_needs_no_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """As pip leaves it: a module and a .dist-info with entry points on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stages, "_registered", dict(stages._registered))
    (tmp_path / "in.csv").write_text(ROWS)
    site = tmp_path / "site"
    info = site / "loudness-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "loudness.py").write_text(
        "from aiopipe import stage\n\n@stage\ndef louder(row, *, mark: str = '!'):\n"
        "    return {**row, 'name': row['name'] + mark}\n"
    )
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loudness\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[aiopipe.stages]\nlouder = loudness:louder\nlost = loudness:lost\n")
    monkeypatch.syspath_prepend(str(site))
    try:
        assert "louder" in words()
        assert "loudness" not in sys.modules  # listing imports nothing
        assert main(shlex.split("pipe read in.csv then louder --mark ? then write -")) == 0
        assert capfd.readouterr().out == "id,name\n1,ann?\n2,bob?\n"
        assert main(shlex.split("pipe read in.csv then lost then write -")) == 2
        assert "the stage 'lost' of an installed package cannot be loaded" in capfd.readouterr().err
        assert main(["stages"]) == 0  # one that is broken does not hide the others
        out = capfd.readouterr().out
        assert "louder" in out and "lost" in out
    finally:
        sys.modules.pop("loudness", None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: stage(lambda: None), "takes no row"),  # type: ignore[arg-type, misc]
        (lambda: stage(positional), "option times is not keyword-only"),
        (lambda: stage(word="filter")(plain), "a stage called 'filter' exists already"),
        (lambda: stage(word="then")(plain), "a stage called 'then' exists already"),
        (lambda: stage(int), "int is no stage"),  # type: ignore[type-var]
        (lambda: stage(concurency=3)(plain), "@stage has no option 'concurency'"),  # type: ignore[call-overload]
    ],
)
def test_what_cannot_be_a_stage_is_refused_where_it_is_decorated(make: Any, message: str):
    with pytest.raises(UsageError, match=message):
        make()


def test_a_word_is_registered_once_but_a_module_may_be_imported_again(mine: Any):
    importlib.reload(mine)
    with pytest.raises(UsageError, match="'shout' exists already"):
        stage(word="shout")(plain)
    with pytest.raises(UnknownNameError, match="no option 'colour'"):
        loads('[[stage]]\nuse="read"\npaths="a"\n[[stage]]\nuse="shout"\ncolour=1\n[[stage]]\nuse="write"\nto="-"\n')


def test_a_function_that_is_a_stage_can_be_used_by_map_too(mine: Any):
    pipeline: Pipeline = From([{"name": "ann"}]) | mine.shout.stage_function | Collect()
    assert pipeline.run_sync().items == [{"name": "ANN!"}]


def plain(row: dict[str, str]) -> dict[str, str]:
    return row


def positional(row: dict[str, str], times: int) -> dict[str, str]:
    return row


class Same(Apply):
    """A stage without options, as a library has it: neither @stage nor @dataclass stands above it."""

    word = "same"
    takes = ("records", "items")

    def apply(self, batch: Any, scope: Scope) -> Any:
        return batch


def test_a_class_without_options_needs_no_decorator():
    one = Same()
    assert one == Same() and hash(one) == hash(Same()) and repr(one) == "Same()"
    assert dataclasses.fields(one) == () and dataclasses.replace(one) == one == pickle.loads(pickle.dumps(one))
    assert (From([1, 2]) | one | Collect()).run_sync().items == [1, 2]


@pytest.mark.parametrize("kind", [Stage, Source, Transform, Apply, Flow, Sink, FanOut, FanIn])
def test_a_stage_that_can_be_changed_is_refused_whatever_its_kind(kind: type[Stage]):
    with pytest.raises(TypeError, match="non-frozen"):
        dataclasses.dataclass(type("Mutable", (kind,), {}))
    frozen = dataclasses.dataclass(frozen=True)(type("Fixed", (kind,), {"size": 1, "__annotations__": {"size": int}}))
    made: Any = frozen(size=2)
    assert made == frozen(2) != frozen(3) and hash(made) == hash(frozen(2)) and made != kind()
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.size = 3
