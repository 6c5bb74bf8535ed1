"""The job options of the command line, from their one declaration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from aiopipe.cli.params import given, params_of
from aiopipe.job.options import JobOptions
from aiopipe.stages._names import load_module

__all__ = ["import_modules", "job_given", "job_options"]

F = TypeVar("F", bound=Callable[..., Any])


def job_options(*only: str) -> Callable[[F], F]:
    """A decorator that adds the job options (or only some of them) to a click command."""

    def add(function: F) -> F:
        found = list(getattr(function, "__click_params__", []))
        wanted = [p for p in params_of(JobOptions) if not only or p.name in only]
        function.__click_params__ = found + wanted[::-1]  # type: ignore[attr-defined]
        return function

    return add


def job_given(params: Mapping[str, Any]) -> dict[str, Any]:
    """The job options that were typed, by their keys; their modules are imported here and now."""
    found = given(JobOptions, params)
    import_modules(found.get("import", ()))
    return found


def import_modules(names: Any) -> None:
    """Import modules for the stages they register; UsageError names one that cannot be imported."""
    for name in names:
        load_module(name, "--import")
