"""The driver's side of the learner: all ranks as one, through typed calls."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import ray

from actors.pool import call, call_all
from learner.batches.types import StepPlan
from learner.types import LearnerSpec, LearnerState, Receivers, Schedule, SyncStats, UpdateStats


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

    async def open_training(self, spec: LearnerSpec, path: Path, schedule: Schedule) -> int:
        """Opens a training on a model folder; closes what is open. Gives the policy's number of parameters."""

    async def prepare(self, plan: StepPlan, groups: Sequence[ray.ObjectRef]) -> None:
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
        """Writes the policy as a Hugging Face folder."""

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

    @property
    def ranks(self) -> int:
        """Number of ranks."""
        return len(self._ranks)

    async def join(self) -> None:
        """Has the ranks meet; does nothing where they have met."""
        address, port = await call(self._ranks[0], "address")
        await self._call("join", address, port)

    async def open_warm_up(self, spec: LearnerSpec, path: Path, schedule: Schedule) -> None:
        """Opens a warm-up of the policy in a model folder; closes what is open."""
        await self._call("open_warm_up", spec, path, schedule)

    async def warm_up(self, updates: int) -> UpdateStats:
        """Some supervised updates; the stats are of the last."""
        stats: UpdateStats = (await self._call("warm_up", updates))[0]
        return stats

    async def open_training(self, spec: LearnerSpec, path: Path, schedule: Schedule) -> int:
        """Opens a training on a model folder; closes what is open. Gives the policy's number of parameters."""
        parameters: int = (await self._call("open_training", spec, path, schedule))[0]
        return parameters

    async def prepare(self, plan: StepPlan, groups: Sequence[ray.ObjectRef]) -> None:
        """Brings each rank its shares and the groups that they name, each group once, and has them packed.

        Args:
            plan: of the next step.
            groups: all graded groups of the step's batch, packed.
        """
        ranks = zip(self._ranks, plan.ranks, strict=True)
        await asyncio.gather(
            *(call(rank, "prepare", own, *(groups[index] for index in own.groups)) for rank, own in ranks)
        )

    async def train(self) -> list[UpdateStats]:
        """One step on what was prepared: the stats of each optimizer update, summed over ranks."""
        stats: list[UpdateStats] = (await self._call("train"))[0]
        return stats

    async def publish(self, version: int, receivers: Receivers) -> SyncStats:
        """Sends the weights to the generators, as `version`."""
        stats: SyncStats = (await self._call("publish", version, receivers))[0]
        return stats

    async def probe(self, tokens: Sequence[int]) -> list[float]:
        """Log-probabilities of the tokens of a fixed text but the first, at temperature 1."""
        logprobs: list[float] = (await self._call("probe", tokens))[0]
        return logprobs

    async def save_checkpoint(self, folder: Path) -> None:
        """Writes the policy as a Hugging Face folder."""
        await self._call("save_checkpoint", folder)

    async def close_session(self) -> None:
        """Frees all models, if any."""
        await self._call("close_session")

    async def save(self) -> LearnerState:
        """What the training remembers beyond weights and optimizers."""
        state: LearnerState = (await self._call("save"))[0]
        return state

    async def restore(self, state: LearnerState) -> None:
        """Goes on from what was saved; before the first `train`."""
        await self._call("restore", state)

    async def _call(self, method: str, *arguments: Any) -> list[Any]:
        """One method of all ranks at the same time, with the same arguments: what each gives."""
        return await call_all(self._ranks, method, *arguments)
