"""`@stage`: a user's function or class as a stage of its own, known in all three doors."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar, get_type_hints, overload

from aiopipe.errors import UnknownNameError, UsageError, nearest
from aiopipe.options import option, options_of
from aiopipe.policy import Breaker, Retry
from aiopipe.stage import Row, Stage, Transform
from aiopipe.stages import register
from aiopipe.stages.map import Map

__all__ = ["stage"]

P = ParamSpec("P")
S = TypeVar("S", bound=type[Stage])
_KINDS: dict[Any, str] = {str: "text", int: "int", float: "float", bool: "flag"}


@overload
def stage(function: S, /) -> S: ...
@overload
def stage(function: Callable[Concatenate[Row, P], Any], /) -> Callable[P, Transform]: ...
@overload
def stage(
    *,
    word: str | None = ...,
    placement: str | None = ...,
    concurrency: int | None = ...,
    ordered: bool = ...,
    timeout: float | str | None = ...,
    retries: Retry | int | str | None = ...,
    rate_limit: str | None = ...,
    breaker: Breaker | int | str | None = ...,
    on_error: str = ...,
    columns: Sequence[str] = ...,
    thread_sensitive: bool = ...,
) -> Callable[[Callable[Concatenate[Row, P], Any]], Callable[P, Transform]]: ...
def stage(function: Any = None, /, *, word: str | None = None, **fixed: Any) -> Any:
    """Make a stage of a function of one row, or register a class derived from Apply, Flow, Source or Sink.

    Keyword-only parameters of the function become options: `--name` in the shell, `name =` in a pipeline file.
    What `map` has as options (placement, concurrency, ordered, timeout, retries and so on) is fixed here.
    The word is the function's name, with - for _. An installed package offers its stages through the entry
    point group `aiopipe.stages`.

        @stage
        def shout(row, *, column: str = "name"):
            row[column] = row[column].upper()
            return row

        Read("in.csv") | shout(column="city") | Write("out.csv")
    """
    if function is None:
        return partial(_make, word=word, **fixed)
    return _make(function, word=word, **fixed)


def _make(function: Any, *, word: str | None = None, **fixed: Any) -> Any:
    known = [o.name for o in options_of(Map) if not o.positional]
    for name in fixed:
        if isinstance(function, type) or name not in known:
            raise UnknownNameError(f"@stage has no option {name!r} here", hint=nearest(name, ["word", *known]))
    if isinstance(function, type):
        if not issubclass(function, Stage):
            raise UsageError(f"{function.__name__} is no stage", hint="derive it from Apply, Flow, Source or Sink")
        if "__dataclass_fields__" not in vars(function):
            function = dataclasses.dataclass(frozen=True, repr=False)(function)
        function.word = word or function.word or function.__name__.lower()
        register(function.word, function)
        return function
    cls = _class_of(function, word or function.__name__.replace("_", "-"), fixed)
    register(cls.word, cls)
    return cls


def _class_of(function: Callable[..., Any], word: str, fixed: dict[str, Any]) -> type[Stage]:
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        raise UsageError(f"{function.__name__} takes no row", hint="its first parameter is the row")
    hints = get_type_hints(function)
    # Two are equal when their options are: what is called is made from these.
    fields: list[Any] = [(n, Any, _hidden(None, compare=False)) for n in ("function", "call")]
    for p in parameters[1:]:
        if p.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise UsageError(
                f"{function.__name__}: option {p.name} is not keyword-only",
                hint="put a * behind the row: (row, *, ...)",
            )
        default = dataclasses.MISSING if p.default is inspect.Parameter.empty else p.default
        kind = _KINDS.get(hints.get(p.name, type(p.default)), "text")
        fields.append((p.name, Any, option(default, kind=kind, help=f"parameter {p.name} of {function.__name__}")))
    own = [p.name for p in parameters[1:]]

    def __post_init__(self: Any) -> None:  # noqa: N807
        options = {name: getattr(self, name) for name in own}
        object.__setattr__(self, "function", partial(function, **options))
        Map.__post_init__(self)

    def __reduce__(self: Any) -> Any:  # noqa: N807
        return _again, (type(self), {name: getattr(self, name) for name in own})

    inherited = [f.name for f in dataclasses.fields(Map) if f.name not in ("function", "call", *own)]
    fields += [(n, Any, _hidden(fixed.get(n, getattr(Map, n, None)))) for n in inherited]
    namespace = {
        "__post_init__": __post_init__,
        "__reduce__": __reduce__,
        "__doc__": function.__doc__ or f"{word}: a stage of {function.__module__}.",
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "word": word,
        "example": "",
        "stage_function": staticmethod(function),
    }
    return dataclasses.make_dataclass(
        function.__name__, fields, bases=(Map,), frozen=True, repr=False, namespace=namespace
    )


def _hidden(default: Any, *, compare: bool = True) -> Any:
    """A field that is no option."""
    return dataclasses.field(default=default, init=False, repr=False, compare=compare)


def _again(cls: type[Stage], options: dict[str, Any]) -> Stage:
    return cls(**options)
