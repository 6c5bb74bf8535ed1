"""What `from aiopipe import ...` gives, whatever was imported before."""

import subprocess
import sys

import pytest

import aiopipe


def test_every_public_name_is_there_and_they_are_sorted() -> None:
    assert [n for n in aiopipe.__all__ if getattr(aiopipe, n, None) is None] == []
    assert aiopipe.__all__ == sorted(aiopipe.__all__)


@pytest.mark.parametrize("first", ["pass", "import aiopipe.stage", "from aiopipe import Read", "import aiopipe.cli"])
def test_stage_is_the_decorator_and_not_the_module_of_that_name(first: str) -> None:
    code = f"{first}\nfrom aiopipe import stage\nassert callable(stage), stage"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_imports_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys, aiopipe, aiopipe.cli\n"
        "found = {'pyarrow', 'duckdb', 'rich', 'numpy', 'asgiref'} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
