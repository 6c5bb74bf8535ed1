async def twice(rows):
    async for row in rows:
        yield row
        yield row
