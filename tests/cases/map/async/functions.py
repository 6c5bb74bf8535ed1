import asyncio


async def ask(row):
    await asyncio.sleep(0.01 / int(row["id"]))
    return {**row, "answer": "yes"}
