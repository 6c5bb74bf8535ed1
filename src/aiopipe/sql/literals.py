"""Literals as Arrow scalars, where their value leaves no doubt."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import numpy as np

from aiopipe.arrays import double, integer, mask_array, text_scalar
from aiopipe.sql.tree import Node, literal

__all__ = ["constant"]

_INTEGER = re.compile(r"-?\d{1,19}")
# Up to 15 digits a decimal divided by its power of ten is the nearest DOUBLE, however one computes it.
_DECIMAL = re.compile(r"-?(?=\.?\d)\d*\.\d*")
_SCIENTIFIC = re.compile(r"-?\d{1,7}(?:\.\d{0,8})?[eE][+-]?\d{1,3}")


def constant(node: Node) -> tuple[str, Any] | None:
    """A literal as (type, scalar); a DECIMAL is a Decimal. None if there is a doubt."""
    found = literal(node)
    if found is None:
        return None
    kind, text = found
    if kind == "STRING":
        return "VARCHAR", text_scalar(text)
    if kind == "BOOLEAN":
        return "BOOLEAN", mask_array(np.array([text.lower() == "true"]))[0]
    if kind == "INTEGER":
        return _integer(text)
    return _number(text)


def _integer(text: str) -> tuple[str, Any] | None:
    if not _INTEGER.fullmatch(text) or not -(2**63) <= int(text) < 2**63:
        return None
    return "BIGINT", integer(int(text))


def _number(text: str) -> tuple[str, Any] | None:
    if _SCIENTIFIC.fullmatch(text):
        return "DOUBLE", double(float(text))
    if _DECIMAL.fullmatch(text) and sum(c.isdigit() for c in text) <= 15:
        return "DECIMAL", Decimal(text)
    return None
