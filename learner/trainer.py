"""One training step on a rank: ask the models, give every token its advantage, update.

UpdateBatch --models--> ModelOutputs of each micro-batch --RankAdvantages--> the same with advantages --> update
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from learner.advantages import KnownUpdate, RankAdvantages
from learner.batches.packing import empty_batch
from learner.batches.types import TrainBatch, UpdateBatch
from learner.engine import Engine, all_reduced
from learner.methods.choices import Need, SideModelKind
from learner.models.side import SIDE_MODELS, Reference, Surroundings, policy_engine
from learner.objective import ModelOutputs, PolicyObjective, drift_rows
from learner.start import starting_policy
from learner.types import LearnerSpec, LearnerState, Schedule, UpdateStats
from learner.writing import Writer

POLICY = "policy"  # its folder among those of the models beside it


def update_policy(
    engine: Engine,
    batches: Sequence[TrainBatch],
    objective: PolicyObjective,
    supports: Sequence[torch.Tensor | None] = (),
) -> UpdateStats:
    """One update of a policy, and what it saw.

    Args:
        engine: the policy's.
        batches: this rank's micro-batches.
        objective: knows what the models said about them.
        supports: int64[2, K] of each micro-batch, where the policy is restricted to a nucleus.
    """
    lr = engine.lr
    sums = engine.update(batches, objective, supports, told=True)
    tokens = max(1.0, sums["tokens"])
    return UpdateStats(
        loss=sums["loss"],
        tokens=int(sums["tokens"]),
        computed=int(sums["computed"]),
        padding=int(sums["padding"]),
        shared=int(sums["shared"]),
        rows=int(sums["rows"]),
        sequences=int(sums["sequences"]),
        entropy=sums["entropy"] / tokens,
        clip_fraction=sums["clipped"] / tokens,
        ratio_p99=_worst_ratio(objective.ratios, engine.device),
        mismatch_kl=sums["mismatch_kl"] / tokens,
        capped=sums["capped"] / tokens,
        kl_start=sums["drift"] / sums["drift_tokens"] if sums["drift_tokens"] else None,
        loss_told=sums["told_loss"] / sums["told"] if sums["told"] else None,
        kl_teacher=sums["teacher_gap"] / tokens if objective.taught else None,
        grad_norm=engine.grad_norm,
        lr=lr,
    )


class Trainer:
    """The policy of one rank and the models beside it. All ranks call `step` together, any number of times, and then
    `close`; `restore` only before the first `step`."""

    def __init__(self, path: Path, spec: LearnerSpec, schedule: Schedule) -> None:
        self._spec, self._algorithm = spec, spec.algorithm
        self.policy = policy_engine(path, spec, schedule)
        shared = SideModelKind.REFERENCE in self._algorithm.models and not spec.learner.reference_every
        self._start = starting_policy(self.policy, spec) if shared or spec.learner.drift else None
        around = Surroundings(path=path, spec=spec, schedule=schedule, policy=self.policy, start=self._start)
        self._side = {kind: SIDE_MODELS[kind](around) for kind in self._algorithm.models}
        self._advantages = RankAdvantages(spec, self.policy.device)

    def step(self, updates: Sequence[UpdateBatch]) -> list[UpdateStats]:
        """One optimizer update for each element. Later passes over the same samples share what the models said at the
        start of the step."""
        different = len(updates) if self._algorithm.thresholds else len(updates) // self._algorithm.passes
        known = [self._known(update, several=len(updates) > 1) for update in updates[:different]]
        if self._advantages.needed:
            known = self._advantages(known)
        stats = [self._update(known[number % different]) for number in range(len(updates))]
        for model in self._side.values():
            model.end_step()
        return stats

    def save(self, worked: int) -> LearnerState:
        """What it remembers beyond weights and optimizers; `worked` is how many updates' worth of worked answers it was
        trained on."""
        reference = self._side.get(SideModelKind.REFERENCE)
        return LearnerState(
            baseline_mean=self._advantages.baseline_mean,
            baseline_count=self._advantages.baseline_count,
            steps_since_reference=reference.steps if isinstance(reference, Reference) else 0,
            worked=worked,
        )

    def save_models(self, folder: Path, writer: Writer) -> None:
        """Has what its models have become written, each in a folder of its own, optimizers included; returns when all
        is copied."""
        self.policy.save(folder / POLICY, writer)
        for kind, model in self._side.items():
            model.save(folder / kind.value, writer)

    def restore(self, state: LearnerState, folder: Path, writer: Writer) -> None:
        """Goes on from what was saved.

        Args:
            state: of `save`.
            folder: of `save_models`.
            writer: of this rank.
        """
        self._advantages.baseline_mean = state.baseline_mean
        self._advantages.baseline_count = state.baseline_count
        reference = self._side.get(SideModelKind.REFERENCE)
        if isinstance(reference, Reference):
            reference.steps = state.steps_since_reference
        self.policy.restore(folder / POLICY, writer)
        for kind, model in self._side.items():
            model.restore(folder / kind.value, writer)

    def close(self) -> None:
        """Frees all engines."""
        self.policy.close()
        for model in self._side.values():
            model.close()

    def _known(self, update: UpdateBatch, several: bool) -> KnownUpdate:
        """What the models say about each micro-batch before any update of the step. The policy is asked where there are
        several updates, or where advantages or the nucleus take its answer; else the log-probabilities of its own
        forward pass are those at the start of the step."""
        batches = update.batches
        top_p = self._spec.top_p if Need.NUCLEUS in self._algorithm.needs else None
        columns: dict[str, list[torch.Tensor | None]] = {}
        if several or top_p or self._advantages.needed:
            found = self.policy.infer(batches, top_p)
            columns["logp"] = [logp for logp, _, _ in found]
            columns["support"] = [support for _, _, support in found]
        for kind, model in self._side.items():
            columns[kind.value] = list(model.infer(update))
        outputs = (
            ModelOutputs(**{name: column[number] for name, column in columns.items()}) for number in range(len(batches))
        )
        return KnownUpdate(update=update, outputs=tuple(outputs))

    def _update(self, known: KnownUpdate) -> UpdateStats:
        update, outputs = known.update, known.outputs
        batches = (*update.batches, *update.worked)
        first = batches[0] if batches else empty_batch()
        kept = self._start  # asked on all ranks alike, as sharded policies demand
        start = None if kept is None else kept.logprobs(first, drift_rows(first))
        objective = PolicyObjective(self._algorithm, outputs, start)
        supports = [output.support for output in outputs]
        stats = update_policy(self.policy, batches, objective, supports)
        for model in self._side.values():
            model.update(update, outputs)
        return stats


def _worst_ratio(ratios: Sequence[torch.Tensor], device: torch.device) -> float:
    """99th percentile of |ratio - 1| + 1 of this rank's tokens, the largest of all ranks."""
    p99 = torch.from_numpy(np.quantile(torch.cat(list(ratios)).numpy(), 0.99, keepdims=True)) + 1.0
    return float(all_reduced(p99, device, dist.ReduceOp.MAX).item())
