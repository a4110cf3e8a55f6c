"""The driver's side of the learner, and its double: what reaches which rank, and what a wrong order of calls says."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.arrow import packed
from learner.batches.planning import plan_step
from learner.batches.types import RankPlan
from learner.client import Learner, LearnerClient
from learner.methods.algorithms import Algorithm, algorithm_of
from learner.settings import LearnerSettings, ModelSettings
from learner.types import LearnerSpec, LearnerState, Opened, Schedule, UpdateStats, Written
from tests.builders import group, learner_spec, summary_of
from tests.local_learner import LocalLearner, stats_of

GROUPS = [group([1.0, -1.0, 1.0], [20 + 10 * number, 7, 3], id=number) for number in range(5)]
OPENED = Opened(parameters=7, notes=())
SCHEDULE = Schedule(lr=1e-3, updates=4, warmup=0, end=1.0)


def spec_of(algorithm: Algorithm) -> LearnerSpec:
    return learner_spec(ModelSettings(dtype="float32"), LearnerSettings(micro_batch_tokens=64), algorithm)


class Method:
    """A method of a remote actor that notes what it is called with."""

    def __init__(self, name: str, calls: list[tuple], answer: Any) -> None:
        self._name, self._calls, self._answer = name, calls, answer

    async def remote(self, *arguments: Any) -> Any:
        self._calls.append((self._name, *arguments))
        return self._answer


class Rank:
    """A learner rank that notes its calls and gives these answers."""

    def __init__(self, **answers: Any) -> None:
        self.calls: list[tuple] = []
        self._answers = answers

    def __getattr__(self, name: str) -> Method:
        return Method(name, self.calls, self._answers.get(name))


def test_the_ranks_meet_where_the_first_can_be_met() -> None:
    ranks = [Rank(address=("10.0.0.1", 2900)), Rank()]
    learner = LearnerClient(lambda: ranks)
    assert learner.ranks == 2
    asyncio.run(learner.join())
    assert [rank.calls for rank in ranks] == [[("address",), ("join", "10.0.0.1", 2900)], [("join", "10.0.0.1", 2900)]]


def test_each_rank_gets_the_groups_that_it_trains_on_once_over_all_passes() -> None:
    plan = plan_step(
        list(map(summary_of, GROUPS)), algorithm_of("grpo", {"passes": 2}), updates=2, ranks=2, max_new_tokens=100
    )
    ranks, references = [Rank(), Rank()], [f"reference {number}" for number in range(len(GROUPS))]
    asyncio.run(LearnerClient(lambda: ranks).prepare(plan, references))
    sent = []
    for rank, own in zip(ranks, plan.ranks, strict=True):
        ((name, found, *groups),) = rank.calls
        assert (name, found) == ("prepare", own)
        assert groups == [references[index] for index in own.groups]
        sent += groups
    assert sorted(sent) == references


def test_what_all_ranks_know_alike_is_taken_from_the_first() -> None:
    stats, state = [stats_of([], 1e-3)], LearnerState(baseline_mean=0.5, baseline_count=4, steps_since_reference=1)
    ranks = [Rank(train=stats, save=state, probe=[-1.0], open_training=OPENED), Rank(train=[], probe=[-2.0])]
    learner = LearnerClient(lambda: ranks)

    async def story() -> tuple[Opened, list[UpdateStats], LearnerState, list[float]]:
        opened = await learner.open_training(spec_of(algorithm_of("grpo")), Path("model"), SCHEDULE)
        return opened, await learner.train(), await learner.save(), await learner.probe((1, 2))

    assert asyncio.run(story()) == (OPENED, stats, state, [-1.0])
    assert [name for name, *_ in ranks[1].calls] == ["open_training", "train", "save", "probe"]


def test_what_all_ranks_wrote_is_told_together_and_a_problem_with_its_rank() -> None:
    wrote = [Written(files={"state/a": 1}), Written(files={"state/b": 2}, problem="OSError: no space")]
    learner = LearnerClient(lambda: [Rank(finish_checkpoint=one) for one in wrote])
    found = asyncio.run(learner.finish_checkpoint())
    assert found == Written(files={"state/a": 1, "state/b": 2}, problem="rank 1: OSError: no space")


def test_the_double_makes_the_samples_that_a_rank_would_make(tmp_path: Path) -> None:
    algorithm = algorithm_of("grpo", {"passes": 2})
    learner: Learner = LocalLearner(ranks=2)
    assert isinstance(learner, LocalLearner)
    plan = plan_step(list(map(summary_of, GROUPS)), algorithm, updates=2, ranks=2, max_new_tokens=100)

    async def story() -> list[UpdateStats]:
        await learner.open_training(spec_of(algorithm), Path("model"), SCHEDULE)
        await learner.prepare(plan, list(map(packed, GROUPS)))
        stats = await learner.train()
        await learner.save_checkpoint(tmp_path / "step-1")
        return stats

    stats = asyncio.run(story())
    assert [one.tokens for one in stats] == [share.totals.tokens for share in plan.ranks[0].shares]
    samples = [sample for rank in learner.updates for update in rank[:2] for sample in update.samples]
    assert sum(sample.tokens.size for sample in samples) == sum(summary_of(one).tokens for one in GROUPS)
    for one in GROUPS:
        found = [sample.advantage for sample in samples if sample.group == one.id]
        assert found == algorithm.credit(np.array([1.0, -1.0, 1.0])).tolist()
    assert all(rank[0] is rank[2] and rank[1] is rank[3] for rank in learner.updates)  # the second pass
    assert learner.checkpoints == [tmp_path / "step-1"]


def test_the_double_refuses_what_a_rank_would_refuse() -> None:
    learner = LocalLearner()
    with pytest.raises(RuntimeError, match="train needs an open training, and none is open"):
        asyncio.run(learner.train())
    asyncio.run(learner.open_warm_up(spec_of(algorithm_of("grpo")), Path("model"), SCHEDULE))
    with pytest.raises(RuntimeError, match="prepare needs an open training, and warm-up is open"):
        asyncio.run(learner.prepare(plan_step([], algorithm_of("grpo"), updates=1, ranks=1, max_new_tokens=8), []))


def test_a_plan_names_each_group_of_a_rank_once() -> None:
    algorithm = algorithm_of("rest")
    plan = plan_step(list(map(summary_of, GROUPS)), algorithm, updates=1, ranks=1, max_new_tokens=100)
    assert plan.ranks[0].groups == (0, 1, 2, 3, 4)
    assert isinstance(plan.ranks[0], RankPlan)
    assert len(plan.ranks[0].shares) == 3
