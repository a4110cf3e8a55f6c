"""The learner's Ray actor: one ZeRO rank. All ranks are called together, with the same arguments but their share.

torch, DeepSpeed and vLLM are imported in the methods, so that only the rank's own process loads them.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import ray

from actors.arrow import group_of, unpacked
from learner.batches.batching import TrainBatch, pack, sequences_of
from learner.types import LearnerSpec, Receivers, Schedule, Share, SyncStats, UpdateStats, free_port

if TYPE_CHECKING:
    from learner.engine import Engine
    from learner.trainer import Load, Trainer

PACKING = "packing"  # the concurrency group, of one thread, of what may run beside the other methods


class LearnerRank:
    """Ray actor around one rank's models. It serves one run after another; `begin` opens each."""

    def __init__(self, rank: int, ranks: int, threads: int) -> None:
        self._rank, self._ranks, self._threads = rank, ranks, threads
        self._close: Callable[[], None] | None = None
        self._trainer: Trainer | None = None

    def address(self) -> tuple[str, int]:
        """Where rank 0 can be met."""
        return ray.util.get_node_ip_address(), free_port()

    def join(self, address: str, port: int) -> None:
        """Meets the other ranks, once; blocks until all are there."""
        import torch

        from learner.engine import join_learners

        if not torch.distributed.is_initialized():
            torch.set_num_threads(self._threads)
            join_learners(self._rank, self._ranks, address, port)

    def begin(self, spec: LearnerSpec) -> None:
        """Opens a run: the same spec on all ranks."""
        import torch

        self.unload()
        self._spec = spec
        torch.manual_seed(spec.seed)
        self._dtype: torch.dtype = getattr(torch, spec.model.dtype)

    def load(self, path: Path, schedule: Schedule) -> int:
        """Builds all models of the run on a model folder; gives the policy's number of parameters."""
        from learner.trainer import Trainer

        row = self._spec.algorithm
        trainer = Trainer(path, self._spec, schedule)
        self._hold(path, trainer.policy)
        self._trainer, self._close = trainer, trainer.close
        self._answers = self._worked_answers(row.aggregate) if row.likelihood else iter(())
        return sum(getattr(p, "ds_numel", p.numel()) for _, p in self._policy.parameters())

    def load_policy(self, path: Path, schedule: Schedule) -> None:
        """Builds only the policy, for the warm-up."""
        from learner.trainer import policy_engine

        self._hold(path, policy_engine(path, self._spec, schedule))
        self._close = self._policy.close
        self._answers = self._worked_answers("token-mean")

    def warm_up(self, updates: int) -> UpdateStats:
        """Some supervised updates; the stats are of the last."""
        from learner.objective import SUPERVISED, PolicyObjective, Scored
        from learner.trainer import policy_stats

        for _ in range(updates):
            batches = next(self._answers)
            stats = policy_stats(self._policy, batches, PolicyObjective(SUPERVISED, [Scored()] * len(batches), None))
        return stats

    @ray.method(concurrency_group=PACKING)
    def prepare(self, shares: Sequence[Share], *groups: pa.Buffer) -> None:
        """Packs what the next `train` trains on, an optimizer update per share of these groups. It may run beside
        `publish`, in a thread of its own."""
        loads: list[Load] = []
        once = len(shares) // self._spec.algorithm.passes
        for index, share in enumerate(shares):
            same = share.number > 0 and not self._spec.algorithm.thresholds
            loads.append(loads[index - once] if same else self._load(share, groups))
        self._loads = loads

    def train(self) -> list[UpdateStats]:
        """One step on what was prepared."""
        assert self._trainer is not None  # `load` came first
        return self._trainer.step(self._loads)

    def publish(self, version: int, receivers: Receivers) -> SyncStats:
        """Sends the weights to the generators."""
        return self._sync.send(version, receivers)

    def probe(self, tokens: Sequence[int]) -> list[float]:
        """Log-probabilities of a fixed text under the current weights, temperature 1."""
        return self._policy.probe(tokens)

    def save(self, folder: Path) -> None:
        """Writes a checkpoint."""
        from learner.checkpoint import save_checkpoint

        save_checkpoint(self._policy, folder, tokenizer=self._path, dtype=self._dtype)

    def unload(self) -> None:
        """Frees the models, if any, for another `load`."""
        import gc

        import torch

        if self._close is not None:
            self._sync.close()
            self._close()
            self._close = None
            del self._policy, self._sync
            self._trainer = None
            gc.collect()
            torch.cuda.empty_cache()

    def _hold(self, path: Path, policy: "Engine") -> None:
        from learner.weights import WeightSync

        self._path, self._policy = path, policy
        self._sync = WeightSync(policy, self._dtype, self._rank)

    def _worked_answers(self, aggregate: str) -> Iterator[list[TrainBatch]]:
        from learner.warmup import WorkedAnswers

        spec = self._spec
        return WorkedAnswers(self._path, spec.data, spec.warmup, spec.seed).updates(
            rank=self._rank,
            ranks=self._ranks,
            micro_batch_tokens=spec.learner.micro_batch_tokens,
            aggregate=aggregate,
        )

    def _load(self, share: Share, groups: Sequence[pa.Buffer]) -> "Load":
        from learner.trainer import Load

        row, budget = self._spec.algorithm.at_pass(share.number), self._spec.learner.micro_batch_tokens
        control = share.control.__getitem__ if share.control is not None else None
        own = [group_of(unpacked(groups[index])) for index in share.groups]
        samples = [sample for group in own for sample in sequences_of(group, row, share.totals, control)]
        return Load(
            row=row,
            totals=share.totals,
            samples=tuple(samples),
            batches=tuple(pack(samples, budget, together=2 if row.pairs else 1)),
            worked=tuple(next(self._answers)) if row.likelihood else (),
        )
