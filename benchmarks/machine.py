"""What the figures were measured on: machine, load and versions."""

from __future__ import annotations

import os
import platform
import shutil
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


def describe() -> str:
    """Three lines: machine, load, versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = ""
    if hasattr(os, "sysconf"):
        memory = f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    versions = [f"{p} {v}" for p in PACKAGES if (v := installed(p))]
    if mlr := tool("mlr"):
        said = subprocess.run([mlr, "--version"], capture_output=True, text=True, check=False).stdout.split()
        versions.append(f"Miller {said[-1] if said else '?'}")
    return (
        f"{_processor()}, {cores} cores{memory}{load}\n"
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}\n" + ", ".join(versions)
    )
