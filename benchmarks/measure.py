"""Run a contender in a process of its own: wall time, CPU, peak memory, and what a sync of its output costs.

This process must stay small: Linux hands a process's peak memory down to what it starts, across exec. So nothing
here imports numpy, pyarrow or a peer.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

_MANY = 1000  # files
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class FailedError(Exception):
    """A contender ended with an error; its text is the end of what it said."""


@dataclass(frozen=True)
class Run:
    """One run. wall: seconds from start to exit. inner: without start-up, as the contender says, else wall.

    cpu: seconds of all its processes. rss: peak bytes of its largest process. sync: seconds that fsync of its
    outputs took afterwards: nearly nothing for who has synced them already.
    """

    wall: float
    inner: float
    cpu: float
    rss: int
    sync: float = 0.0
    answer: dict[str, Any] = field(default_factory=dict)


def run_fresh(argv: Sequence[str], *, stdout: int | None = None) -> Run:
    """Run a command to its end. Its last line on stdout, if it is JSON, becomes the answer."""
    env = {**os.environ, "PYTHONPATH": ROOT, "PYTHONDONTWRITEBYTECODE": ""}
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
        begun = time.perf_counter()
        process = subprocess.Popen(argv, stdout=stdout or said, stderr=complained, env=env, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        usages = [usage, *_orphans()]
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        complained.seek(0)
        if process.returncode:
            text = complained.read().decode(errors="replace").strip()
            raise FailedError(f"exit code {process.returncode}: {_gist(text)}")
        answer = _answer(said.read())
    rss = max(u.ru_maxrss for u in usages) * (1 if sys.platform == "darwin" else 1024)
    cpu = sum(u.ru_utime + u.ru_stime for u in usages)
    return Run(wall, float(answer.get("seconds", wall)), cpu, rss, 0.0, answer)


def adopt() -> None:
    """Linux: become the parent of orphans, so that a fork server's CPU and memory are counted as well."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def _orphans() -> list[Any]:
    """What the processes that the contender left behind have used; they end when they see that it is gone."""
    usages = []
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            pid, _, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid:
            usages.append(usage)
        else:
            time.sleep(0.005)
    return usages


def _gist(text: str) -> str:
    """The last lines of a traceback that say something."""
    lines = [line for line in text.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else "no message")
    return said.strip()[:300]


def _answer(said: bytes) -> dict[str, Any]:
    lines = said.decode(errors="replace").strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else {}
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def sync_seconds(directory: str) -> float:
    """How long fsync of every file below a directory takes: what a durable write would have cost on top."""
    begun = time.perf_counter()
    for parent, _, names in os.walk(directory):
        for name in (*names, "."):
            fd = os.open(os.path.join(parent, name), os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
    return time.perf_counter() - begun


def fresh_directory(path: str) -> str:
    """An empty directory, on a disk that has nothing left to write: nobody pays for the one before.

    ext4 without a journal leaves the inodes of removed files alone for minutes, and looks past them one by one for
    each new file: whoever came after 10,000 of them took up to five times as long. So of many files the old ones are
    moved out of the way, and removed when all is measured.
    """
    if os.path.isdir(path) and len(os.listdir(path)) > _MANY:
        aside = tempfile.mkdtemp(prefix=".aside-", dir=os.path.dirname(os.path.abspath(path)))
        os.rename(path, os.path.join(aside, "out"))
        atexit.register(shutil.rmtree, aside, ignore_errors=True)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    os.sync()
    return path


def middle(values: Sequence[float]) -> float:
    """The median, or NaN of nothing."""
    return median(values) if values else float("nan")
