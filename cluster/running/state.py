"""All that a run must remember to go on, and who owns which part of it.

Each part of a run that remembers something saves and restores its own share; nothing else of a run is remembered but
weights and optimizer, which the learner's checkpoints hold.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from actors.data.source import PromptSource, PromptSourceState
from actors.filtering.client import FilterClient
from learner.client import LearnerClient

from actors.filtering.filter import FilterState
from learner.types import LearnerState

SCORES_KEPT = 2**17  # newest scores among which responses are sorted into quantiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """How far a run is."""

    step: int = 0  # training steps, and the version of the weights
    updates: int = 0  # optimizer updates
    tokens: int = 0  # sampled for training
    stored: int = 0  # stored groups that were dealt


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunState:
    """What a run remembers between two of its steps."""

    counters: Counters
    scores: np.ndarray  # float64[up to SCORES_KEPT], what the score history holds, oldest first
    prompts: PromptSourceState
    filter: FilterState  # the ledger, and the groups that were accepted and wait
    learner: LearnerState


class ScoreHistory:
    """The newest scores of a run, among which responses are sorted into reward quantiles."""

    def __init__(self) -> None:
        self.scores = np.empty(0)  # float64, oldest first

    def add(self, scores: np.ndarray) -> None:
        """More scores, float64[any number]; the oldest beyond SCORES_KEPT are forgotten."""
        self.scores = np.concatenate([self.scores, scores])[-SCORES_KEPT:]

    def save(self) -> np.ndarray:
        """A copy of the scores."""
        return self.scores.copy()

    def restore(self, scores: np.ndarray) -> None:
        """Goes on from saved scores."""
        self.scores = scores.copy()


class Progress(Protocol):
    """Whoever counts; see `Counters`."""

    counters: Counters


@dataclass(frozen=True, slots=True, kw_only=True)
class StateOwners:
    """The parts of a run that remember something. Save and restore only between steps, when no batch is taken."""

    progress: Progress
    scores: ScoreHistory
    prompts: PromptSource
    filter: FilterClient
    learner: LearnerClient

    async def save(self) -> RunState:
        """What all parts remember now."""
        return RunState(
            counters=self.progress.counters,
            scores=self.scores.save(),
            prompts=self.prompts.save(),
            filter=await self.filter.save(),
            learner=await self.learner.save(),
        )

    async def restore(self, state: RunState) -> None:
        """Has all parts go on from a saved state; the run has begun on the actors, and nothing is in flight."""
        self.progress.counters = state.counters
        self.scores.restore(state.scores)
        self.prompts.restore(state.prompts)
        await self.filter.restore(state.filter)
        await self.learner.restore(state.learner)
