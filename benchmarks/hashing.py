"""Checksums against native tools: the same job, in the same minute, in alternation, whole commands.

    python benchmarks/hashing.py --data DIR --trees S,M,L --jobs sha256,blake3,cache,check,dupes,loop --runs 5
    python benchmarks/hashing.py --data DIR --quick     # S and M, three runs, the quickest peers: two minutes

S is 60,000 files of 1-8 KiB, M 3,000 of 100 KB-1 MB, L 4 of 512 MiB; made once under --data (6.5 GB), warm in
the page cache. Each peer runs at its best batch size, two at a time. A ratio above 1: aiopipe is quicker.
Variables such as PYTHONDONTWRITEBYTECODE are left out, as where aiopipe is installed: with that one a source tree is
compiled anew in every run, which takes longer than a small tree. Prints medians; asserts nothing.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

AIOPIPE = f"{sys.executable} -m aiopipe"
PEERS: set[str] = set()
BATCH = {"S": 512, "M": 64, "L": 1}
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def make(root: Path, kind: str) -> Path:
    """A tree of random bytes; the same bytes for everybody."""
    tree = root / kind
    done = root / f"{kind}.done"
    if done.exists():
        return tree
    shutil.rmtree(tree, ignore_errors=True)
    dice = random.Random(kind)
    plans = {
        "S": (600, 100, 1024, 8192),
        "M": (30, 100, 100_000, 1_000_000),
        "L": (1, 4, 512 << 20, 512 << 20),
    }
    folders, files, least, most = plans["S" if kind == "D" else kind]
    if kind == "D":
        return make_duplicates(root)
    for folder in range(folders):
        (tree / f"{folder:03}").mkdir(parents=True)
        for number in range(files):
            left = dice.randint(least, most)
            with open(tree / f"{folder:03}" / f"{number:03}.bin", "wb") as out:
                while left:
                    block = min(left, 1 << 20)
                    out.write(dice.randbytes(block))
                    left -= block
    done.touch()
    return tree


def make_duplicates(root: Path) -> Path:
    """S and M, with every fifth file a copy of its neighbour."""
    tree = root / "D"
    for kind in "SM":
        shutil.copytree(make(root, kind), tree / kind)
    files = sorted(path for path in tree.rglob("*.bin"))
    for place in range(4, len(files), 5):
        shutil.copyfile(files[place - 1], files[place])
    (root / "D.done").touch()
    return tree


def xargs(tree: Path, batch: int, command: str) -> str:
    return f"find {tree} -type f -print0 | xargs -0 -P2 -n{batch} {command}"


def spent() -> float:
    """CPU seconds of every command so far; these stay comparable where the machine has other guests."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(command: str, runs: list[tuple[float, float]]) -> None:
    before, begin = spent(), time.perf_counter()
    subprocess.run(command, shell=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    runs.append((time.perf_counter() - begin, spent() - before))


def warm(tree: Path) -> None:
    """Read it all: some kernels (DAMON) take back within seconds what nobody looks at."""
    subprocess.run(f"find {tree} -type f -print0 | xargs -0 cat", shell=True, stdout=subprocess.DEVNULL)


def compare(title: str, tree: Path, ours: str, peers: dict[str, str], rounds: int) -> None:
    """Run all in turn, `rounds` times, over a tree in the page cache; print medians.

    A ratio is the median of the ratios within each round: a machine with other guests drifts by a third from one
    round to the next, and then the ratio of medians is one of two moments.
    """
    here = {name: line for name, line in peers.items() if shutil.which(name.split()[0])}
    chosen = {name: line for name, line in here.items() if not PEERS or name.split()[0] in PEERS}
    if peers and not chosen:
        return
    commands = {"aiopipe": ours, **chosen}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        warm(tree)
        for name, line in commands.items():
            run(line, times[name])
    wall = {name: statistics.median(each[0] for each in times[name]) for name in commands}
    cpu = {name: statistics.median(each[1] for each in times[name]) for name in commands}
    print(f"{title:24} aiopipe {wall['aiopipe']:6.2f} s (cpu {cpu['aiopipe']:.2f})", end="")
    for name in list(commands)[1:]:
        pairs = zip(times[name], times["aiopipe"], strict=True)
        ratio = statistics.median(theirs[0] / mine[0] for theirs, mine in pairs)
        print(f" | {name} {wall[name]:.2f} s (cpu {cpu[name]:.2f}), {ratio:.2f}x", end="")
    print(flush=True)


def sha256(root: Path, trees: str, rounds: int) -> None:
    for kind in trees:
        tree = make(root, kind)
        peers = {
            "openssl": xargs(tree, BATCH[kind], "openssl dgst -r -sha256"),
            "sha256sum": xargs(tree, BATCH[kind], "sha256sum"),
            "rhash": f"rhash --sha256 -r {tree}",
            "hashdeep": f"hashdeep -c sha256 -j2 -r {tree}",
            "rclone": f"rclone hashsum sha256 {tree}",
        }
        compare(f"sha256 {kind}", tree, f"{AIOPIPE} hash {tree}", peers, rounds)


def blake3(root: Path, trees: str, rounds: int) -> None:
    for kind in trees:
        tree = make(root, kind)
        peers = {"b3sum": xargs(tree, BATCH[kind], "b3sum --num-threads 1")}
        compare(f"blake3 {kind}", tree, f"{AIOPIPE} hash -a blake3 {tree}", peers, rounds)
        peers = {"xxhsum": xargs(tree, BATCH[kind], "xxhsum -q -H2")}
        compare(f"xxh128 {kind}", tree, f"{AIOPIPE} hash -a xxh128 {tree}", peers, rounds)


def cache(root: Path, trees: str, rounds: int) -> None:
    for kind in trees:
        tree = make(root, kind)
        database = root / f"{kind}.sums.db"
        ours = f"{AIOPIPE} hash --cache {database} {tree}"
        run(ours, [])
        time.sleep(2.1)
        run(ours, [])
        peers = {
            "openssl (uncached)": xargs(tree, BATCH[kind], "openssl dgst -r -sha256"),
            "python3 (uncached)": f"{AIOPIPE} hash {tree}",  # ourselves
        }
        compare(f"unchanged {kind}, --cache", tree, ours, peers, rounds)


def check(root: Path, trees: str, rounds: int) -> None:
    for kind in trees:
        tree = make(root, kind)
        manifest = root / f"{kind}.SHA256SUMS"
        subprocess.run(f"{AIOPIPE} hash -o {manifest} {tree}", shell=True, check=True)
        peers = {"sha256sum": f"sha256sum -c --quiet {manifest}", "rhash": f"rhash --sha256 -c {manifest}"}
        compare(f"check {kind}", tree, f"{AIOPIPE} check --quiet {manifest}", peers, rounds)


def dupes(root: Path, trees: str, rounds: int) -> None:
    tree = make(root, "D")
    peers = {"jdupes": f"jdupes -rq {tree}", "fdupes": f"fdupes -rq {tree}"}
    compare("dupes S+M, 20 % copies", tree, f"{AIOPIPE} dupes {tree}", peers, rounds)


LOOP = """
import asyncio, sys, time
from aiopipe.sums import hash_files

async def main(tree):
    gaps, last, over = [], time.perf_counter(), False
    async def watch():
        nonlocal last
        while not over:
            await asyncio.sleep(0)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now
    task = asyncio.ensure_future(watch())
    files = 0
    async for _ in hash_files(tree):
        files += 1
    over = True
    await task
    gaps.sort()
    at = lambda share: gaps[int(len(gaps) * share)] * 1000
    print(f"loop gap while {files} files are hashed: p99 {at(.99):.1f} ms, p99.9 {at(.999):.1f} ms", end="")
    print(f", most {gaps[-1] * 1000:.1f} ms")

asyncio.run(main(sys.argv[1]))
"""


def loop(root: Path, trees: str, rounds: int) -> None:
    subprocess.run([sys.executable, "-c", LOOP, str(make(root, "S"))])


JOBS = {"sha256": sha256, "blake3": blake3, "cache": cache, "check": check, "dupes": dupes, "loop": loop}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="bench-data/hashing")
    parser.add_argument("--trees", default="S,M,L")
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--peers", default="", help="only these, as sha256sum,openssl; else all that are here")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="S and M, three runs, the quickest peers")
    options = parser.parse_args()
    if options.quick:
        options.trees, options.runs = "S,M", 3
        options.peers = options.peers or "openssl,sha256sum,b3sum,xxhsum,jdupes,python3"
    PEERS.update(options.peers.split(",") if options.peers else ())
    root = Path(options.data)
    root.mkdir(parents=True, exist_ok=True)
    trees = options.trees.replace(",", "")
    print(f"{os.cpu_count()} cores, medians of {options.runs}; above 1x aiopipe is quicker")
    for job in options.jobs.split(","):
        JOBS[job](root, trees, options.runs)


if __name__ == "__main__":
    main()
