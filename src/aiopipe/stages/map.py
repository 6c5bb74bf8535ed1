"""`map`: a user's function over rows."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from aiopipe.errors import UsageError
from aiopipe.options import option
from aiopipe.policy import breaker_of, rate_of, retry_of
from aiopipe.stage import Apply, Context, Flow, Items, Scope
from aiopipe.stages._attempts import exceptions_named
from aiopipe.stages._calls import call_each, item_function
from aiopipe.stages._generators import streamed
from aiopipe.stages._names import function_name, load_function, load_module
from aiopipe.stages._rebuild import Rebuild
from aiopipe.stages._rows import rows_in_slices
from aiopipe.stages._waiting import calling

__all__ = ["ON_ERROR", "Map", "function_name", "load_function", "load_module"]

ON_ERROR = ("stop", "reject", "keep")


@dataclass(frozen=True, repr=False)
class Map(Apply, Flow):
    """Call FUNCTION with each row (a dict of column name to text) and go on with the row it returns.

    FUNCTION is written module:function or file.py:function. It may be

    - a `def`: called in a thread; with --placement process in worker processes, which is what uses all cores;
      with --concurrency N in N threads at once, for functions that wait;
    - an `async def`: called in the event loop, N calls at once with --concurrency N;
    - an async generator function over rows: called once for each file with an async iterator over its rows;
      what it yields goes on.

    A row that comes back unchanged keeps its bytes, and so does every field whose value did not change. All
    rows of a file must come back with the same columns. A row whose function raises is rejected.

    With --retries, --rate-limit or --breaker a `def` is called in threads of its own, as with --concurrency.
    Retries wait longer each time, by chance a little more or less; a call that took longer than --timeout has
    failed, and is made again as well. Where order is kept, others get ahead of a slow call by no more than
    --concurrency times 256 rows.
    """

    word: ClassVar[str] = "map"
    takes: ClassVar[tuple[str, ...]] = ("records", "files", "items")
    example: ClassVar[str] = (
        "aiopipe pipe read 'sample_data/flights/*.csv' then map examples/functions.py:shout then head 2 then write -"
    )

    function: Any = option(
        kind="function", positional="one", compare=False, help="module:function, or file.py:function"
    )
    placement: Any = option(
        None,
        choices=("loop", "thread", "process"),
        help="where it runs (default: by the kind of function)",
        result=False,
    )
    concurrency: Any = option(None, kind="int", help="calls at once (default: 16 for async def)", result=False)
    ordered: bool = option(True, kind="flag", help="keep the order of the input (no-ordered: batches as they finish)")
    timeout: Any = option(None, kind="time", metavar="TIME", help="how long one call may take, such as 5s")
    retries: Any = option(
        None,
        kind="policy",
        convert=retry_of,
        metavar="N",
        help="how often a failed call is made again: 3, or attempts=4,backoff=1s,on=TimeoutError",
        result=False,
    )
    rate_limit: Any = option(
        None,
        kind="policy",
        convert=rate_of,
        metavar="RATE",
        help="calls begun a time, over the whole stage: 50/s",
        result=False,
    )
    breaker: Any = option(
        None,
        kind="policy",
        convert=breaker_of,
        metavar="N",
        help="after N failed calls in a row wait, then try one: 5, or failures=5,wait=30s,probes=10",
        result=False,
    )
    on_error: str = option(
        "reject",
        choices=ON_ERROR,
        help="a row whose function raises ends the run, is set aside (with --rejects), or stays as it was",
    )
    columns: Any = option((), kind="texts", help="columns the function gives, if it changes them (for empty files)")
    thread_sensitive: bool = option(
        False, kind="flag", help="call it in the one thread that thread-bound code shares (asgiref)", result=False
    )
    # What is called, and so what makes two stages equal: Map(f) and Map("module:f") are the same stage.
    call: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        function = self.function
        if isinstance(function, str):
            call = load_function(function)
            call = getattr(call, "stage_function", call)
        elif callable(function):
            call = function
        else:
            raise UsageError(f"{function!r} is no function", stage="map", hint="give it a function of one row")
        object.__setattr__(self, "call", call)
        Apply.__post_init__(self)
        if self.placement is None:
            place = "loop" if self.is_async or self.concurrency is not None or self.persists else "thread"
            place = "main thread" if self.thread_sensitive and not self.is_async else place
            object.__setattr__(self, "placement", place)
        self._check()

    def _check(self) -> None:
        if self.is_async and self.placement != "loop":
            raise UsageError(
                f"an async function runs in the loop, not in a {self.placement}",
                stage="map",
                hint="leave out placement, or make it a def",
            )
        self._check_persistence()
        if self.concurrency is not None and self.concurrency < 1:
            raise UsageError(f"concurrency is {self.concurrency}", stage="map", hint="give it 1 or more")
        if self.is_generator and (self.timeout is not None or self.concurrency is not None):
            raise UsageError(
                "an async generator is called once for each file: it has no timeout and no concurrency",
                stage="map",
                hint="use asyncio.timeout inside it, or make it an async def of one row",
            )
        if self.concurrency is not None and self.placement == "process":
            raise UsageError(
                "concurrency is for functions that wait; processes are counted by --workers",
                stage="map",
                hint="leave out concurrency",
            )
        if not self.is_async and self.placement == "loop" and self.concurrency is None and not self.persists:
            raise UsageError(
                "a def would hold up the event loop",
                stage="map",
                hint="make it async def, or leave out placement",
            )
        if self.timeout is not None and not self.is_async and self.placement != "process":
            raise UsageError(
                "a thread cannot be stopped, so a def in a thread can have no timeout",
                stage="map",
                hint="say placement='process', or make it async def",
            )

    def _check_persistence(self) -> None:
        if self.retries is not None:
            exceptions_named(self.retries.on, type(self).word or "map")
        if self.is_generator and (self.persists or self.on_error != "reject"):
            raise UsageError(
                "an async generator is called once for each file: no row of it can be called again or kept",
                stage="map",
                hint="make it an async def of one row",
            )
        if not self.persists:
            return
        if self.placement in ("thread", "process"):
            # Workers do not know of each other: a rate, or a circuit, would be one for each of them; and one that
            # sleeps before it tries again holds up a core.
            raise UsageError(
                f"retries, rate_limit and breaker are for functions that wait, not for those of a {self.placement}",
                stage="map",
                hint="leave out placement: a def is called in threads of its own, an async def in the loop",
            )
        if self.thread_sensitive and not self.is_async:
            raise UsageError(
                "one thread is shared by all thread-bound code: calls in it are not made again or held back",
                stage="map",
                hint="make it an async def that calls asgiref's sync_to_async",
            )

    @property
    def persists(self) -> bool:
        """Whether calls are made again, held back or spread."""
        return self.retries is not None or self.rate_limit is not None or self.breaker is not None

    @property
    def per_unit(self) -> bool:
        """True: a function sees one row, a generator function the rows of one file."""
        return True

    @property
    def per_record(self) -> bool:
        """Whether rows stay apart, and in order: a generator function may remember those before."""
        return self.ordered and not self.is_generator

    @property
    def is_generator(self) -> bool:
        """Whether the function is an async generator function over rows."""
        return inspect.isasyncgenfunction(self.call)

    @property
    def is_async(self) -> bool:
        """Whether the function must run in the loop."""
        call = self.call
        return (
            inspect.iscoroutinefunction(call)
            or inspect.isasyncgenfunction(call)
            or inspect.iscoroutinefunction(getattr(call, "__call__", None))  # noqa: B004 - an object's own
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # A function named by text travels as that text: the worker imports it by the same rules.
        options = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("function", "call")}
        if self.placement == "main thread":
            options["placement"] = None
        return _rebuilt_map, (self.function, options)

    def gives(self, kind: str) -> str:
        """Records stay records; of files a function may make anything."""
        return "records" if kind == "records" else "items"

    def narrow(self, scope: Scope) -> Scope:
        """A function may add and remove columns; those it names itself are known."""
        if not self.columns:
            return replace(scope, complete=False)
        types = {name: scope.types.get(name, "VARCHAR") for name in self.columns}
        return replace(scope, types=types)

    def apply(self, batch: Any, scope: Scope) -> Any:
        """A `def` on every row of a batch, in whatever thread or process this is."""
        if isinstance(batch, Items):
            return item_function(self.call, batch, self.on_error)
        whole = Rebuild(batch, self.columns, self.on_error)
        for rows in rows_in_slices(batch):
            whole.add(rows, *call_each(self.call, rows.dicts()))
        return whole.finish()

    def flow(self, parcels: AsyncIterator[Any], scope: Scope, context: Context) -> AsyncIterator[Any]:
        """An `async def` with several calls at once, or an async generator function per file."""
        if self.is_generator:
            return streamed(self.call, parcels, self.columns, context)
        return calling(self, parcels, context)


def _rebuilt_map(function: Any, options: Mapping[str, Any]) -> Map:
    return Map(function, **options)
