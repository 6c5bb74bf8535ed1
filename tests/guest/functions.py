"""Functions for rows and items, in a module that worker processes can import."""

import contextvars
import os
import threading

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
lock: contextvars.ContextVar[object] = contextvars.ContextVar("lock", default="no lock")


def whose(row):
    row["tenant"], row["lock"], row["pid"] = tenant.get(), str(lock.get()), str(os.getpid())
    row["thread"] = threading.current_thread().name
    return row


async def whose_in_loop(row):
    return whose(row)


async def whose_of_a_file(rows):
    async for row in rows:
        yield whose(dict(row))
