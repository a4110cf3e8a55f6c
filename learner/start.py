"""The starting policy: what the policy was before the run trained it. KL is against it, and the metric kl_start."""

from typing import Protocol

import torch

from learner.batches.types import TrainBatch
from learner.engine import Engine, FrozenPolicy
from learner.types import LearnerSpec


class Frozen(Protocol):
    """A policy that is only asked for log-probabilities. All ranks call it together, in the same order."""

    device: torch.device

    @property
    def packs(self) -> bool:
        """Whether it takes several sequences in a row."""

    @property
    def shares(self) -> bool:
        """Whether it takes trees of sequences."""

    def logprobs(self, batch: TrainBatch, rows: int | None = None) -> torch.Tensor:
        """Log-probabilities of the M trained tokens of one micro-batch, float32[M]; with `rows` only of the tokens in
        its first rows."""


class Unadapted:
    """A policy whose adapter is switched off while it is asked: what it was at the start, without a second model. It
    is not asked between the forward and the backward pass of the policy, which is the same module."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.device = engine, engine.device

    @property
    def packs(self) -> bool:
        """Whether it takes several sequences in a row."""
        packs: bool = self._engine.module.packs
        return packs

    @property
    def shares(self) -> bool:
        """Whether it takes trees of sequences."""
        shares: bool = self._engine.module.shares
        return shares

    def logprobs(self, batch: TrainBatch, rows: int | None = None) -> torch.Tensor:
        """As of `Frozen`."""
        with self._engine.module.as_it_was():
            return self._engine.logprobs(batch, rows)


def starting_policy(engine: Engine, spec: LearnerSpec) -> Frozen:
    """The starting policy of a policy that has not been trained yet."""
    return Unadapted(engine) if engine.module.adapted else FrozenPolicy(engine.module.reference, spec)
