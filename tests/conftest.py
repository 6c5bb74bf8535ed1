"""After every test: no thread, worker process, open file or temporary is left (promise 7).

Tasks are looked for by support.drive, while their loop still runs.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Property tests know no deadline: the machine may be busy, with the tests of another process as well.
settings.register_profile("aiopipe", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("aiopipe")

PROC = Path("/proc/self")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-cases", action="store_true", help="write what tests/cases give now, to be read in the diff"
    )


def children() -> set[int]:
    """Process ids of our children, but for multiprocessing's own helpers, which live as long as the program."""
    found: set[int] = set()
    if not PROC.exists():
        return found
    for task in (PROC / "task").iterdir():
        try:
            for pid in (task / "children").read_text().split():
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"resource_tracker" not in command and not _is_forkserver(int(pid)):
                    found.add(int(pid))
        except OSError:
            continue
    return found


def _is_forkserver(pid: int) -> bool:
    from multiprocessing import forkserver

    return getattr(forkserver._forkserver, "_forkserver_pid", None) == pid


def open_files() -> dict[int, str]:
    """Our descriptors of files and FIFOs; sockets and pipes of the event loop come and go by themselves."""
    found = {}
    if PROC.exists():
        for name in os.listdir(PROC / "fd"):
            try:
                target = os.readlink(PROC / "fd" / name)
            except OSError:
                continue
            if target.startswith("/") and not target.startswith(("/dev/", "/proc/")):
                found[int(name)] = target
    return found


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith(("aiopipe", "pool_", "task_scheduler"))]


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    place = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    files, processes = open_files(), children()
    yield
    deadline = time.monotonic() + 5  # a process that has ended may take a moment to be reaped
    while True:
        left = {
            "threads": threads(),
            "processes": children() - processes,
            "files": {f for fd, f in open_files().items() if files.get(fd) != f and ".hypothesis" not in f},
        }
        if not any(left.values()) or time.monotonic() > deadline:
            break
        gc.collect()
        time.sleep(0.02)
    if place is not None:
        left["temporaries"] = set(map(str, place.rglob(".aiopipe-*")))
    assert not any(left.values()), left
