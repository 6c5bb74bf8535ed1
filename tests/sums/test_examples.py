"""Every example in a docstring of the package is run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import aiopipe.sums

MODULES = sorted(each.name for each in pkgutil.iter_modules(aiopipe.sums.__path__, "aiopipe.sums."))


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_are_true(name: str):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_every_public_name_can_be_imported_and_is_documented():
    for name in aiopipe.sums.__all__:
        assert getattr(aiopipe.sums, name).__doc__
    assert aiopipe.sums.__all__ == sorted(aiopipe.sums.__all__, key=lambda each: (each[0].islower(), each))
