"""What the machine suggests: how many lanes, and whether they should be threads or processes."""

from __future__ import annotations

import functools
import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from aiopipe.sums.model import Found, Problem

__all__ = ["choose_backend", "cores", "has_processes", "lanes_for", "local_devices"]

_PEEK, _PEEK_QUICK = 8192, 1024
_MUCH = 32 << 20  # bytes that take longer than to fork
_SAMPLE = 64
_TINY = 12 * 1024

_NETWORK = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.sshfs",
        "glusterfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    }
)


def cores() -> int:
    """Cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def has_processes() -> bool:
    """Whether worker processes can be waited for here: not on Windows, which has no poll(2) for pipes."""
    return hasattr(select, "poll")


def lanes_for(roots: Iterable[bytes]) -> tuple[int, str]:
    """How many files to read at once below these roots, and why.

    One on a rotating disk, where two readers make the head travel, and one on a network file system; else
    as many as there are cores. Known on Linux; elsewhere the cores decide.

    >>> lanes_for([])[0] == cores()
    True
    """
    if sys.platform != "linux":
        return cores(), "cores"
    for root in roots:
        try:
            device = os.stat(root).st_dev
        except OSError:
            continue
        kind = _file_system(root)
        if kind in _NETWORK:
            return 1, f"{os.fsdecode(root)} is on a network file system ({kind})"
        if _rotates(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"):
            return 1, f"{os.fsdecode(root)} is on a rotating disk"
    return cores(), "cores"


_FINE = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "tmpfs", "xfs", "zfs"})


@functools.cache
def local_devices() -> frozenset[int]:
    """Numbers of the devices whose files get their times of change from this machine's own clock, as `st_dev`.

    Known on Linux, from the mount table; elsewhere there are none. A network file system has its server's clock,
    others round their times.
    """
    found = set()
    try:
        with open("/proc/self/mountinfo", "rb") as table:
            for line in table:
                left, _, right = line.partition(b" - ")
                if right.split(b" ", 1)[0].decode("ascii", "replace") in _FINE:
                    major, _, minor = left.split(b" ")[2].partition(b":")
                    found.add(os.makedev(int(major), int(minor)))
    except (OSError, ValueError, IndexError, AttributeError):
        return frozenset()
    return frozenset(found)


def _file_system(path: bytes) -> str:
    """The type of the file system that holds a path, from the mount table; empty where that is unknown."""
    full = os.path.realpath(path)
    best, kind = b"", ""
    try:
        with open("/proc/self/mountinfo", "rb") as table:
            for line in table:
                left, _, right = line.partition(b" - ")
                point = left.split(b" ")[4].replace(b"\\040", b" ")
                inside = full == point or full.startswith(point.rstrip(b"/") + b"/")
                if inside and len(point) >= len(best):
                    best, kind = point, right.split(b" ", 1)[0].decode("ascii", "replace")
    except OSError:
        return ""
    return kind


def _rotates(block: str) -> bool:
    """Whether a block device, or a disk below it, says it rotates. Virtual disks always say so: ignored."""
    try:
        real = os.path.realpath(block, strict=True)
        slaves = os.path.join(real, "slaves")
        below = os.listdir(slaves) if os.path.isdir(slaves) else []
        if below:
            return any(_rotates(os.path.join(slaves, each)) for each in below)
        if not os.path.isdir(os.path.join(real, "queue")):  # a partition
            real = os.path.dirname(real)
        if not os.path.basename(real).startswith(("sd", "hd")):
            return False
        with open(os.path.join(real, "queue", "rotational")) as file:
            return file.read().strip() == "1"
    except OSError:
        return False


def choose_backend(
    items: Iterable[Found | Problem],
    lanes: int,
    *,
    head: int = 0,
    quick: bool = False,
    measure: Callable[[bytes], int] | None = None,
) -> tuple[str, bool, Iterator[Found | Problem]]:
    """Whether `threads` or `processes` do the work, whether the main thread has time to help, and the items.

    Threads share one interpreter lock, which a small file holds for most of its time, and may not map files.
    Worker processes do not and may, and cost some 70 ms to start, or 2 where they are forked (`quick`). So those that
    are spawned pay from thousands of files on, of less than 12 KiB a lane; forked ones from a few megabytes on. With
    `head`, no more than so many bytes of each file are read. `measure` says how many bytes there are behind a name that
    is no file's. The items are those given, the ones peeked at included.
    """
    if not has_processes() or (lanes < 2 and not quick):
        return "threads", True, iter(items)
    source = iter(items)
    peeked: list[Found | Problem] = []
    count, enough = 0, _PEEK_QUICK if quick else _PEEK
    for item in source:
        peeked.append(item)
        count += len(item.names) if isinstance(item, Found) else 0
        if count >= enough:
            break
    whole = chain(peeked, source)
    runs = [item for item in peeked if isinstance(item, Found)]
    sizes = [min(size, head or size) for size in _sizes(runs, measure or _size)]
    mean = sum(sizes) / len(sizes) if sizes else 0
    tiny = bool(sizes) and mean < _TINY * lanes
    if (count >= enough and tiny) or (quick and mean * count > _MUCH):
        return "processes", tiny, whole
    return "threads", True, whole


def _size(path: bytes) -> int:
    return os.lstat(path).st_size


def _sizes(runs: list[Found], measure: Callable[[bytes], int]) -> Iterator[int]:
    """The sizes of some files, spread evenly over the runs."""
    step = max(1, len(runs) // _SAMPLE)
    for run in runs[::step]:
        for name in run.names[:: max(1, len(run.names) * len(runs[::step]) // _SAMPLE)]:
            try:
                yield measure(run.prefix + name)
            except OSError:
                continue
