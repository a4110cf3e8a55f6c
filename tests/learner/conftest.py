"""What tests of learner ranks share: a Ray session of a module, and a tiny model."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.data.world import ALPHABET
from tests.runs import Runs


@pytest.fixture(scope="module")
def session(_runs: Runs) -> Iterator[None]:
    """Ray, for the ranks that the tests of a module start; ranks that are reused end with it."""
    import ray

    from tests.learner.test_engine import LIVING

    _runs.end()
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    LIVING.clear()
    ray.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model."""
    from learner.models.tiny import write_tiny_model

    folder = tmp_path_factory.mktemp("model")
    write_tiny_model(folder, alphabet=ALPHABET, seed=0)
    return folder
