"""What the figures were measured on: machine, load and versions."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "aiopipe-csv", "pyarrow", "numpy", "duckdb", "polars", "pandas", "aiocsv", "aiofiles", "csvkit",
    "streamable", "aiostream", "spdl", "pypeln", "aiohttp",
)  # fmt: skip


def tool(name: str) -> str | None:
    """A command on PATH or beside this Python, if there is one."""
    return shutil.which(name, path=os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", ""))


def installed(package: str) -> str | None:
    """Its version, without importing it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def cores() -> int:
    """How many this process may use."""
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()) or 1


_WORK = """
import time
end, done = time.perf_counter() + 0.4, 0
while time.perf_counter() < end:
    done += sum(range(2000)) > 0
print(done)
"""


def together() -> float:
    """How many times the work of one process as many as cores do at once: what cores can give that others share."""

    def done(count: int) -> int:
        line = [sys.executable, "-S", "-c", _WORK]
        running = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        return sum(int(process.communicate()[0]) for process in running)

    return statistics.median(done(cores()) / done(1) for _ in range(5))


def describe() -> str:
    """Three lines: machine, load, versions."""
    memory = ""
    if hasattr(os, "sysconf"):
        memory = f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    versions = [f"{p} {v}" for p in PACKAGES if (v := installed(p))]
    if mlr := tool("mlr"):
        said = subprocess.run([mlr, "--version"], capture_output=True, text=True, check=False).stdout.split()
        versions.append(f"Miller {said[-1] if said else '?'}")
    return (
        f"{_processor()}, {cores()} cores{memory}{load}\n"
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}\n" + ", ".join(versions)
    )
