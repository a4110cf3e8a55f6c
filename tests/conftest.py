"""Keeps tests off the network, and holds what lives on between tests with the real parts."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.runs import Runs

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def _runs() -> Iterator["Runs"]:
    from tests.runs import Runs

    runs = Runs()
    yield runs
    runs.end()


@pytest.fixture
def runs(_runs: "Runs") -> "Runs":
    """Training runs whose actors live on; see `tests/runs.py`."""
    return _runs


@pytest.fixture
def own_ray(_runs: "Runs") -> None:
    """For a test that starts a Ray session of its own in this process: the shared one has ended."""
    _runs.end()
