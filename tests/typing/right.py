"""Pipelines that a type checker must pass. Checked by mypy --strict (make types), never run."""

import asyncio
from collections.abc import AsyncIterator

from aiopipe import (
    Batch,
    Branch,
    Chain,
    Collect,
    Dedupe,
    Derive,
    Drop,
    Filter,
    Find,
    From,
    Head,
    Map,
    Merge,
    Pipeline,
    Read,
    Rename,
    Report,
    Route,
    Row,
    Select,
    Skip,
    Stream,
    Tee,
    Unbatch,
    Write,
    stage,
)


def plain(row: Row) -> Row:
    return row


async def waiting(row: Row) -> Row:
    return row


async def many(rows: AsyncIterator[Row]) -> AsyncIterator[Row]:
    async for row in rows:
        yield row


@stage
def shout(row: Row, *, column: str = "name", times: int = 1) -> Row:
    return row


@stage(word="count-up", placement="process")
def count_up(row: Row, *, by: int) -> Row:
    return row


stream: Stream = Read("in/*.csv", null="NA", types={"zip": "VARCHAR"}) | Filter("amount > 100")
pipeline: Pipeline = stream | Derive(net="amount * 0.9") | Write("out/", format="csv")
shared: Chain = Select("id", "name") | Drop("name") | Rename(id="key") | Head(3, per_file=True)
longer: Pipeline = Read(["a.csv", "b.csv"]) | shared | Skip(1) | Dedupe("key", memory="1MB") | Write("-")
lifted: Pipeline = Read("a.csv") | plain | waiting | many | Map(plain, placement="process", timeout=5) | Write("-")
own: Pipeline = Read("a.csv") | shout(column="city", times=2) | count_up(by=3) | Write("-")
items: Pipeline = From(range(10), size=5) | Map(str) | Collect()
files: Pipeline = Find("in/") | Head() | Write("files.jsonl")
branch: Branch = Filter("amount > 100") | Head(3) | Write("big/")
ended: Pipeline = Read("a.csv") | branch
tee: Pipeline = Read("a.csv") | Tee(branch, Write("b/"), shared | Collect())
routes: Pipeline = stream | Route({"amount > 100": branch, "amount < 0": Collect()}, otherwise=Write("small/"))
inside: Pipeline = stream | Route({"amount > 100": Tee(branch, Collect()), "TRUE": Head() | Write("b/")})
merged: Pipeline = Merge(Read("a/"), Read("b/") | Rename(x="y"), ordered=False) | Head() | Tee(Write("c/"))


async def save(rows: list[Row]) -> None: ...


async def copy(data: bytes) -> int:
    return len(data)


async def upload() -> AsyncIterator[bytes]:
    yield b""


saved: Pipeline = Read(upload()) | Write(save, batch=10)
copied: Pipeline = Read([{"id": 1}]) | Tee(Write(copy, format="csv"), Write("https://host/", headers={"A": "env:B"}))
listed: Pipeline = Read("https://host/x.csv", headers={"A": "b"}) | Batch(100, within="1s") | Unbatch() | Collect()
filled: Pipeline = stream | Write(
    "sqlite:///x.db#t", on_conflict="update", key="id", types={"id": "INTEGER"}, append=True
)
socket: Pipeline = Read("tcp://127.0.0.1:9000") | Write("unix:///run/rows.sock", format="jsonl")
report: Report = pipeline.run_sync(rejects="bad.csv", max_rejects=3, workers=2, memory="64MB")
text: str = pipeline.explain()


async def main() -> None:
    done: Report = await pipeline.run(report="report.json", stop=asyncio.Event(), debug=True)
    print(done.read, done.written)
    async with stream.stream(workers=1) as rows:
        async for row in rows:
            print(row)
