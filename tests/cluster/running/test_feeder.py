"""What the driver remembers of scores from one batch to the next."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest

from cluster.running.feeder import Feeder
from cluster.running.state import ScoreHistory
from learner.batches.types import StepPlan
from learner.methods.algorithms import ALGORITHMS
from tests.builders import group, summary_of


class Ends:
    """A filter that always has one game, of two seats, and a learner that keeps its plans."""

    def __init__(self, scores: Sequence[float]) -> None:
        one, self.ranks, self.plans = group(scores, [2] * len(scores)), 1, list[StepPlan]()
        seats = [replace(t, seat=("first", "second")[n % 2]) for n, t in enumerate(one.trajectories)]
        self.batch = SimpleNamespace(summaries=[summary_of(replace(one, trajectories=tuple(seats)))], groups=[])

    async def take(self) -> SimpleNamespace:
        return self.batch

    async def prepare(self, plan: StepPlan, groups: Sequence[object]) -> None:
        self.plans.append(plan)


def feeder_of(ends: Ends, algorithm: str, scores: ScoreHistory, most_siblings: int | None = None) -> Feeder:
    return Feeder(
        filter=ends,
        learner=ends,
        algorithm=ALGORITHMS[algorithm],
        updates=1,
        max_new_tokens=8,
        has_span_rewards=False,
        control_tokens=(),
        scores=scores,
        most_siblings=most_siblings,
    )


@pytest.mark.parametrize("algorithm", ["rae", "reinforce"])
def test_a_batch_has_the_baselines_that_those_before_it_left(algorithm: str) -> None:
    ends, scores = Ends([1.0, -1.0]), ScoreHistory()
    feeder = feeder_of(ends, algorithm, scores)
    for _ in range(2):
        asyncio.run(feeder.take())
        scores.trained()
    credits = [plan.ranks[0].shares[0].groups[0].credits for plan in ends.plans]
    taken_off = 0.05 * (algorithm == "rae")
    assert credits == [(1.0, -1.0), pytest.approx((1.0 - taken_off, -1.0 + taken_off))]
    assert scores.save()[1] == pytest.approx({"first": 0.0975, "second": -0.0975} if algorithm == "rae" else {})


def test_a_plan_leaves_out_the_siblings_that_are_spare() -> None:
    ends = Ends([1.0, -1.0, -1.0, -1.0])
    asyncio.run(feeder_of(ends, "grpo", ScoreHistory(), most_siblings=2).take())
    assert [plan.ranks[0].shares[0].groups[0].left_out for plan in ends.plans] == [{2, 3}]
