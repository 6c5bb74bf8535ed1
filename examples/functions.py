"""Small functions for `map`, one of each kind; the help and the README name them.

    aiopipe pipe read sample_data/flights then map examples/functions.py:shout then head 2 then write -

A row is a dict of column name to text. Return a row, changed or not; raise to have the record rejected.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

Row = dict[str, str]


def shout(row: Row) -> Row:
    """Every field in capitals: a plain function, called in a thread."""
    return {name: value.upper() for name, value in row.items()}


def speed(row: Row) -> Row:
    """A column mph more: `--placement process` runs it on all cores. NA in air_time raises: a reject."""
    row["mph"] = str(round(int(row["distance"]) / int(row["air_time"]) * 60))
    return row


async def ask(row: Row) -> Row:
    """A column more from a slow service, many calls at once: `--concurrency 32`."""
    await asyncio.sleep(0.001)  # here a request would wait for its answer
    row["home"] = "yes" if row["dest"] in {"EWR", "JFK", "LGA"} else "no"
    return row


async def gaps(rows: AsyncIterator[Row]) -> AsyncIterator[Row]:
    """Only the rows whose flight number differs from the row before: a generator sees a file row by row."""
    before = ""
    async for row in rows:
        if row["flight"] != before:
            yield row
        before = row["flight"]
