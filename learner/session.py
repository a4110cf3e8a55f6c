"""What a learner rank holds for one run: a session, built complete, used, and closed whole. There are two kinds, a
warm-up on worked answers and a training on graded groups."""

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import torch

from learner.adapter_folder import save_adapter
from learner.batches.packing import Packing
from learner.batches.types import RankPlan, TrainBatch, UpdateBatch
from learner.batches.updates import update_batches
from learner.checkpoint import Checkpoints
from learner.engine import Engine
from learner.methods.choices import Aggregation
from learner.models.side import policy_engine
from learner.objective import SUPERVISED, ModelOutputs, PolicyObjective
from learner.trainer import Trainer, update_policy
from learner.types import LearnerSpec, LearnerState, Opened, Place, Receivers, Schedule, SyncStats, UpdateStats
from learner.warmup import WorkedAnswers
from learner.weights import WeightSync


class Published:
    """A policy as the world outside sees it: sent to generators, probed, written to a folder. All ranks call every
    method together.

    Args:
        policy: whose weights are published.
        path: the folder that it was loaded from.
        spec: of the run.
        place: of this rank.
        merges: whether checkpoints are whole models even where an adapter alone is trained.
    """

    def __init__(self, policy: Engine, path: Path, spec: LearnerSpec, place: Place, merges: bool = False) -> None:
        self._policy, self._path = policy, path
        self._saves_adapter = policy.module.adapted and not merges
        self._dtype: torch.dtype = getattr(torch, spec.model.dtype)
        self._checkpoints = Checkpoints(policy, tokenizer=path, dtype=self._dtype)
        self._sync = WeightSync(policy, self._dtype, place)

    def publish(self, version: int, receivers: Receivers) -> SyncStats:
        """Sends the weights to the generators, as `version`."""
        return self._sync.send(version, receivers)

    def probe(self, tokens: Sequence[int]) -> list[float]:
        """Log-probabilities of a fixed text under the current weights, temperature 1."""
        return self._policy.probe(tokens)

    def save_checkpoint(self, folder: Path) -> None:
        """Starts to write a Hugging Face folder, and the policy may be trained meanwhile; or where an adapter alone is
        trained, writes an adapter folder."""
        if self._saves_adapter:
            save_adapter(self._policy, folder, base=self._path, dtype=self._dtype)
        else:
            self._checkpoints.save(folder)

    def finish_checkpoint(self) -> None:
        """Waits until the last folder is whole."""
        self._checkpoints.finish()

    def close(self) -> None:
        """Leaves the transfer group, and waits until the last folder is whole."""
        self._sync.close()
        self._checkpoints.close()


class WarmUpSession:
    """A policy that imitates worked answers. Where an adapter is trained, checkpoints have it merged: a training on one
    starts with a new adapter, and what the warm-up made is its reference policy."""

    def __init__(self, place: Place, spec: LearnerSpec, path: Path, schedule: Schedule) -> None:
        torch.manual_seed(spec.seed)
        self._policy = policy_engine(path, spec, schedule)
        self._answers = worked_answers(place, spec, path, self._policy.packing)
        self.published = Published(self._policy, path, spec, place, merges=True)

    def warm_up(self, updates: int) -> UpdateStats:
        """Some supervised updates, at least one; the stats are of the last."""
        for _ in range(updates):
            batches = next(self._answers)
            objective = PolicyObjective(SUPERVISED, [ModelOutputs()] * len(batches), None)
            stats = update_policy(self._policy, batches, objective)
        return stats

    def close(self) -> None:
        """Frees the policy."""
        self.published.close()
        self._policy.close()


class TrainingSession:
    """A policy that is trained on graded groups, with all models beside it. For each step `prepare`, then `train`."""

    def __init__(self, place: Place, spec: LearnerSpec, path: Path, schedule: Schedule) -> None:
        torch.manual_seed(spec.seed)
        algorithm = spec.algorithm
        self._spec = spec
        self._trainer = Trainer(path, spec, schedule)
        packing, aggregate = self._trainer.policy.packing, algorithm.aggregate
        self._answers = worked_answers(place, spec, path, packing, aggregate) if algorithm.imitation else iter(())
        self._updates: list[UpdateBatch] = []  # of the next `train`
        self.published = Published(self._trainer.policy, path, spec, place)

    @property
    def opened(self) -> Opened:
        """What there is to say about the policy."""
        policy = self._trainer.policy
        return Opened(parameters=sum(export.size for export in policy.exported()), notes=policy.module.notes())

    def prepare(self, plan: RankPlan, groups: Sequence[pa.Buffer]) -> None:
        """Packs what the next `train` trains on, an optimizer update for each share of the plan.

        Args:
            plan: of this rank.
            groups: the graded groups of `plan.groups`, in that order.
        """
        packing = self._trainer.policy.packing
        self._updates = update_batches(plan, groups, self._spec.algorithm, packing, self._answers)

    def train(self) -> list[UpdateStats]:
        """One step on what was prepared."""
        return self._trainer.step(self._updates)

    def save(self) -> LearnerState:
        """What the trainer remembers beyond weights and optimizers."""
        return self._trainer.save()

    def restore(self, state: LearnerState) -> None:
        """Goes on from what was saved; before the first `train`."""
        self._trainer.restore(state)

    def close(self) -> None:
        """Frees all models."""
        self.published.close()
        self._trainer.close()


def worked_answers(
    place: Place, spec: LearnerSpec, path: Path, packing: Packing, aggregate: Aggregation = Aggregation.TOKEN_MEAN
) -> Iterator[list[TrainBatch]]:
    """This rank's micro-batches of worked answers for one update after another, without end."""
    return WorkedAnswers(path, spec.data, spec.warmup, spec.seed).updates(
        rank=place.rank,
        ranks=place.ranks,
        packing=packing,
        aggregate=aggregate,
    )


def free_memory() -> None:
    """Gives the memory of a closed session back, once nothing holds the session."""
    gc.collect()
    torch.cuda.empty_cache()
