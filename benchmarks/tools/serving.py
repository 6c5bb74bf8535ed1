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
from collections.abc import Iterable, Sequence
from typing import Any

import uvicorn
from fastapi import FastAPI, Request

from aiopipe import preload
from benchmarks.tools.ticking import Ticker, spread

app = FastAPI()
TABLE = "flights"


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
    from aiopipe import Filter, Read, Write

    table = Write(f"sqlite:///{target}#{TABLE}", append=True)
    pipeline = Read(request.stream(), null="NA") | Filter("distance > 0") | table
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


def opened(target: str, header: Sequence[str]) -> sqlite3.Connection:
    database = sqlite3.connect(target, check_same_thread=False)
    database.execute(f"CREATE TABLE {TABLE} ({', '.join(header)})")
    return database


def insert(database: sqlite3.Connection, rows: Iterable[Sequence[str]]) -> None:
    rows = list(rows)
    if rows:
        database.executemany(f"INSERT INTO {TABLE} VALUES ({', '.join('?' * len(rows[0]))})", rows)


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
