"""What a FastAPI service feels of an upload of 200 MB that goes through a pipeline into SQLite, in its own process.

    python -m benchmarks.service [--quick] [--runs 3] [--uvloop] [--data bench-data]

A client in a process of its own asks the service 200 times a second, first while it is idle, then during the upload.
Beside it the same service written by hand with aiofiles and aiocsv, and "cold": the first upload of a service that did
not call `preload()`, so that everything is imported meanwhile.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import machine
from benchmarks.data import Data, add_options
from benchmarks.measure import ROOT, middle

NAMES = {"ours": "aiopipe", "cold": "aiopipe, cold", "hand": "aiofiles + aiocsv"}
SIZE = 200_000_000
IDLE = 5.0  # seconds
GAP, TIMES = 20.0, 2.0  # the goals


@contextmanager
def process(*argv: str) -> Iterator[subprocess.Popen[str]]:
    running = subprocess.Popen(
        [sys.executable, "-m", *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        yield running
    finally:
        running.terminate()
        running.wait()


@contextmanager
def client(port: int) -> Iterator[dict[str, Any]]:
    """Ask while the block runs; then the answer is there."""
    answer: dict[str, Any] = {}
    with process("benchmarks.tools.asking", str(port)) as asking:
        time.sleep(0.5)  # it starts
        yield answer
        said, _ = asking.communicate("\n", timeout=60)
        answer.update(json.loads(said.splitlines()[-1]))


def upload(port: int, path: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    with open(path, "rb") as file:
        connection.request("POST", "/upload", body=file, headers={"Content-Length": str(os.path.getsize(path))})
        response = connection.getresponse()
        text = response.read()
    connection.close()
    if response.status != 200:
        raise SystemExit(f"the service answered {response.status}: {text[:300]!r}")
    found: dict[str, Any] = json.loads(text)
    return found


def measured(who: str, source: str, target: str, loop: str) -> dict[str, Any]:
    """One upload to a fresh service."""
    with process("benchmarks.tools.serving", who, target, *([loop] if loop else [])) as service:
        assert service.stdout is not None
        port = int(service.stdout.readline())
        with client(port) as idle:
            time.sleep(IDLE)
        if os.path.exists(target):
            os.unlink(target)
        with client(port) as during:
            done = upload(port, source)
    return {**done, "idle": idle, "during": during}


def line(name: str, answers: list[dict[str, Any]]) -> str:
    def mid(part: str, key: str) -> float:
        return middle([a[part][key] for a in answers])

    gaps = [mid("gap", "p99"), mid("gap", "p99.9"), max(a["gap"]["max"] for a in answers), mid("busy", "max")]
    waits = [mid("idle", "p99"), mid("during", "p50"), mid("during", "p99"), mid("during", "p99.9")]
    seconds = middle([a["seconds"] for a in answers])
    failed = sum(a["during"]["failed"] for a in answers)
    shown = "".join(f"{v:9.2f}" for v in (*gaps, *waits))
    return f"  {name:26}{shown}{seconds:9.1f}{middle([a['during']['rate'] for a in answers]):7.0f}{failed:7}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--uvloop", action="store_true", help="the service in uvloop's loop")
    parser.add_argument("--only", choices=tuple(NAMES), help="only one of the two")
    options = parser.parse_args()
    data = Data(options.data, options.quick)
    source = os.path.join(data.single(SIZE // (10 if options.quick else 1)), "one.csv")
    target = os.path.join(data.root, "service.db")
    answers: dict[str, list[dict[str, Any]]] = {}
    for _ in range(options.runs):
        for who in NAMES if options.only is None else (options.only,):
            found = measured(who, source, target, "uvloop" if options.uvloop else "")
            answers.setdefault(who, []).append(found)
    if os.path.exists(target):
        os.unlink(target)
    print(machine.describe())
    print("milliseconds: by which a tick of the loop came late; and that /ping took, idle and during the upload\n")
    head = ("gap p99", "p99.9", "max", "own max", "idle p99", "p50", "p99", "p99.9", "seconds")
    print(f"  {'':26}{''.join(f'{h:>9}' for h in head)}{'rate':>7}{'failed':>7}")
    for who, several in answers.items():
        print(line(NAMES[who], several))
    if "ours" in answers:
        gap = middle([a["gap"]["p99.9"] for a in answers["ours"]])
        times = middle([a["during"]["p99"] / a["idle"]["p99"] for a in answers["ours"]])
        verdicts = ["reached" if ok else "MISSED" for ok in (gap < GAP, times <= TIMES)]
        print(f"  p99.9 of the gaps below {GAP:.0f} ms: {gap:.1f}, {verdicts[0]};", end="")
        print(f" /ping's p99 at most {TIMES:.0f} times its idle one: {times:.1f}, {verdicts[1]}")


if __name__ == "__main__":
    main()
