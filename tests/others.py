"""Packages of other projects, which the environment of `make others-env` has."""

import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest


def package(name: str) -> Any:
    """The module of this name. A test skips where its package is not installed; one that is installed and cannot be
    imported fails the test, as the lock file lacks what it needs then."""
    if find_spec(name.partition(".")[0]) is None:
        pytest.skip("no environment with the packages of others: make others-env")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module(name)
