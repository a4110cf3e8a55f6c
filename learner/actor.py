"""The learner's Ray actor: one ZeRO rank. All ranks are called together, with the same arguments but their share."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
import torch

from actors.arrow import group_of
from actors.settings import DataSettings
from learner.algorithms import Algorithm, likelihood
from learner.batching import Totals, TrainBatch, pack, sequences_of
from learner.checkpoint import save_checkpoint
from learner.engine import Engine, Schedule, UpdateStats, join_learners
from learner.settings import LearnerSettings, ModelSettings, WarmupSettings
from learner.warmup import WorkedAnswers
from learner.weights import Receivers, SyncStats, WeightSync, free_port


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerSpec:
    """What all ranks of a learner share."""

    ranks: int
    model: ModelSettings
    learner: LearnerSettings
    algorithm: Algorithm
    data: DataSettings
    temperature: float
    seed: int
    threads: int  # CPU threads of a rank

    @property
    def dtype(self) -> torch.dtype:
        return getattr(torch, self.model.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One rank's part of an optimizer update."""

    totals: Totals
    groups: tuple[list[ray.ObjectRef], ...]  # references to record batches, each boxed so that Ray does not fetch it


class LearnerRank:
    """Ray actor around one rank's `Engine`."""

    def __init__(self, spec: LearnerSpec, rank: int) -> None:
        self._spec, self._rank = spec, rank
        torch.set_num_threads(spec.threads)
        torch.manual_seed(spec.seed)

    def address(self) -> tuple[str, int]:
        """Where rank 0 can be met."""
        return ray.util.get_node_ip_address(), free_port()

    def join(self, address: str, port: int) -> None:
        """Meets the other ranks; blocks until all are there."""
        join_learners(self._rank, self._spec.ranks, address, port)

    def load(self, path: Path, schedule: Schedule) -> int:
        """Builds the engine on a model folder; gives the number of parameters."""
        spec = self._spec
        self._path = path
        self._engine = Engine(path, spec.model, spec.learner, schedule, spec.temperature)
        self._sync = WeightSync(self._engine, spec.dtype, self._rank)
        return sum(getattr(p, "ds_numel", p.numel()) for _, p in self._engine.parameters())

    def open_warmup(self, warmup: WarmupSettings) -> None:
        """Gets the worked answers ready."""
        spec = self._spec
        answers = WorkedAnswers(self._path, spec.data, warmup, spec.seed)
        self._answers = answers.updates(
            rank=self._rank, ranks=spec.ranks, micro_batch_tokens=spec.learner.micro_batch_tokens
        )

    def warm_up(self, updates: int) -> UpdateStats:
        """Some supervised updates; the stats are of the last."""
        for _ in range(updates):
            stats = self._engine.update(next(self._answers), likelihood, None)
        return stats

    def train(self, shares: Sequence[Share]) -> tuple[list[UpdateStats], float]:
        """One step: an optimizer update per share. Gives each update's stats and the seconds it all took."""
        started = time.monotonic()
        algorithm = self._spec.algorithm
        batches = [self._batches(share, algorithm) for share in shares]
        # With one update the log-probabilities of its own forward pass are those at the start of the step.
        old = [None if len(shares) == 1 else self._engine.logprobs(batch) for batch in batches]
        stats = [self._engine.update(b, algorithm.loss, o) for b, o in zip(batches, old, strict=True)]
        return stats, time.monotonic() - started

    def publish(self, version: int, receivers: Receivers) -> SyncStats:
        """Sends the weights to the generators."""
        return self._sync.send(version, receivers)

    def probe(self, tokens: Sequence[int]) -> list[float]:
        """Log-probabilities of a fixed text under the current weights, temperature 1."""
        return self._engine.probe(tokens)

    def save(self, folder: Path) -> None:
        """Writes a checkpoint."""
        save_checkpoint(self._engine, folder, tokenizer=self._path, dtype=self._spec.dtype)

    def unload(self) -> None:
        """Frees the engine, for another `load`."""
        self._engine.close()
        del self._engine, self._sync

    def pid(self) -> int:
        """Process id of the actor, for clean-up checks."""
        return os.getpid()

    def _batches(self, share: Share, algorithm: Algorithm) -> list[TrainBatch]:
        groups = [group_of(ray.get(box[0])) for box in share.groups]
        samples = [sample for group in groups for sample in sequences_of(group, algorithm, share.totals)]
        return pack(samples, self._spec.learner.micro_batch_tokens)
