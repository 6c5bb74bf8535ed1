"""Four rows, and functions of a row in every placement that needs no other process."""

import asyncio

from aiopipe import Map

ROWS = [b"1,a\n", b"2,b\n", b"3,c\n", b"4,d\n"]

CSV = b"v,text\n" + b"".join(ROWS)


def asynchronous(function):
    async def call(row):
        await asyncio.sleep(0)
        return function(row)

    return call


def maps(function):
    """The function in every placement that needs no other process."""
    return [
        Map(function),
        Map(function, concurrency=2),
        Map(function, thread_sensitive=True),
        Map(asynchronous(function)),
        Map(asynchronous(function), concurrency=1),
    ]


def raises(error):
    def function(row):
        if row["v"] == "3":
            raise error
        return row

    return function
