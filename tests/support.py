"""What many tests need: a loop that looks for tasks left behind, files to read, errors to take apart."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from aiopipe.errors import AiopipeError
from aiopipe.job.rejects import read_rejects

T = TypeVar("T")


def drive(main: Callable[[], Awaitable[T]], *, within: float = 20) -> T:
    """Run `main()` in a loop of its own; fails if it hangs, or leaves a task behind."""

    async def watched() -> T:
        try:
            async with asyncio.timeout(within):
                return await main()
        finally:
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"tasks left behind: {left}"

    return asyncio.run(watched())


def write(path: Path, data: bytes | str) -> str:
    """A file with these bytes, its directories included; its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return str(path)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions inside groups."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from leaves(one)
    else:
        yield error


def failure(pipeline: Any, **job: Any) -> AiopipeError:
    """The one error that a run ends with."""
    try:
        report = pipeline.run_sync(**job)
    except BaseException as error:
        [only] = leaves(error)
        assert isinstance(only, AiopipeError), repr(only)
        return only
    raise AssertionError(f"the run ended well: {report}")


def tree(root: Path) -> dict[str, bytes]:
    """Every file below `root` with its bytes; not the ledger, which is a record and no output."""
    files = (p for p in sorted(root.rglob("*")) if p.is_file() and ".aiopipe" not in p.parts)
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in files}


def rejects(path: Path | str) -> list[dict[str, Any]]:
    """The rows of a rejects file."""
    return asyncio.run(read_rejects(str(path)))


def shown(value: object) -> str:
    """The id of a parameter: its repr without addresses, which differ where tests run in several processes."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
