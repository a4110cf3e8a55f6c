"""How many GPUs should sample and how many should train: by the stage times of an earlier run, or by an estimate. What
is found is said with its reason and never set: ranks decide how the optimizer lies on disk, and a run is its file.

Both stages are taken to get faster evenly with their GPUs. Where they overlap, a step takes as long as the longer one;
where they take turns (`rollout.max_staleness = 0`), as long as both.
"""

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from cluster.config.errors import ConfigError
from cluster.config.reading import CONFIG
from cluster.config.run_config import RunConfig
from cluster.config.run_files import METRICS
from cluster.preparing.budget import width_of
from cluster.preparing.memory import MemoryPlan
from cluster.reporting.words import counted

OPERATIONS, BANDWIDTH = 1e15, 3.35e12  # of an H100 in bfloat16: a second, and bytes of its memory a second
OPERATIONS_SHARE, BANDWIDTH_SHARE = 0.4, 0.6  # of them that learner and engines reach
SAVED = 0.05  # of a step's seconds that another division must save before it is proposed
VERDICTS = 0.1  # of a step's seconds, beyond which waiting for verdicts alone is said


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a step costs."""

    sampling: float  # seconds of one GPU
    training: float
    source: str  # how that is known
    verdicts: float = 0.0  # share of a step in which verdicts alone were waited for


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """How GPUs are divided."""

    generators: int
    ranks: int

    def seconds(self, work: Work, width: int, *, turns: bool) -> float:
        """Of a step, without syncs and checkpoints.

        Args:
            work: of a step.
            width: GPUs of a generator.
            turns: whether the stages take turns.
        """
        sampling, training = work.sampling / (self.generators * width), work.training / self.ranks
        return sampling + training if turns else max(sampling, training)


def work_of_run(folder: Path) -> Work:
    """The work of a step as an earlier run measured it, in the middle of its steps.

    Raises:
        ConfigError: the folder has no steps, or none that sampled.
    """
    try:
        lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
        steps = [json.loads(line) for line in lines if line.strip()]
        cluster = tomllib.loads((folder / CONFIG).read_text(encoding="utf-8"))["cluster"]
        sampling = [_sampling(step, cluster) for step in steps if step["generators"]]
        training = [step["seconds_train"] * cluster["learner_ranks"] for step in steps]
        verdicts = [(step["seconds_wait_verify"] or 0.0) / _seconds(step) for step in steps]
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as failure:
        raise ConfigError(
            f"--from takes the folder of a run with {CONFIG} and {METRICS}, got {folder}: {failure!r}"
        ) from failure
    if not sampling:
        raise ConfigError(f"--from takes the folder of a run that has trained on what it sampled, got {folder}")
    source = f"in {folder} a step took"
    return Work(sampling=median(sampling), training=median(training), source=source, verdicts=median(verdicts))


def _seconds(step: Mapping[str, Any]) -> float:
    return float(sum(step[f"seconds_{part}"] or 0.0 for part in ("wait", "train", "sync", "other")))


def _sampling(step: Mapping[str, Any], cluster: Mapping[str, Any]) -> float:
    """Seconds of one GPU in which generators had groups to sample. On shared GPUs these rest while the learner trains,
    with groups in hand."""
    whole, verdicts = _seconds(step), step["seconds_wait_verify"] or 0.0
    busy = step["seconds_wait"] if cluster["colocate"] else (step["busy_generators"] or 0.0) * whole
    return float(max(0.0, busy - verdicts) * step["generators"] * cluster["tensor_parallel"])


def estimated_work(config: RunConfig, plan: MemoryPlan | None) -> Work | None:
    """The work of a step by arithmetic alone: training computes, sampling reads weights, keys and values for each token
    of as many responses as an engine decodes at a time. Responses have half of their greatest length.

    Args:
        config: the run, settled.
        plan: its memory on GPUs; None where nothing can be made of the model.
    """
    if plan is None or plan.sizes is None or plan.engine is None or width_of(config) != 2:
        return None
    sizes, rollout, width = plan.sizes, config.rollout, config.cluster.tensor_parallel
    responses, response = rollout.groups_per_step * rollout.group_size, rollout.max_new_tokens / 2
    length = plan.tokens - response
    passes = (2 if sizes.trained < sizes.parameters else 4) + 2 + 2 * bool(config.model.checkpointing)
    computed = config.algorithm.passes * passes * sizes.parameters * responses * length
    flying = (rollout.max_staleness + 1) * responses / config.cluster.fewest_generators
    together = max(1.0, min(flying, plan.engine.sequences, plan.engine.room or plan.engine.sequences))
    read = 2 * sizes.parameters + together * 2 * sizes.key_value_elements * (length - response / 2)
    token = max(
        read / (width * BANDWIDTH * BANDWIDTH_SHARE),
        2 * sizes.parameters * together / (width * OPERATIONS * OPERATIONS_SHARE),
    )
    return Work(
        sampling=responses * response * token * width / together,
        training=computed / (OPERATIONS * OPERATIONS_SHARE),
        source="by an estimate for GPUs like an H100 and responses of half their greatest length a step takes",
    )


def divisions(gpus: int, width: int, most_ranks: int) -> Iterable[Division]:
    """All ways to divide GPUs between generators of some width and ranks, which get the rest."""
    for generators in range(1, (gpus - 1) // width + 1):
        yield Division(generators=generators, ranks=min(most_ranks, gpus - generators * width))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Between the divisions of the GPUs that are there."""

    config: RunConfig  # the run, which has GPUs and does not share them
    work: Work  # of a step
    gpus: int  # that learner and generators may have
    fits: Callable[[Division], bool]  # whether a division finds room on the nodes and in their memory

    def seconds(self, division: Division) -> float:
        """Of a step."""
        turns = self.config.rollout.max_staleness == 0
        return division.seconds(self.work, self.config.cluster.tensor_parallel, turns=turns)

    @property
    def now(self) -> Division:
        """The run's own division."""
        return Division(generators=self.config.cluster.fewest_generators, ranks=self.config.cluster.learner_ranks)

    def best(self) -> Division | None:
        """The one with the shortest step; None where none saves a twentieth of the run's own."""
        width = self.config.cluster.tensor_parallel
        most = self.config.rollout.groups_per_step // self.config.learner.updates_per_step
        ways = sorted(divisions(self.gpus, width, most), key=lambda way: (self.seconds(way), way.ranks))
        better = (way for way in ways if self.seconds(way) < (1 - SAVED) * self.seconds(self.now))
        return next((way for way in better if self.fits(way)), None)

    def line(self) -> str:
        """What to say of it."""
        work, now, best = self.work, self.now, self.best()
        turns = self.config.rollout.max_staleness == 0
        said = (
            f"ratio: {work.source} {work.sampling:.3g} GPU-seconds of sampling and {work.training:.3g} of training, "
            f"{'one after the other' if turns else 'at the same time'}: {_words(now)} take {self.seconds(now):.3g} s a "
            "step"
        )
        if best is None:
            said += f", and no other division of {self.gpus} GPUs would save a twentieth of that"
        else:
            said += (
                f"; cluster.generators = {best.generators} and cluster.learner_ranks = {best.ranks} on {self.gpus} "
                f"GPUs would take {self.seconds(best):.3g} s"
            )
        if work.verdicts > VERDICTS:
            said += f". For {work.verdicts:.0%} of a step verdicts alone were waited for: cluster.verifiers first"
        return said


def _words(division: Division) -> str:
    return f"{counted(division.generators, 'generator')} and {counted(division.ranks, 'rank')}"
