"""Pull the plug at the k-th call that changes the disk: what was not synced is gone.

`python -m tests.faults.harness.power PLACE` makes an ext4 file system in a file, mounts it by a loop device, and
lets the kernel drop everything that has not reached it (FS_IOC_SHUTDOWN without flushing its journal), at each
point in turn or at a sample of them. The promises are those of the sweeps. Exit code 2, with a word why, where this
machine cannot do it: it takes root, mkfs.ext4, a loop device and a kernel that has the call.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import json
import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

from tests.faults.harness import sweep as sweeps
from tests.faults.harness.seccomp import Call, Decision, supervise
from tests.faults.harness.sweep import (
    FAULTS,
    JOBS,
    KINDS,
    Job,
    Nth,
    prepare_to_fork,
    problems,
    temporaries,
    victim,
    visible,
)

__all__ = ["missing"]

_SHUTDOWN, _NO_FLUSH = 0x8004587D, 2


def missing() -> str:
    """What this machine lacks; "" where it can be done."""
    if os.geteuid() != 0:
        return "root is needed, to mount a disk whose power can be cut"
    for tool in ("mkfs.ext4", "mount", "umount", "losetup"):
        if shutil.which(tool) is None:
            return f"{tool} is needed (e2fsprogs, mount)"
    if not Path("/dev/loop-control").exists():
        return "a loop device is needed, and /dev/loop-control is not there"
    return ""


class Disk:
    """An ext4 file system in a file, mounted at `place`."""

    def __init__(self, image: Path, place: Path) -> None:
        self.image, self.place = image, place
        place.mkdir()
        with open(image, "wb") as file:
            file.truncate(64 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
        self.mount()

    def mount(self) -> None:
        # Without the kernel's own cure for programs that rename without a sync: we must not need it.
        options = "loop,noauto_da_alloc"
        subprocess.run(["mount", "-o", options, str(self.image), str(self.place)], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.place)], check=True)

    def sync(self) -> None:
        """All that is there lasts."""
        fd = os.open(self.place, os.O_RDONLY)
        try:
            assert ctypes.CDLL(None).syncfs(fd) == 0
        finally:
            os.close(fd)

    def cut(self) -> None:
        """The power is gone."""
        fd = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", _NO_FLUSH))
        finally:
            os.close(fd)


class Cutting(Nth):
    """Cuts the power at the k-th call."""

    def __init__(self, job: Job, disk: Disk, k: int) -> None:
        super().__init__(job, FAULTS["kill"], k)
        self.disk = disk

    def __call__(self, call: Call) -> Decision:
        decision = super().__call__(call)
        if decision is not None:
            self.disk.cut()
        return decision


def cuts(job: Job, disk: Disk, sample: int, seed: int, variant: str) -> dict[str, object]:
    """Every point, or a sample of them: what was tried and what was wrong."""
    wrong: list[str] = []
    said = str(job.root / "said")
    job.reset()
    count = Nth(job, FAULTS["kill"], 0)
    supervise(victim(job, variant), FAULTS["kill"].names, count, said=said)
    points = list(range(1, count.count + 1))
    if sample and sample < len(points):
        points = sorted(random.Random(seed).sample(points, sample))
    hits = 0
    for k in points:
        job.reset()
        disk.sync()
        decide = Cutting(job, disk, k)
        end = supervise(victim(job, variant), FAULTS["kill"].names, decide, said=said)
        if end.hit is None:
            continue
        hits += 1
        disk.unmount()
        disk.mount()
        where = f"{k}: {decide.seen[k - 1]}"
        wrong += [f"{where}: {p}" for p in problems(job, "kill", end)]
        code = sweeps.undisturbed(job)
        if code != 3 or visible(job.out) != job.clean:
            wrong.append(f"{where}: not the same after running again (exit code {code})")
        if (job.out / ".aiopipe").is_dir() and (left := temporaries(job.out)):
            wrong.append(f"{where}: temporaries after running again: {left}")
        wrong += [f"{where}: after running again, the ledger lies: {lie}" for lie in sweeps.lies(job.out)]
    return {"points": hits, "wrong": wrong}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("place", type=Path, help="an empty directory")
    parser.add_argument("--can", action="store_true", help="only say whether it can be done here")
    parser.add_argument("--job", choices=JOBS, default="mirror")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variant", default="")
    options = parser.parse_args()
    lack = missing()
    if options.can and not lack:
        return
    if lack:
        print(f"power tests cannot run: {lack}", file=sys.stderr)
        sys.exit(2)
    prepare_to_fork()
    disk = Disk(options.place / "image", options.place / "disk")
    try:
        try:
            disk.cut()
        except OSError as error:
            print(f"power tests cannot run: FS_IOC_SHUTDOWN: {error}", file=sys.stderr)
            sys.exit(2)
        disk.unmount()
        disk.mount()
        job = KINDS.get(options.job, Job)(options.place, JOBS[options.job], options.workers, out=disk.place / "out")
        job.prepare()
        print(json.dumps(cuts(job, disk, options.sample, options.seed, options.variant)))
    finally:
        disk.unmount()


if __name__ == "__main__":
    main()
