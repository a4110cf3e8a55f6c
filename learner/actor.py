"""The learner's Ray actor: one ZeRO rank. All ranks are called together, with the same arguments but their share.

torch, DeepSpeed and vLLM are imported in the methods, so that only the rank's own process loads them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import ray

from actors.arrow import group_of
from learner.algorithms import Algorithm, likelihood
from learner.batching import TrainBatch, pack, sequences_of
from learner.settings import WarmupSettings
from learner.types import LearnerSpec, Receivers, Schedule, Share, SyncStats, UpdateStats, free_port

if TYPE_CHECKING:
    from learner.engine import FrozenPolicy


class LearnerRank:
    """Ray actor around one rank's `Engine`."""

    def __init__(self, spec: LearnerSpec, rank: int) -> None:
        self._spec, self._rank = spec, rank
        self._path = Path()
        self._start: FrozenPolicy | None = None
        self._answers: Iterator[list[TrainBatch]] = iter(())

    def address(self) -> tuple[str, int]:
        """Where rank 0 can be met."""
        return ray.util.get_node_ip_address(), free_port()

    def join(self, address: str, port: int) -> None:
        """Meets the other ranks; blocks until all are there."""
        import torch

        from learner.engine import join_learners

        torch.set_num_threads(self._spec.threads)
        torch.manual_seed(self._spec.seed)
        self._dtype: torch.dtype = getattr(torch, self._spec.model.dtype)
        join_learners(self._rank, self._spec.ranks, address, port)

    def load(self, path: Path, schedule: Schedule) -> int:
        """Builds the engine on a model folder; gives the number of parameters."""
        from learner.engine import Engine
        from learner.weights import WeightSync

        spec = self._spec
        self._path = path
        self._engine = Engine(path, spec.model, spec.learner, schedule, spec.temperature)
        self._sync = WeightSync(self._engine, self._dtype, self._rank)
        return sum(getattr(p, "ds_numel", p.numel()) for _, p in self._engine.parameters())

    def open_warmup(self, warmup: WarmupSettings) -> None:
        """Gets the worked answers ready."""
        from learner.warmup import WorkedAnswers

        spec = self._spec
        answers = WorkedAnswers(self._path, spec.data, warmup, spec.seed)
        self._answers = answers.updates(
            rank=self._rank, ranks=spec.ranks, micro_batch_tokens=spec.learner.micro_batch_tokens
        )

    def warm_up(self, updates: int) -> UpdateStats:
        """Some supervised updates; the stats are of the last."""
        for _ in range(updates):
            stats = self._engine.update(next(self._answers), likelihood)
        return stats

    def remember_start(self) -> None:
        """Keeps a frozen copy of the loaded policy, against which `kl_start` is measured."""
        from learner.engine import FrozenPolicy

        spec = self._spec
        self._start = FrozenPolicy(self._path, spec.model, spec.learner, spec.temperature)

    def train(self, shares: Sequence[Share]) -> list[UpdateStats]:
        """One step: an optimizer update per share."""
        algorithm = self._spec.algorithm
        batches = [self._batches(share, algorithm) for share in shares]
        # With one update the log-probabilities of its own forward pass are those at the start of the step.
        old = [None if len(shares) == 1 else self._engine.logprobs(batch) for batch in batches]
        return [self._engine.update(b, algorithm.loss, o, self._start) for b, o in zip(batches, old, strict=True)]

    def publish(self, version: int, receivers: Receivers) -> SyncStats:
        """Sends the weights to the generators."""
        return self._sync.send(version, receivers)

    def probe(self, tokens: Sequence[int]) -> list[float]:
        """Log-probabilities of a fixed text under the current weights, temperature 1."""
        return self._engine.probe(tokens)

    def save(self, folder: Path) -> None:
        """Writes a checkpoint."""
        from learner.checkpoint import save_checkpoint

        save_checkpoint(self._engine, folder, tokenizer=self._path, dtype=self._dtype)

    def unload(self) -> None:
        """Frees the engine, for another `load`."""
        self._engine.close()
        del self._engine, self._sync

    def _batches(self, share: Share, algorithm: Algorithm) -> list[TrainBatch]:
        groups = [group_of(ray.get(box[0])) for box in share.groups]
        samples = [sample for group in groups for sample in sequences_of(group, algorithm, share.totals)]
        return pack(samples, self._spec.learner.micro_batch_tokens)
