"""A CSV that is uploaded goes through checks into a database while it arrives, in a FastAPI service.

    pip install fastapi uvicorn aiosqlite aiopipe-csv
    uvicorn upload:app
    curl --data-binary @orders.csv http://127.0.0.1:8000/orders

Nothing of an upload is stored unless all of it is good; the answer names the first record that is not.
"""

import os
from typing import Any

import aiosqlite
from fastapi import FastAPI, HTTPException, Request

from aiopipe import AiopipeError, Filter, Read, Select, Write

app = FastAPI()


@app.post("/orders")
async def orders(request: Request) -> dict[str, int]:
    """Store the orders of more than nothing."""
    async with aiosqlite.connect(os.environ.get("ORDERS_DB", "orders.sqlite3")) as db:
        await db.execute("CREATE TABLE IF NOT EXISTS orders (number TEXT PRIMARY KEY, amount NUMERIC)")

        async def save(rows: list[dict[str, Any]]) -> None:
            await db.executemany("INSERT OR REPLACE INTO orders VALUES (:number, :amount)", rows)

        pipeline = (
            Read(request.stream(), types={"amount": "DECIMAL(12,2)"})
            | Filter("amount > 0")
            | Select("number", "amount")
            | Write(save, batch=500)
        )
        try:
            report = await pipeline.run()
        except* AiopipeError as group:
            await db.rollback()
            raise HTTPException(422, [str(error) for error in group.exceptions]) from None
        await db.commit()
    return {"read": report.read, "stored": report.written}
