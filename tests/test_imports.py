"""What is imported, and when: nobody waits for what his run does not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import environment

LATER = """
import asyncio, sys, threading
from aiopipe.later import later
later("aiofiles.tempfile")
import aiofiles
from aiofiles.threadpool import wrap
import aiofiles.tempfile
assert aiofiles.tempfile is sys.modules["aiofiles.tempfile"]
assert "tempfile" not in sys.modules and "aiofiles.tempfile.temptypes" not in sys.modules
"""
USES = {
    "an attribute": "made = aiofiles.tempfile.TemporaryFile()",
    "a name": "from aiofiles.tempfile import TemporaryFile; made = TemporaryFile()",
    "all names": "from aiofiles.tempfile import *; made = TemporaryFile()",
    "a part": "import aiofiles.tempfile.temptypes; made = aiofiles.tempfile.TemporaryFile()",
    "many threads": """
got = []
threads = [threading.Thread(target=lambda: got.append(aiofiles.tempfile.TemporaryFile)) for _ in range(8)]
[t.start() for t in threads], [t.join() for t in threads]
assert len(got) == 8 and len(set(got)) == 1
made = got[0]()
""",
}
READ_BACK = """
async def main():
    async with made as file:
        await file.write(b"there")
        await file.seek(0)
        assert await file.read() == b"there"
asyncio.run(main())
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", code, *arguments]
    return subprocess.run(line, capture_output=True, text=True, env=environment(), timeout=60)


@pytest.mark.parametrize("use", USES)
def test_a_module_that_is_imported_later_is_there_for_whoever_looks_into_it(use: str):
    done = run(LATER + USES[use] + READ_BACK)
    assert done.returncode == 0, done.stderr


def test_what_a_module_does_not_have_it_does_not_have_later_either():
    done = run(LATER + "assert not hasattr(aiofiles.tempfile, 'nothing') and 'tempfile' in sys.modules")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "aiofiles.nothing",
        "nothing_at_all",
        "nothing_at_all.tempfile",
        "aiopipe.batch",
        "numpy._core.nothing",
        "this.that",
    ],
)
def test_a_module_that_is_not_there_or_whose_package_is_imported_is_left_alone(name: str):
    done = run(f"import sys; from aiopipe.later import later; later({name!r}); assert {name!r} not in sys.modules")
    assert done.returncode == 0, done.stderr


def test_numpy_without_its_help_is_numpy_all_the_same():
    code = """
import sys
from aiopipe.later import later
later("numpy._core._add_newdocs", "numpy._core._add_newdocs_scalars", "asyncio", "ssl")
import numpy
assert not numpy.ndarray.sort.__doc__ and numpy.sort.__doc__
assert numpy.sort(numpy.array([3, 1])).tolist() == [1, 3]
assert "asyncio" not in sys.modules  # what is in no package is left alone
import ssl
assert ssl.create_default_context().check_hostname
"""
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_a_module_that_fails_tells_everybody_who_looks(tmp_path: Path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/__init__.py").touch()
    (tmp_path / "inside/broken.py").write_text("import nothing_at_all\n")
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from aiopipe.later import later
later("inside.broken")
from inside import broken
for _ in range(2):
    try:
        broken.thing
    except ImportError as error:
        print(error.name)
"""
    done = run(code, str(tmp_path))
    assert (done.stdout.split(), done.returncode) == (["nothing_at_all"] * 2, 0), done.stderr
