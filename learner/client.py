"""The driver's side of the learner: all ranks as one, through typed calls."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from actors.deadlines import LONGEST, SAVE, STEPS
from actors.remote import answer, answers
from actors.types import GroupRef
from learner.batches.types import StepPlan
from learner.types import LearnerSpec, LearnerState, Opened, Receivers, Schedule, SyncStats, UpdateStats

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
        """Starts to write the policy as a Hugging Face folder; training may go on meanwhile. It waits for an earlier
        folder, and raises what that one failed with."""

    async def finish_checkpoint(self) -> None:
        """Waits until the last folder is whole, which its marker says; raises what it failed with."""

    async def free_cache(self) -> None:
        """Gives memory that no tensor holds back to the GPUs, for the engines that share them."""

    async def close_session(self) -> None:
        """Frees all models, if any."""

    async def save(self) -> LearnerState:
        """What the training remembers beyond weights and optimizers."""

    async def restore(self, state: LearnerState) -> None:
        """Goes on from what was saved; before the first `train`."""


class LearnerClient:
    """A learner whose ranks are Ray actors (`learner.actor.LearnerRank`).

    Every method raises ActorDied where the process of a rank is gone, and BrokenPart where a rank raised something; the
    message names actor and node.
    """

    def __init__(self, ranks: Sequence[Any]) -> None:
        self._ranks = tuple(ranks)  # actor handles
        self._step_seconds = 0.0  # of the step that took most, so far

    @property
    def ranks(self) -> int:
        """Number of ranks."""
        return len(self._ranks)

    async def join(self) -> None:
        """Has the ranks meet; does nothing where they have met."""
        address, port = await answer(self._ranks[0].address.remote(), LEARNER)
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
        """Starts to write the policy as a Hugging Face folder; training may go on meanwhile. It waits for an earlier
        folder, and raises what that one failed with."""
        await answers([rank.save_checkpoint.remote(folder) for rank in self._ranks], LEARNER, "to save", SAVE)

    async def finish_checkpoint(self) -> None:
        """Waits until the last folder is whole, which its marker says; raises what it failed with."""
        await answer(self._ranks[0].finish_checkpoint.remote(), LEARNER, "to save", SAVE)  # rank 0 writes

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

    async def restore(self, state: LearnerState) -> None:
        """Goes on from what was saved; before the first `train`."""
        await answers([rank.restore.remote(state) for rank in self._ranks], LEARNER)
