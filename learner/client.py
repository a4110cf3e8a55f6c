"""The driver's side of the learner: all ranks as one, through typed calls."""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import ray

from actors.deadlines import LONGEST, ROOM, SAVE, STEPS
from actors.errors import ActorDied, NoAnswer
from actors.remote import answer, answers, pulse
from actors.types import GroupRef
from learner.batches.types import StepPlan
from learner.reward_models.types import Agreement, RewardModelTask, RewardUpdateStats
from learner.types import LearnerSpec, LearnerState, Opened, Receivers, Schedule, SyncStats, UpdateStats, Written

LEARNER = "learner"  # how messages call it


class Learner(Protocol):
    """What the driver asks of a learner. The order of calls is that of `learner.actor.LearnerRank`."""

    @property
    def ranks(self) -> int:
        """Number of ranks."""

    async def join(self) -> None:
        """Has the ranks meet; does nothing where they have met."""

    async def open_warm_up(self, spec: LearnerSpec, path: Path, schedule: Schedule) -> None:
        """Opens a warm-up of the policy in a model folder; closes what is open."""

    async def warm_up(self, updates: int) -> UpdateStats:
        """Some supervised updates; the stats are of the last."""

    async def open_training(self, spec: LearnerSpec, path: Path, schedule: Schedule) -> Opened:
        """Opens a training on a model folder; closes what is open. Gives what there is to say about it."""

    async def prepare(self, plan: StepPlan, groups: Sequence[GroupRef]) -> None:
        """Brings each rank its shares and the groups that they name, each group once, and has them packed.

        Args:
            plan: of the next step.
            groups: all graded groups of the step's batch, packed.
        """

    async def train(self) -> list[UpdateStats]:
        """One step on what was prepared: the stats of each optimizer update."""

    async def publish(self, version: int, receivers: Receivers) -> SyncStats:
        """Sends the weights to the generators, as `version`."""

    async def probe(self, tokens: Sequence[int]) -> list[float]:
        """Log-probabilities of the tokens of a fixed text but the first, at temperature 1."""

    async def save_checkpoint(self, folder: Path) -> None:
        """Has the policy written as a Hugging Face folder, in training with all that the ranks need to go on. Returns
        when it is copied: training may go on. The folder is new, or empty; its marker is the caller's business."""

    async def finish_checkpoint(self) -> Written:
        """Waits until all ranks have written what they saved last; training may go on meanwhile."""

    async def free_cache(self) -> None:
        """Gives memory that no tensor holds back to the GPUs, for the engines that share them."""

    async def close_session(self) -> None:
        """Frees all models, if any."""

    async def save(self) -> LearnerState:
        """What the training remembers beyond weights and optimizers."""

    async def restore(self, state: LearnerState, folder: Path) -> None:
        """Goes on from what was saved, by `save` and by `save_checkpoint` into this folder; before the first
        `prepare`."""

    async def silent(self, seconds: float) -> list[str]:
        """The ranks whose process is gone, or gives no sign of life within some seconds."""

    def kill(self) -> None:
        """Ends all ranks at once."""

    def renew(self) -> None:
        """Has new ranks, which have not met, take the place of those that were killed."""


class LearnerClient:
    """A learner whose ranks are Ray actors (`learner.actor.LearnerRank`).

    Every method raises ActorDied where the process of a rank is gone, and BrokenPart where a rank raised something; the
    message names actor and node.
    """

    def __init__(self, create: Callable[[], Sequence[Any]]) -> None:
        """`create` makes the actors of all ranks, and gives their handles."""
        self._create = create
        self._ranks = tuple(create())
        self._step_seconds = 0.0  # of the step that took most, so far

    @property
    def ranks(self) -> int:
        """Number of ranks."""
        return len(self._ranks)

    async def join(self) -> None:
        """Has the ranks meet; does nothing where they have met."""
        address, port = await answer(self._ranks[0].address.remote(), LEARNER, "to find room in the cluster", ROOM)
        await answers([rank.join.remote(address, port) for rank in self._ranks], LEARNER)

    async def open_warm_up(self, spec: LearnerSpec, path: Path, schedule: Schedule) -> None:
        """Opens a warm-up of the policy in a model folder; closes what is open."""
        await answers([rank.open_warm_up.remote(spec, path, schedule) for rank in self._ranks], LEARNER)

    async def warm_up(self, updates: int) -> UpdateStats:
        """Some supervised updates; the stats are of the last."""
        stats: UpdateStats = (await answers([rank.warm_up.remote(updates) for rank in self._ranks], LEARNER))[0]
        return stats

    async def open_training(self, spec: LearnerSpec, path: Path, schedule: Schedule) -> Opened:
        """Opens a training on a model folder; closes what is open. Gives what there is to say about it."""
        opened: Opened = (
            await answers([rank.open_training.remote(spec, path, schedule) for rank in self._ranks], LEARNER)
        )[0]
        return opened

    async def prepare(self, plan: StepPlan, groups: Sequence[GroupRef]) -> None:
        """Brings each rank its shares and the groups that they name, each group once, and has them packed.

        Args:
            plan: of the next step.
            groups: all graded groups of the step's batch, packed.
        """
        ranks = zip(self._ranks, plan.ranks, strict=True)
        await asyncio.gather(
            *(
                answer(rank.prepare.remote(own, *(groups[index] for index in own.groups)), LEARNER)
                for rank, own in ranks
            )
        )

    async def train(self) -> list[UpdateStats]:
        """One step on what was prepared: the stats of each optimizer update, summed over ranks."""
        started, most = time.monotonic(), max(LONGEST, STEPS * self._step_seconds)
        replies = [rank.train.remote() for rank in self._ranks]
        stats: list[UpdateStats] = (await answers(replies, LEARNER, "a training step", most))[0]
        self._step_seconds = max(self._step_seconds, time.monotonic() - started)
        return stats

    async def publish(self, version: int, receivers: Receivers) -> SyncStats:
        """Sends the weights to the generators, as `version`."""
        stats: SyncStats = (await answers([rank.publish.remote(version, receivers) for rank in self._ranks], LEARNER))[
            0
        ]
        return stats

    async def probe(self, tokens: Sequence[int]) -> list[float]:
        """Log-probabilities of the tokens of a fixed text but the first, at temperature 1."""
        logprobs: list[float] = (await answers([rank.probe.remote(tokens) for rank in self._ranks], LEARNER))[0]
        return logprobs

    async def save_checkpoint(self, folder: Path) -> None:
        """Has the policy written as a Hugging Face folder, in training with all that the ranks need to go on. Returns
        when it is copied: training may go on. The folder is new, or empty; its marker is the caller's business."""
        await answers([rank.save_checkpoint.remote(folder) for rank in self._ranks], LEARNER, "to save", SAVE)

    async def finish_checkpoint(self) -> Written:
        """Waits until all ranks have written what they saved last; training may go on meanwhile."""
        replies = [rank.finish_checkpoint.remote() for rank in self._ranks]
        shares: list[Written] = await answers(replies, LEARNER, "to write a checkpoint", SAVE)
        files = {path: size for share in shares for path, size in share.files.items()}
        problems = [f"rank {rank}: {share.problem}" for rank, share in enumerate(shares) if share.problem]
        return Written(files=files, problem="; ".join(problems))

    async def free_cache(self) -> None:
        """Gives memory that no tensor holds back to the GPUs, for the engines that share them."""
        await answers([rank.free_cache.remote() for rank in self._ranks], LEARNER)

    async def close_session(self) -> None:
        """Frees all models, if any."""
        await answers([rank.close_session.remote() for rank in self._ranks], LEARNER)

    async def save(self) -> LearnerState:
        """What the training remembers beyond weights and optimizers."""
        state: LearnerState = (await answers([rank.save.remote() for rank in self._ranks], LEARNER))[0]
        return state

    async def restore(self, state: LearnerState, folder: Path) -> None:
        """Goes on from what was saved, by `save` and by `save_checkpoint` into this folder; before the first
        `prepare`."""
        await answers([rank.restore.remote(state, folder) for rank in self._ranks], LEARNER)

    async def open_reward_model(
        self, spec: LearnerSpec, path: Path, schedule: Schedule, task: RewardModelTask
    ) -> Opened:
        """Opens the training of a reward model on a model folder. Gives what there is to say about it."""
        replies = [rank.open_reward_model.remote(spec, path, schedule, task) for rank in self._ranks]
        opened: Opened = (await answers(replies, LEARNER))[0]
        return opened

    async def restore_reward_model(self, folder: Path, updates: int) -> None:
        """Goes on from what `save_checkpoint` wrote after so many updates."""
        await answers([rank.restore_reward_model.remote(folder, updates) for rank in self._ranks], LEARNER)

    async def update_reward_model(self) -> RewardUpdateStats:
        """One update of a reward model."""
        replies = [rank.update_reward_model.remote() for rank in self._ranks]
        stats: RewardUpdateStats = (await answers(replies, LEARNER, "an update of a reward model"))[0]
        return stats

    async def evaluate_reward_model(self) -> Agreement:
        """How well a reward model agrees with the held-out rows now."""
        replies = [rank.evaluate_reward_model.remote() for rank in self._ranks]
        agreement: Agreement = (await answers(replies, LEARNER, "to evaluate a reward model"))[0]
        return agreement

    async def silent(self, seconds: float) -> list[str]:
        """The ranks whose process is gone, or gives no sign of life within some seconds."""
        names = [f"rank {number}" for number in range(self.ranks)]

        async def is_silent(rank: Any, name: str) -> bool:
            try:
                await answer(pulse(rank, blocks=True), name, "a sign of life", seconds)
            except (ActorDied, NoAnswer):
                return True
            return False

        found = await asyncio.gather(*map(is_silent, self._ranks, names))
        return [name for name, silent in zip(names, found, strict=True) if silent]

    def kill(self) -> None:
        """Ends all ranks at once."""
        for rank in self._ranks:
            ray.kill(rank)

    def renew(self) -> None:
        """Has new ranks, which have not met, take the place of those that were killed."""
        self._ranks = tuple(self._create())
