"""Watch a directory of access logs (CSV): errors of each file go to a mirrored directory as soon as it is complete.

    python examples/watch_logs.py LOGS ERRORS

Ctrl-C or SIGTERM: what is in flight is finished, then it ends. What was done is known in ERRORS/.aiopipe, so that the
next start goes on from there. The same in the shell:

    aiopipe pipe --watch --settle 1s read LOGS then filter 'status >= 500' then write ERRORS/
"""

from __future__ import annotations

import asyncio
import signal
import sys

from aiopipe import Filter, Read, Report, Write


def told(news: Report | Exception) -> None:
    """A round has ended, well or not; the watch goes on in any case."""
    if isinstance(news, Exception):
        print("problem:", *(news.exceptions if isinstance(news, ExceptionGroup) else [news]), flush=True)
    else:
        print(f"{news.files} files: {news.written} errors in {news.read} requests", flush=True)


async def main(logs: str, errors: str) -> None:
    """Watch until a signal comes."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    pipeline = Read(logs, types={"status": "INTEGER"}) | Filter("status >= 500") | Write(f"{errors}/")
    watched = await pipeline.watch(settle="1s", stop=stop, told=told)
    print(watched)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
