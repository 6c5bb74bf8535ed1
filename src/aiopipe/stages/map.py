"""`map`: a user's function over rows."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from aiopipe.errors import UsageError
from aiopipe.options import option
from aiopipe.stage import Apply, Context, Flow, Items, Scope
from aiopipe.stages._calls import call_each, call_each_async, fault_of, item_function
from aiopipe.stages._generators import streamed
from aiopipe.stages._rebuild import Rebuild
from aiopipe.stages._rows import rows_in_slices

__all__ = ["Map", "function_name", "load_function", "load_module"]


def load_function(name: str) -> Callable[..., Any]:
    """The function behind `package.module:function` or `path/to/file.py:function`.

    The working directory counts as a place for modules. UsageError where there is no such function.
    """
    module_name, colon, attribute = name.rpartition(":")
    if not colon or not module_name or not attribute:
        raise UsageError(f"{name!r} names no function", stage="map", hint="write module:function or file.py:function")
    module = load_module(module_name, "map")
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
        if found is None:
            from aiopipe.errors import nearest

            functions = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
            raise UsageError(
                f"no function {attribute!r} in {module_name}", stage="map", hint=nearest(attribute, functions)
            )
    if not callable(found):
        raise UsageError(f"{name} is no function", stage="map", hint="name something that can be called")
    result: Callable[..., Any] = found
    return result


def function_name(function: Any) -> str:
    """What `load_function` finds the function by; UsageError for one that no module holds under its name."""
    if isinstance(function, str):
        return function
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    found: Any = sys.modules.get(module or "")
    for part in (name or "").split("."):
        found = getattr(found, part, None)
    if found is not function or module == "__main__":
        raise UsageError(
            f"{function!r} has no name that another program could import it by",
            stage="map",
            hint="define it at the top of a module",
        )
    return f"{module}:{name}"


def load_module(name: str, stage: str) -> Any:
    """The module `package.module` or `path/to/file.py`; UsageError, said to be `stage`'s, where it cannot be imported.

    An exception of the module's own code becomes one as well, with its traceback as a note.
    """
    from pathlib import Path

    if name.endswith(".py"):
        path = Path(name).resolve()
        if not path.is_file():
            raise UsageError(f"no file {name}", stage=stage, hint="check the path of the module")
        # Under its own name and with its directory on the path, so that a worker process finds it again.
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        name = path.stem
    elif "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(f"cannot import {name}: {error}", stage=stage, hint="check the name and PYTHONPATH") from error
    except UsageError:
        raise  # from @stage: it says what to do
    except Exception as error:
        fault = fault_of(error)
        refused = UsageError(f"importing {name} raised {fault.reason}", stage=stage, hint="mend the module")
        refused.add_note(fault.trace)
        raise refused from error


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
            place = "loop" if self.is_async or self.concurrency is not None else "thread"
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
        if not self.is_async and self.placement == "loop" and self.concurrency is None:
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

    @property
    def per_unit(self) -> bool:
        """True: a function sees one row, a generator function the rows of one file."""
        return True

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
        options = {
            name: getattr(self, name) for name in ("concurrency", "ordered", "timeout", "columns", "thread_sensitive")
        }
        place = None if self.placement == "main thread" else self.placement
        return _rebuilt_map, (self.function, {**options, "placement": place})

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
            return item_function(self.call, batch)
        whole = Rebuild(batch, self.columns)
        for rows in rows_in_slices(batch):
            whole.add(rows, *call_each(self.call, rows.dicts()))
        return whole.finish()

    def flow(self, parcels: AsyncIterator[Any], scope: Scope, context: Context) -> AsyncIterator[Any]:
        """An `async def` with several calls at once, or an async generator function per file."""
        if self.is_generator:
            return streamed(self.call, parcels, self.columns, context)
        return call_each_async(self, parcels, context)


def _rebuilt_map(function: Any, options: Mapping[str, Any]) -> Map:
    return Map(function, **options)
