"""Peak memory: of small and large input, of one very long record, and behind a reader that is slow.

python -m benchmarks.memory [--quick] [--data bench-data]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time

from benchmarks import machine, measure
from benchmarks.data import Data, add_options

OURS = [sys.executable, "-m", "benchmarks.tools.ours"]
LIMIT = 300_000_000
RECORD = 20_000_000


def filtered(data: Data, source: str) -> int:
    """Peak bytes of the wide filter with default settings."""
    target = measure.fresh_directory(os.path.join(data.root, "out"))
    peak = measure.run_fresh([*OURS, "filter", source, target]).rss
    measure.fresh_directory(target)
    return peak


def growth(data: Data, runs: int) -> str:
    """The wide filter on 100 MB and on 2 GB, alternating; the larger file is removed afterwards."""
    sizes = (10_000_000, 200_000_000) if data.quick else (100_000_000, 2_000_000_000)
    made = [data.path(f"single-{s // 1_000_000}mb") for s in sizes]
    for size in sizes:
        subprocess.run(
            [sys.executable, "-m", "benchmarks.data", f"single:{size}", "--data", data.root]
            + (["--quick"] if data.quick else []),
            check=True,
            stdout=subprocess.DEVNULL,
        )
    peaks: list[list[int]] = [[], []]
    try:
        for _ in range(runs):
            for i, path in enumerate(made):
                peaks[i].append(filtered(data, path))
    finally:
        data.remove(made[1])
    small, large = (measure.middle(p) for p in peaks)
    passed = "reached" if large / small < 1.10 and max(large, small) < LIMIT else "MISSED"
    return (
        f"filter, {sizes[0] / 1e6:,.0f} MB of input: {small / 1e6:.0f} MB; {sizes[1] / 1e6:,.0f} MB of input: "
        f"{large / 1e6:.0f} MB; ratio {large / small:.3f}\n"
        f"  goal: ratio below 1.10, and below {LIMIT / 1e6:.0f} MB: {passed} (median of {runs})"
    )


def long_record(data: Data) -> str:
    """One record of 20 MB between short ones: it must arrive whole."""
    source = measure.fresh_directory(data.path("long"))
    target = measure.fresh_directory(data.path("out"))
    short = b"1,40,a\n" * 1000
    content = b"id,arr_delay,text\n" + short + b'2,50,"' + b"long, \n" * (RECORD // 7) + b'"\n' + short
    with open(os.path.join(source, "one.csv"), "wb") as file:
        file.write(content)
    run = measure.run_fresh([*OURS, "filter", source, target])
    with open(os.path.join(target, "one.csv"), "rb") as file:
        same = file.read() == content
    data.remove(source)
    data.remove(target)
    return f"one record of 20 MB: {'arrived whole' if same else 'CHANGED'}, peak {run.rss / 1e6:.0f} MB"


def through_pipe(source: str, rate: float) -> tuple[int, float, int]:
    """All records to a reader that takes `rate` bytes a second; peak bytes, seconds, bytes that came."""
    receive, send = os.pipe()
    came = 0

    def read() -> None:
        nonlocal came
        begun = time.perf_counter()
        while block := os.read(receive, 1 << 16):
            came += len(block)
            ahead = came / rate - (time.perf_counter() - begun) if rate else 0
            if ahead > 0:
                time.sleep(ahead)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        run = measure.run_fresh([*OURS, "to-stdout", source, "-"], stdout=send)
    finally:
        os.close(send)
        reader.join()
        os.close(receive)
    return run.rss, run.wall, came


def slow_sink(data: Data) -> str:
    """A pipe whose reader takes 25 MB a second, beside one that takes what comes."""
    source = data.single()
    rate = 25e6
    quick_peak, quick_seconds, quick_bytes = through_pipe(source, 0)
    slow_peak, slow_seconds, slow_bytes = through_pipe(source, rate)
    assert quick_bytes == slow_bytes
    passed = "reached" if slow_peak < LIMIT and slow_peak < quick_peak * 1.25 else "MISSED"
    return (
        f"{slow_bytes / 1e6:,.0f} MB to a reader of {rate / 1e6:.0f} MB/s: peak {slow_peak / 1e6:.0f} MB in "
        f"{slow_seconds:.1f} s; to a quick one: {quick_peak / 1e6:.0f} MB in {quick_seconds:.1f} s\n"
        f"  goal: a slow sink does not make memory grow: {passed}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    measure.adopt()
    data = Data(options.data, options.quick)
    print(machine.describe())
    print("memory: peak resident set of the process, by the kernel's count\n")
    for text in (lambda: growth(data, options.runs), lambda: long_record(data), lambda: slow_sink(data)):
        print(text(), flush=True)


if __name__ == "__main__":
    main()
