"""Pipe directories of files and CSVs through async transforms.

Build a pipeline with `|`, run it with `run()` or `run_sync()`:

    from aiopipe import Filter, Read, Write

    report = (Read("in/*.csv") | Filter("amount > 100") | Write("out/")).run_sync()

Everything public is imported on first use, so that `import aiopipe` costs nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from aiopipe.errors import (
        AiopipeError,
        ExpressionError,
        FunctionError,
        InputError,
        LockedError,
        OutputError,
        RecordError,
        RequestError,
        StoppedError,
        TooManyRejectsError,
        UnknownNameError,
        UsageError,
        WorkerError,
    )
    from aiopipe.imports import preload
    from aiopipe.job.report import Report
    from aiopipe.model import FileRef, Position, Reject
    from aiopipe.policy import Breaker, Retry
    from aiopipe.stage import Branch, Chain, Pipeline, Row, Sink, Source, Stream, Transform
    from aiopipe.stages.batch import Batch
    from aiopipe.stages.collect import Collect
    from aiopipe.stages.dedupe import Dedupe
    from aiopipe.stages.derive import Derive
    from aiopipe.stages.drop import Drop
    from aiopipe.stages.fetch import Fetch
    from aiopipe.stages.filter import Filter
    from aiopipe.stages.find import Find
    from aiopipe.stages.hash import Hash
    from aiopipe.stages.head import Head
    from aiopipe.stages.items import From
    from aiopipe.stages.map import Map
    from aiopipe.stages.mask import Mask
    from aiopipe.stages.merge import Merge
    from aiopipe.stages.read import Read
    from aiopipe.stages.rename import Rename
    from aiopipe.stages.route import Route
    from aiopipe.stages.select import Select
    from aiopipe.stages.skip import Skip
    from aiopipe.stages.tee import Tee
    from aiopipe.stages.unbatch import Unbatch
    from aiopipe.stages.user import stage
    from aiopipe.stages.write import Write

_HOMES = {
    **dict.fromkeys(
        [
            "AiopipeError", "ExpressionError", "FunctionError", "InputError", "LockedError", "OutputError",
            "RecordError", "RequestError", "StoppedError", "TooManyRejectsError", "UnknownNameError", "UsageError",
            "WorkerError",
        ],
        "aiopipe.errors",
    ),
    **dict.fromkeys(["FileRef", "Position", "Reject"], "aiopipe.model"),
    **dict.fromkeys(["Breaker", "Retry"], "aiopipe.policy"),
    **dict.fromkeys(["Branch", "Chain", "Pipeline", "Row", "Sink", "Source", "Stream", "Transform"], "aiopipe.stage"),
    "Batch": "aiopipe.stages.batch",
    "Collect": "aiopipe.stages.collect",
    "Dedupe": "aiopipe.stages.dedupe",
    "Derive": "aiopipe.stages.derive",
    "Drop": "aiopipe.stages.drop",
    "Fetch": "aiopipe.stages.fetch",
    "Filter": "aiopipe.stages.filter",
    "Find": "aiopipe.stages.find",
    "From": "aiopipe.stages.items",
    "Hash": "aiopipe.stages.hash",
    "Head": "aiopipe.stages.head",
    "Map": "aiopipe.stages.map",
    "Mask": "aiopipe.stages.mask",
    "Merge": "aiopipe.stages.merge",
    "Read": "aiopipe.stages.read",
    "Rename": "aiopipe.stages.rename",
    "Report": "aiopipe.job.report",
    "Route": "aiopipe.stages.route",
    "Select": "aiopipe.stages.select",
    "Skip": "aiopipe.stages.skip",
    "Tee": "aiopipe.stages.tee",
    "Unbatch": "aiopipe.stages.unbatch",
    "Write": "aiopipe.stages.write",
    "preload": "aiopipe.imports",
    "stage": "aiopipe.stages.user",
}  # fmt: skip

__all__ = [
    "AiopipeError", "Batch", "Branch", "Breaker", "Chain", "Collect", "Dedupe", "Derive", "Drop", "ExpressionError",
    "Fetch", "FileRef", "Filter", "Find", "From", "FunctionError", "Hash", "Head", "InputError", "LockedError", "Map",
    "Mask", "Merge", "OutputError", "Pipeline", "Position", "Read", "RecordError", "Reject", "Rename", "Report",
    "RequestError", "Retry", "Route", "Row", "Select", "Sink", "Skip", "Source", "StoppedError", "Stream", "Tee",
    "TooManyRejectsError", "Transform", "Unbatch", "UnknownNameError", "UsageError", "WorkerError", "Write", "preload",
    "stage",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


class _Package(ModuleType):
    """Keeps `aiopipe.stage` the decorator: importing the module of that name would put the module there."""

    def __setattr__(self, name: str, value: object) -> None:
        if name != "stage" or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
