"""All that a run must remember to go on, and who owns which part of it.

Each part of a run that remembers something saves and restores its own share; nothing else of a run is remembered but
weights and optimizer, which the learner's checkpoints hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from actors.data.source import PromptSource, PromptSourceState
from actors.data.stored import StoredGroups, StoredGroupsState
from actors.filtering.client import FilterClient
from actors.filtering.filter import FilterState
from learner.client import Learner
from learner.methods.credit import role_baseline
from learner.types import LearnerState

SCORES_KEPT = 2**17  # newest scores among which responses are sorted into quantiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """How far a run is."""

    step: int = 0  # training steps, and the version of the weights
    updates: int = 0  # optimizer updates
    tokens: int = 0  # sampled for training
    seconds: float = 0.0  # of training, without the time between a run's end and its going on


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInputs:
    """What a run was given and can only go on with."""

    prompts: int  # how many
    prompts_digest: str  # of their ids, tokens and references, in order
    stored: int  # graded groups of data.stored, 0 without
    stored_digest: str
    ranks: int  # of the learner
    zero_stage: int
    dtype: str  # of the weights


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunState:
    """What a run remembers between two of its steps."""

    counters: Counters
    inputs: RunInputs
    scores: np.ndarray  # float64[up to SCORES_KEPT], what the score history holds, oldest first
    roles: Mapping[str, float]  # the means that it holds
    prompts: PromptSourceState
    stored: StoredGroupsState | None  # None without stored groups
    filter: FilterState  # the ledger, the groups that were accepted and wait, and the prompts of those in flight
    learner: LearnerState

    def after(self, seconds: float) -> "RunState":
        """The same when the run has gone on for so many seconds in all."""
        return replace(self, counters=replace(self.counters, seconds=seconds))


class ScoreHistory:
    """The newest scores of a run, among which responses are sorted into reward quantiles, and the moving mean of each
    seat's scores."""

    def __init__(self) -> None:
        self.scores = np.empty(0)  # float64, oldest first
        self.roles: Mapping[str, float] = {}  # seat -> moving mean
        # The same without those of a batch that is still to be trained on.
        self._trained: tuple[np.ndarray, Mapping[str, float]] = self.scores, self.roles

    def add(self, scores: np.ndarray) -> None:
        """Those of the next batch, float64[any number]; the oldest beyond SCORES_KEPT are forgotten."""
        self.scores = np.concatenate([self.scores, scores])[-SCORES_KEPT:]

    def add_roles(self, scores: Mapping[str, np.ndarray]) -> None:
        """Those of the next batch, float64[any number] of each seat."""
        self.roles = {
            **self.roles,
            **{seat: role_baseline(self.roles.get(seat, 0.0), of) for seat, of in scores.items()},
        }

    def trained(self) -> None:
        """The batch whose scores were added last has been trained on."""
        self._trained = self.scores, self.roles

    def save(self) -> tuple[np.ndarray, Mapping[str, float]]:
        """The scores and the means. A batch that was not trained on comes again in a run that goes on, and adds its
        scores then."""
        scores, roles = self._trained
        return scores.copy(), roles

    def restore(self, scores: np.ndarray, roles: Mapping[str, float]) -> None:
        """Goes on from what was saved."""
        self.scores, self.roles = self._trained = scores.copy(), roles


class Progress(Protocol):
    """Whoever counts; see `Counters`."""

    counters: Counters


@dataclass(frozen=True, slots=True, kw_only=True)
class StateOwners:
    """The parts of a run that remember something."""

    progress: Progress
    inputs: RunInputs
    scores: ScoreHistory
    prompts: PromptSource
    stored: StoredGroups | None
    filter: FilterClient
    learner: Learner

    async def save(self) -> RunState:
        """What all parts remember now. Call it between two steps; groups may be in flight."""
        learner = await self.learner.save()
        scores, roles = self.scores.save()
        filter_state = await self.filter.save()  # the prompts come right after it: nothing is dealt in between
        return RunState(
            counters=self.progress.counters,
            inputs=self.inputs,
            scores=scores,
            roles=roles,
            prompts=self.prompts.save(),
            stored=self.stored.save() if self.stored is not None else None,
            filter=filter_state,
            learner=learner,
        )

    async def restore(self, state: RunState, checkpoint: Path) -> None:
        """Has all parts go on from a saved state. Call it when the run has begun on the actors, the learner's training
        is open and nothing has been dispatched; prompts that were in flight are dealt again first.

        Args:
            state: of `save`.
            checkpoint: which the learner saved with it.
        """
        self.progress.counters = state.counters
        self.scores.restore(state.scores, state.roles)
        self.prompts.restore(state.prompts, state.filter.interrupted)
        if self.stored is not None and state.stored is not None:
            self.stored.restore(state.stored)
        await self.filter.restore(state.filter)
        await self.learner.restore(state.learner, checkpoint)
