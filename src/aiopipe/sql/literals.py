"""Literals as Arrow scalars, where their value leaves no doubt.

Each scalar is built with its type: pyarrow that has to guess imports pandas (0.9 s) where it is installed.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pyarrow as pa

from aiopipe.sql.tree import Node, literal

__all__ = ["constant"]

_INTEGER = re.compile(r"-?\d{1,19}")
# Up to 15 digits a decimal divided by its power of ten is the nearest DOUBLE, however one computes it.
_DECIMAL = re.compile(r"-?(?=\.?\d)\d*\.\d*")
_SCIENTIFIC = re.compile(r"-?\d{1,15}(?:\.\d{0,15})?[eE][+-]?\d{1,3}")


def constant(node: Node) -> tuple[str, Any] | None:
    """A literal as (BIGINT | DOUBLE | DECIMAL | VARCHAR | BOOLEAN, scalar); None if there is a doubt."""
    found = literal(node)
    if found is None:
        return None
    kind, text = found
    if kind == "STRING":
        return "VARCHAR", pa.scalar(text, pa.string())
    if kind == "BOOLEAN":
        return "BOOLEAN", pa.scalar(text.lower() == "true", pa.bool_())
    if kind == "INTEGER":
        return _integer(text)
    return _number(text)


def _integer(text: str) -> tuple[str, Any] | None:
    if not _INTEGER.fullmatch(text) or not -(2**63) <= int(text) < 2**63:
        return None
    return "BIGINT", pa.scalar(int(text), pa.int64())


def _number(text: str) -> tuple[str, Any] | None:
    if _SCIENTIFIC.fullmatch(text):
        return "DOUBLE", pa.scalar(float(text), pa.float64())
    if _DECIMAL.fullmatch(text) and sum(c.isdigit() for c in text) <= 15:
        return "DECIMAL", pa.scalar(Decimal(text), pa.decimal128(15, len(text.partition(".")[2])))
    return None
