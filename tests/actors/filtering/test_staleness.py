"""The bound on staleness under the real loop and ledger, in virtual time."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bench.virtual import Course, Pipeline


def course(seed: int, *, tail: float, rejected: float, seats: int) -> Course:
    """Groups of one response with heavy tails, of which a share is rejected."""
    draw = random.Random(seed)
    return Course(
        responses=lambda _: [math.exp(draw.gauss(0.0, tail))],
        update=lambda _: 2.0,
        publish=0.1,
        rejected=lambda _: draw.random() < rejected,
        seats=seats,
    )


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    groups=st.integers(1, 12),
    staleness=st.integers(0, 4),
    tail=st.floats(0.0, 3.0),
    rejected=st.floats(0.0, 0.8),
    seats=st.integers(1, 64),
)
def test_no_token_is_trained_on_later_than_max_staleness(
    seed: int, groups: int, staleness: int, tail: float, rejected: float, seats: int
) -> None:
    times = course(seed, tail=tail, rejected=rejected, seats=seats)
    pipeline = Pipeline(times, groups_per_step=groups, max_staleness=staleness)
    pipeline.run(25)
    assert pipeline.trained == 25
    assert max(pipeline.lags) <= staleness
    assert min(pipeline.lags) >= 0


@pytest.mark.slow
@pytest.mark.parametrize(("staleness", "most"), [(1, 0.75), (2, 0.7), (4, 0.65)])
def test_staleness_lets_sampling_and_training_overlap(staleness: int, most: float) -> None:
    def seconds(of: int) -> float:
        times = course(7, tail=1.0, rejected=0.3, seats=16)
        return Pipeline(times, groups_per_step=16, max_staleness=of).run(60)

    assert seconds(staleness) <= most * seconds(0)
