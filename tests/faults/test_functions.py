"""A user's function that goes wrong costs its row, is named with place and reason, and never more."""

import asyncio
import contextvars
import sys

import pytest

from aiopipe import Collect, From, FunctionError, Map, Read, UsageError, Write
from tests.faults import functions
from tests.faults.rows import CSV, maps, raises
from tests.support import drive, failure, leaves, rejects, tree, write


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "in.csv", CSV)


ERRORS = [ValueError("three\nis bad"), StopIteration("x"), TimeoutError(), SystemExit(3), KeyError("k"), MemoryError()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_a_function_that_raises_is_named_with_row_and_line_of_code(error, path, tmp_path):
    for stage in maps(raises(error)):
        found = failure(Read(path) | stage | Write(f"{tmp_path}/out.csv"))
        assert isinstance(found, FunctionError)
        assert str(found).startswith(f"{path}:4 (record 3, byte 15): map: ")
        assert type(error).__name__ in str(found) or "StopIteration" in str(found)
        assert "rows.py:" in str(found)
        assert "--rejects" in str(found)
        assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_rows_whose_function_raised_can_be_set_aside(error, path, tmp_path):
    for stage in maps(raises(error)):
        pipeline = Read(path) | stage | Write(f"{tmp_path}/out.csv")
        report = pipeline.run_sync(rejects=str(tmp_path / "rejects.csv"))
        assert report.balanced
        assert (tmp_path / "out.csv").read_bytes() == CSV.replace(b"3,c\n", b"")
        [row] = rejects(tmp_path / "rejects.csv")
        assert row["raw"] == b"3,c\n"
        assert (row["line"], row["record"], row["byte"], row["stage"]) == ("4", "3", "15", "map")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "returned NoneType, not a row"),
        ("text", "returned str, not a row"),
        ([1], "returned list, not a row"),
        ({"v": "3"}, "returned a row that lacks text"),
        ({"v": "3", "text": "c", "more": "m"}, "returned a row that adds more"),
        ({"v": "3", "text": [1]}, "gave 'text' a list"),
        ({"v": "3", "text": b"c"}, "gave 'text' a bytes"),
        ({"v": "3", "text": "\udcff"}, "lone surrogate"),
    ],
)
def test_a_function_that_returns_what_it_may_not(value, reason, path, tmp_path):
    for stage in maps(lambda row: value if row["v"] == "3" else row):
        found = failure(Read(path) | stage | Collect())
        assert str(found).startswith(f"{path}:4 (record 3, byte 15): map: the function {reason}") or reason in str(
            found
        )
        assert found.hint
        report = (Read(path) | stage | Collect()).run_sync(rejects=str(tmp_path / "rejects.csv"))
        assert [r["v"] for r in report.items] == ["1", "2", "4"]
        assert [r["raw"] for r in rejects(tmp_path / "rejects.csv")] == [b"3,c\n"]


def test_numbers_and_truth_become_text_as_sql_writes_it(path):
    values = {"v": 7, "text": 1.5, "n": None, "t": True, "f": False}

    async def each(rows):
        async for _ in rows:
            yield dict(values)

    for stage in [*maps(lambda row: dict(values)), Map(each)]:
        report = (Read(path) | stage | Collect()).run_sync()
        assert report.items[0] == {"v": "7", "text": "1.5", "n": "", "t": "true", "f": "false"}


def test_columns_that_differ_from_one_part_of_a_file_to_the_next_are_an_error(tmp_path):
    """The function decides by what it has seen: the first rows have one set of columns, later ones another."""
    path = write(tmp_path / "in.csv", "v\n" + "1\n" * 500 + "2\n" * 500)
    found = failure(
        Read(path, block=100) | Map(lambda r: r if r["v"] == "1" else {"w": r["v"]}) | Write(f"{tmp_path}/out/")
    )
    assert "columns" in str(found)
    assert tree(tmp_path / "out") == {}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing", "names no function"),
        ("no.such.module:f", "cannot import no.such.module"),
        ("nowhere.py:f", "no file nowhere.py"),
        ("tests.faults.functions:shuot", "did you mean shout?"),
        ("tests.faults.functions:os", "is no function"),
    ],
)
def test_a_function_that_cannot_be_found_is_named(name, reason):
    with pytest.raises(UsageError) as caught:
        Map(name)
    assert reason in str(caught.value)
    assert caught.value.hint


def test_a_module_that_fails_to_import_says_so(tmp_path):
    write(tmp_path / "broken_functions.py", "1 / 0\n")
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        Map(f"{tmp_path}/broken_functions.py:f")
    sys.path.remove(str(tmp_path))


def test_what_cannot_be_is_refused_at_once():
    """Timeouts where nothing could end the call; an async function in a thread; nonsense."""
    for options in (
        {"timeout": 5},
        {"timeout": 5, "concurrency": 2},
        {"placement": "loop"},
        {"placement": "process", "concurrency": 2},
        {"concurrency": 0},
        {"placement": "moon"},
    ):
        with pytest.raises(UsageError) as caught:
            Map(functions.same, **options)
        assert caught.value.hint
    for options in ({"placement": "thread"}, {"placement": "process"}):
        with pytest.raises(UsageError):
            Map(functions.ashout, **options)
    for options in ({"timeout": 5}, {"concurrency": 5}):
        with pytest.raises(UsageError, match="generator"):
            Map(functions.twice, **options)


@pytest.mark.parametrize("content", ["", "\n", "v,text\n"])
def test_a_function_is_never_called_for_a_file_without_records(content, tmp_path):
    path = write(tmp_path / "in/a.csv", content)
    for stage in maps(lambda row: 1 / 0):
        (Read(path, block=1) | stage | Write(f"{tmp_path}/out/")).run_sync()
        assert (tmp_path / "out/a.csv").read_text() == content.lstrip("\n")


def test_columns_of_the_same_name_are_refused_behind_what_came_before_them(tmp_path):
    """The calls for the first file are still under way when the second one turns out to be of no use."""
    write(tmp_path / "in/1.csv", CSV)
    write(tmp_path / "in/2.csv", "v,v\n1,2\n")

    async def slow(row):
        await asyncio.sleep(0.02)
        return row

    error = failure(Read(tmp_path / "in", block=1) | Map(slow) | Write(f"{tmp_path}/out/"))
    assert "2.csv: map: column 'v' stands 2 times" in str(error)
    assert tree(tmp_path / "out") == {"1.csv": CSV}


def test_items_that_a_function_refuses_are_shown():
    def refuse(value):
        if value == 3:
            raise ValueError("three")
        return value

    for stage in maps(refuse):
        found = failure(From(range(5)) | stage | Collect())
        assert isinstance(found, FunctionError)
        assert "ValueError: three" in str(found)
        assert str(found).count("for 3") == 1


def test_context_variables_reach_functions_in_every_placement(path):
    variable = contextvars.ContextVar("variable", default="unset")

    def function(row):
        return {**row, "text": variable.get()}

    for stage in maps(function):

        async def main(stage=stage):
            variable.set("set")
            return await (Read(path) | stage | Collect()).run()

        assert [r["text"] for r in drive(main).items] == ["set"] * 4


def test_every_cause_is_in_one_group(path):
    """Nobody has to guess: `except*` finds it."""
    with pytest.raises(ExceptionGroup) as caught:
        (Read(path) | Map(functions.picky) | Collect()).run_sync()
    [error] = leaves(caught.value)
    assert isinstance(error, FunctionError)
    assert any("in picky" in note for note in error.__notes__)


def test_two_files_of_one_name_are_two_modules(tmp_path):
    write(tmp_path / "in.csv", "v\n1\n")
    for name in ("one", "two"):
        write(tmp_path / name / "same_name.py", f"def f(row):\n    return {{'v': row['v'] + ' {name}'}}\n")
    for name in ("one", "two", "one"):
        pipeline = Read(tmp_path / "in.csv") | Map(f"{tmp_path}/{name}/same_name.py:f") | Write(f"{tmp_path}/out.csv")
        pipeline.run_sync()
        assert (tmp_path / "out.csv").read_text() == f"v\n1 {name}\n"
