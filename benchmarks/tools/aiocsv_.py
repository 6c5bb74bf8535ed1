"""aiocsv and aiofiles by hand, as their users learn to do it: reads of 1 MiB, and writes that are gathered."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiocsv
import aiofiles

from benchmarks.functions import SELECTED
from benchmarks.tools import pairs, serve
from benchmarks.tools.stdlib import gained, late

BIG = 1 << 20


class BigReads:
    """aiocsv asks for 8 KiB at a time, each a trip to a thread: ask for more."""

    def __init__(self, file: Any) -> None:
        self.file = file

    async def read(self, size: int) -> str:
        text: str = await self.file.read(BIG)
        return text


async def batches(reader: Any, size: int = 1000) -> AsyncIterator[list[list[str]]]:
    some: list[list[str]] = []
    async for row in reader:
        some.append(row)
        if len(some) >= size:
            yield some
            some = []
    yield some


def work(header: list[str], rows: list[list[str]], job: str) -> Iterator[Any]:
    if job == "filter":
        return late(header, rows)
    if job == "derive":
        return gained(header, rows)
    wide = [*header, "gain"]
    at = [wide.index(name) for name in SELECTED]
    return ([row[i] for i in at] for row in gained(header, rows))


async def copy(pair: tuple[str, str], job: str) -> None:
    async with aiofiles.open(pair[0], newline="") as source, aiofiles.open(pair[1], "w", newline="") as target:
        reader = aiocsv.AsyncReader(BigReads(source))
        header = await anext(aiter(reader))
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow({"filter": header, "derive": [*header, "gain"], "select": SELECTED}[job])
        async for some in batches(reader):
            writer.writerows(work(header, some, job))
            if out.tell() > BIG:
                await target.write(out.getvalue())
                out.seek(0)
                out.truncate()
        await target.write(out.getvalue())


async def run(source: str, target: str, job: str) -> None:
    for pair in pairs(source, target):
        await copy(pair, job)


JOBS: dict[str, Any] = {
    name: (lambda s, t, job=name: asyncio.run(run(s, t, job))) for name in ("filter", "derive", "select")
}

if __name__ == "__main__":
    serve(JOBS)
