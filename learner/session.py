"""What a learner rank holds for one run: a session, built complete, used, and closed whole. There are three kinds, a
warm-up on worked answers, a training on graded groups, and that of a reward model (`learner.reward_models.session`)."""

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import torch
from transformers import AutoTokenizer

from learner.adapter_folder import save_adapter
from learner.batches.packing import Packing
from learner.batches.types import RankPlan, TrainBatch, UpdateBatch
from learner.batches.updates import update_batches
from learner.checkpoint import save_policy
from learner.engine import Engine
from learner.methods.choices import Aggregation, Need
from learner.models.side import policy_engine
from learner.objective import SUPERVISED, ModelOutputs, PolicyObjective
from learner.trainer import Trainer, update_policy
from learner.types import (
    STATE,
    LearnerSpec,
    LearnerState,
    Opened,
    Place,
    Receivers,
    Schedule,
    SyncStats,
    UpdateStats,
    Written,
)
from learner.warmup import WorkedAnswers, add_taught_ends
from learner.weights import WeightSync
from learner.writing import Writer
from learner.zero_state import restore_random_states, save_random_states, seed_all


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
        self._policy, self._path, self.writer = policy, path, Writer()
        self._saves_adapter = policy.module.adapted and not merges
        self._dtype: torch.dtype = getattr(torch, spec.model.dtype)
        self._sync = WeightSync(policy, self._dtype, place)

    def publish(self, receivers: Receivers) -> SyncStats:
        """Sends the weights to the generators."""
        return self._sync.send(receivers)

    def probe(self, tokens: Sequence[int]) -> list[float]:
        """Log-probabilities of a fixed text under the current weights, temperature 1."""
        return self._policy.probe(tokens)

    def save_checkpoint(self, folder: Path) -> None:
        """Has a Hugging Face folder written, or where an adapter alone is trained, an adapter folder. Returns when all
        is copied."""
        self.writer.begin(folder)
        if self._saves_adapter:
            save_adapter(self._policy, folder, self.writer, base=self._path, dtype=self._dtype)
        else:
            save_policy(self._policy, folder, self.writer, tokenizer=self._path, dtype=self._dtype)

    def finish_checkpoint(self) -> Written:
        """Waits until this rank has written its share of the last folder; what it wrote, or why it could not."""
        return self.writer.finish()

    def close(self) -> None:
        """Leaves the transfer group, and waits until all is written."""
        self._sync.close()
        self.writer.close()


class WarmUpSession:
    """A policy that imitates worked answers. Where an adapter is trained, checkpoints have it merged: a training on one
    starts with a new adapter, and what the warm-up made is its reference policy."""

    def __init__(self, place: Place, spec: LearnerSpec, path: Path, schedule: Schedule) -> None:
        seed_all(spec.seed)
        self._policy = policy_engine(path, spec, schedule)
        control = spec.model.control_tokens if Need.CONTROL in spec.algorithm.needs else ()
        self._answers = worked_answers(place, spec, path, self._policy.packing, control=control)
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        add_taught_ends(self._policy.module.lm.generation_config, tokenizer, spec.data)
        self.published = Published(self._policy, path, spec, place, merges=True)

    def warm_up(self, updates: int) -> UpdateStats:
        """Some supervised updates, at least one; the stats are of the last."""
        for _ in range(updates):
            batches = next(self._answers)
            objective = PolicyObjective(SUPERVISED, [ModelOutputs()] * len(batches), None)
            stats = update_policy(self._policy, batches, objective)
        return stats

    def save_checkpoint(self, folder: Path) -> None:
        """Has the policy written as a folder for `from_pretrained`."""
        self.published.save_checkpoint(folder)

    def close(self) -> None:
        """Frees the policy."""
        self.published.close()
        self._policy.close()


class TrainingSession:
    """A policy that is trained on graded groups, with all models beside it. For each step `prepare`, then `train`."""

    def __init__(self, place: Place, spec: LearnerSpec, path: Path, schedule: Schedule) -> None:
        seed_all(spec.seed)
        algorithm = spec.algorithm
        self._spec, self._random = spec, f"random-{place.rank}.json"
        self._trainer = Trainer(path, spec, schedule)
        packing, aggregate = self._trainer.policy.packing, algorithm.aggregate
        self._answers = worked_answers(place, spec, path, packing, aggregate) if algorithm.imitation else iter(())
        self._updates: list[UpdateBatch] = []  # of the next `train`
        self._worked = 0  # updates' worth of worked answers that were trained on; the next `train` has taken more
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
        stats = self._trainer.step(self._updates)
        if self._spec.algorithm.imitation:
            self._worked += len({id(update) for update in self._updates})  # later passes share their updates
        return stats

    def save(self) -> LearnerState:
        """What the trainer remembers beyond what `save_checkpoint` has written."""
        return self._trainer.save(self._worked)

    def save_checkpoint(self, folder: Path) -> None:
        """Has the policy written for the world outside, and in the folder `STATE` of it all that this rank needs to go
        on. Returns when all is copied: the models may be trained again."""
        self.published.save_checkpoint(folder)
        self._trainer.save_models(folder / STATE, self.published.writer)
        save_random_states(folder / STATE / self._random, self.published.writer)

    def restore(self, state: LearnerState, folder: Path) -> None:
        """Goes on from what was saved; before the first `prepare`.

        Args:
            state: of `save`.
            folder: of `save_checkpoint`.
        """
        self._trainer.restore(state, folder / STATE, self.published.writer)
        self._worked = state.worked
        for _ in range(state.worked):
            next(self._answers)
        restore_random_states(folder / STATE / self._random)

    def close(self) -> None:
        """Frees all models."""
        self.published.close()
        self._trainer.close()


def worked_answers(
    place: Place,
    spec: LearnerSpec,
    path: Path,
    packing: Packing,
    aggregate: Aggregation = Aggregation.TOKEN_MEAN,
    control: Sequence[str] = (),
) -> Iterator[list[TrainBatch]]:
    """This rank's micro-batches of worked answers for one update after another, without end."""
    return WorkedAnswers(path, spec.data, spec.warmup, spec.seed, control).updates(
        rank=place.rank,
        ranks=place.ranks,
        packing=packing,
        aggregate=aggregate,
    )


def free_memory() -> None:
    """Gives the memory of a closed session back, once nothing holds the session."""
    gc.collect()
    torch.cuda.empty_cache()
