"""What needs a GPU: the trials of `tests/gpu/trials.py`, each in a process of its own as in `make gpu-test`."""

import json
from dataclasses import asdict
from functools import cache

import pytest

from tests.gpu.run import FAILED, SKIPPED, Hardware, this_hardware, tried
from tests.gpu.trials import TRIALS

pytestmark = pytest.mark.gpu


@cache
def hardware() -> Hardware:
    return this_hardware()


@pytest.mark.parametrize("name", TRIALS)
def test_a_trial_holds(name: str) -> None:
    found = tried(TRIALS[name], hardware())
    if found.outcome == SKIPPED:
        pytest.skip(found.why)
    print(json.dumps(asdict(found)))
    assert found.outcome != FAILED, found.why
