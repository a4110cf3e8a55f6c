"""What each actor is told of a run, out of its config."""

from collections.abc import Sequence
from pathlib import Path

from actors.filtering.filter import FilterSpec
from actors.types import SamplingSpec
from cluster.config.run_config import RunConfig
from cluster.config.run_files import TRAJECTORIES
from learner.types import LearnerSpec, Schedule
from rewards import Task


def filter_spec(config: RunConfig, folder: Path) -> FilterSpec:
    """For the filter; `folder` is the run's."""
    return FilterSpec(
        drop=config.algorithm.drop,
        groups_per_step=config.rollout.groups_per_step,
        max_staleness=config.rollout.max_staleness,
        patience=config.filter.patience,
        trajectories=folder / TRAJECTORIES,
        most_siblings=config.most_siblings,
    )


def sampling_spec(config: RunConfig) -> SamplingSpec:
    """For the generators."""
    algorithm = config.algorithm
    return SamplingSpec(
        seed=config.run.seed,
        rollout=config.rollout,
        reward=config.reward,
        greedy=algorithm.baseline == "greedy",
        drop=algorithm.drop,
        data=config.data,
    )


def scorer_tasks(config: RunConfig, rewards: Sequence[str]) -> list[Task]:
    """For the scorers of these rewards: what they will be asked, without cases."""
    settings, budget = config.reward, config.reward.budget
    return [Task(name=name, settings=settings.of(name), budget=budget, batches=()) for name in rewards]


def learner_spec(config: RunConfig) -> LearnerSpec:
    """For the learner's ranks."""
    return LearnerSpec(
        model=config.model,
        learner=config.learner,
        algorithm=config.algorithm,
        data=config.data,
        warmup=config.warmup,
        temperature=config.rollout.temperature,
        top_p=config.rollout.top_p,
        score_weight=config.reward.score_weight,
        has_span_rewards=config.reward.span_weight > 0,
        seed=config.run.seed,
    )


def training_schedule(config: RunConfig) -> Schedule:
    """The learning rate over all optimizer updates of the run."""
    learner = config.learner
    updates = config.run.steps * learner.updates_per_step * config.algorithm.passes
    return Schedule(lr=learner.lr, updates=updates, warmup=learner.lr_warmup, end=learner.lr_end)


def warmup_schedule(config: RunConfig) -> Schedule:
    """The learning rate over the supervised updates; it rises over their first quarter."""
    warmup = config.warmup
    return Schedule(lr=warmup.lr, updates=warmup.updates, warmup=warmup.updates // 4, end=warmup.lr_end)
