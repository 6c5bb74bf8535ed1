"""A FastAPI service in one process: GET /ping, and POST /upload, a CSV file of flights into SQLite.

    python -m benchmarks.tools.serving ours|cold|hand TARGET.db [uvloop]

"cold" is aiopipe without `preload()` at the start. Prints its port. The answer of an upload holds the gaps of a ticker
in the service's loop meanwhile; see benchmarks.tools.ticking.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import uvicorn
from fastapi import FastAPI, Request

from aiopipe import preload
from aiopipe.stage import Context, Outcome, Sink
from benchmarks.tools.ticking import Ticker, spread

app = FastAPI()
TABLE = "flights"
ROWS = 100


@app.get("/ping")
async def ping() -> dict[str, bool]:
    return {"ok": True}


@app.post("/upload")
async def upload(request: Request) -> dict[str, Any]:
    ticker = Ticker()
    ticking = asyncio.create_task(ticker.run())
    begun, used = time.perf_counter(), time.process_time()
    rows = await (by_hand if app.state.who == "hand" else ours)(request, app.state.target)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - used
    ticking.cancel()
    await asyncio.gather(ticking, return_exceptions=True)
    return {"rows": rows, "seconds": seconds, "cpu": cpu, "gap": spread(ticker.gaps), "busy": spread(ticker.busy)}


async def ours(request: Request, target: str) -> int:
    from aiopipe import Filter, Read

    pipeline = Read(request.stream(), null="NA") | Filter("distance > 0") | IntoSqlite(target)
    return (await pipeline.run(workers=1)).written  # a service has other things to do


async def by_hand(request: Request, target: str) -> int:
    """As its users learn to do it: the upload into a file with aiofiles, rows out of it with aiocsv."""
    import aiocsv
    import aiofiles

    from benchmarks.tools.aiocsv_ import BigReads, batches

    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "upload.csv")
        async with aiofiles.open(path, "wb") as file:
            async for data in request.stream():
                await file.write(data)
        count = 0
        async with aiofiles.open(path, newline="") as source:
            reader = aiocsv.AsyncReader(BigReads(source))
            header = await anext(aiter(reader))
            distance = header.index("distance")
            database = await asyncio.to_thread(opened, target, header)
            async for some in batches(reader):
                kept = [row for row in some if int(row[distance]) > 0]
                count += len(kept)
                await asyncio.to_thread(insert, database, kept)
            await asyncio.to_thread(database.commit)
            await asyncio.to_thread(database.close)
    return count


@dataclass(frozen=True, repr=False)
class IntoSqlite(Sink):
    """Records into one table: made into tuples in a hop, inserted in the pool for files, committed at the end."""

    word: ClassVar[str] = "into-sqlite"
    takes: ClassVar[tuple[str, ...]] = ("records",)
    target: str = ""

    def encode(self, parcel: Any, kind: str) -> Any:
        width, flat = len(parcel.names), [None] * (len(parcel.names) * len(parcel))
        for k, name in enumerate(parcel.names):
            # Not by rows: ten thousand tuples at once set off the collector, and it holds up everybody.
            flat[k::width] = parcel.values(name).to_pylist()
        return Rows(parcel.names, flat, parcel.rejects, parcel.segments)

    async def consume(self, parcels: AsyncIterator[Any], context: Context) -> Outcome:
        outcome, database = Outcome(), None
        try:
            async for parcel in parcels:
                if database is None:
                    database = await context.io(opened, self.target, parcel.names)
                await context.io(insert_many, database, parcel)
                outcome.records += len(parcel)
            if database is not None:
                await context.io(database.commit)
        finally:
            if database is not None:
                await context.io(database.close)
        return outcome


@dataclass(frozen=True)
class Rows:
    """Records, their values one after the other."""

    names: tuple[str, ...]
    flat: list[Any]
    rejects: tuple[Any, ...] = ()
    segments: tuple[Any, ...] = ()

    @property
    def nbytes(self) -> int:
        return 60 * len(self.flat)

    def __len__(self) -> int:
        return len(self.flat) // len(self.names) if self.names else 0


def opened(target: str, header: Sequence[str]) -> sqlite3.Connection:
    database = sqlite3.connect(target, check_same_thread=False)
    database.execute(f"CREATE TABLE {TABLE} ({', '.join(header)})")
    return database


def insert(database: sqlite3.Connection, rows: Iterable[Sequence[str]]) -> None:
    rows = list(rows)
    if rows:
        database.executemany(f"INSERT INTO {TABLE} VALUES ({', '.join('?' * len(rows[0]))})", rows)


def insert_many(database: sqlite3.Connection, rows: Rows) -> None:
    """Some rows a statement: sqlite3 gives the interpreter's lock away and takes it back once a statement."""
    width = len(rows.names)
    one = f"({', '.join('?' * width)})"
    for i in range(0, len(rows.flat), ROWS * width):
        some = rows.flat[i : i + ROWS * width]
        database.execute(f"INSERT INTO {TABLE} VALUES {', '.join([one] * (len(some) // width))}", some)


async def main() -> None:
    app.state.who, app.state.target = sys.argv[1:3]
    if app.state.who == "ours":
        preload()
    # With its protocol told, or asyncio would not switch Nagle's algorithm off: 40 ms an answer.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_keep_alive=300))
    print(listening.getsockname()[1], flush=True)
    await server.serve([listening])


if __name__ == "__main__":
    if "uvloop" in sys.argv[3:]:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    else:
        asyncio.run(main())
