"""One training step on a rank: score what the algorithm asks about, give every token its advantage, update.

Owns the models beside the policy: the starting policy, the reference, the critic, the model of process rewards.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from learner.batches.batching import Sample, Totals, TrainBatch, pack
from learner.engine import Engine, FrozenPolicy, all_reduced
from learner.methods.algorithms import Algorithm
from learner.methods.credit import (
    gae,
    moving_baseline,
    process_advantages,
    span_advantages,
    token_rewards,
    tuned_rewards,
    whitened,
    without_outliers,
)
from learner.methods.losses import kl_estimate
from learner.models.policy import load_critic, load_policy
from learner.objective import PROCESS_BETA, OutcomeObjective, PolicyObjective, Scored, ValueObjective
from learner.types import LearnerSpec, Schedule, UpdateStats


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A rank's part of one optimizer update."""

    row: Algorithm  # as it is in this pass
    totals: Totals
    samples: tuple[Sample, ...]
    batches: tuple[TrainBatch, ...]
    worked: tuple[TrainBatch, ...] = ()  # worked answers, where their likelihood is mixed in


def policy_engine(path: Path, spec: LearnerSpec, schedule: Schedule) -> Engine:
    """An engine over the policy in a model folder."""
    entropy = bool(spec.algorithm.entropy)
    return _engine(partial(load_policy, path, spec.model, spec.learner.logit_chunk, entropy), spec, schedule)


def _engine(build: Callable[[], torch.nn.Module], spec: LearnerSpec, schedule: Schedule) -> Engine:
    return Engine(build, spec.model, spec.learner, schedule, spec.temperature)


def policy_stats(
    engine: Engine,
    batches: Sequence[TrainBatch],
    objective: PolicyObjective,
    supports: Sequence[torch.Tensor | None] = (),
) -> UpdateStats:
    """One update of a policy and what it saw."""
    lr = engine.lr
    sums = engine.update(batches, objective, supports)
    tokens = max(1.0, sums["tokens"])
    return UpdateStats(
        loss=sums["loss"],
        tokens=int(sums["tokens"]),
        computed=int(sums["computed"]),
        padding=int(sums["padding"]),
        entropy=sums["entropy"] / tokens,
        clip_fraction=sums["clipped"] / tokens,
        ratio_p99=_worst_ratio(objective.ratios, engine.device),
        mismatch_kl=sums["mismatch_kl"] / tokens,
        capped=sums["capped"] / tokens,
        kl_start=sums["drift"] / max(1.0, sums["drift_tokens"]),
        grad_norm=engine.grad_norm,
        lr=lr,
    )


class Trainer:
    """The models of one rank. All ranks call `step` together."""

    def __init__(self, path: Path, spec: LearnerSpec, schedule: Schedule) -> None:
        self._path, self._spec, self._row = path, spec, spec.algorithm
        self.policy = policy_engine(path, spec, schedule)
        self._frozen = {"start": self._freeze(path)}
        self._frozen["reference"] = self._freeze(path) if spec.learner.reference_every else self._frozen["start"]
        if "tuned" in self._row.needs:
            self._frozen["tuned"] = self._freeze(Path(spec.learner.tuned_path))
        side = replace(schedule, lr=spec.learner.side_lr)
        self._critic = self._process = None
        if "critic" in self._row.needs:
            self._critic = _engine(partial(load_critic, path, spec.model), spec, side)
        if "process" in self._row.needs:
            self._process = policy_engine(path, spec, side)
        self._baseline = (0.0, 0)  # mean of all former scores, and their number
        self._steps = 0

    def step(self, loads: Sequence[Load]) -> list[UpdateStats]:
        """One optimizer update per load; later passes over the same samples share what was scored at the start."""
        fresh = loads if self._row.thresholds else loads[: len(loads) // self._row.passes]
        scored = [self._score(load, several=len(loads) > 1) for load in fresh]
        credited = self._credit(fresh, scored) if self._credits_late else list(zip(fresh, scored, strict=True))
        stats = [self._update(*credited[number % len(credited)]) for number in range(len(loads))]
        self._steps += 1
        every = self._spec.learner.reference_every
        if every and self._steps % every == 0:
            self._frozen["reference"].copy_from(self.policy)
        return stats

    def close(self) -> None:
        """Frees all engines."""
        for engine in (self.policy, self._critic, self._process):
            if engine is not None:
                engine.close()
        self._frozen.clear()

    def _freeze(self, path: Path) -> FrozenPolicy:
        return FrozenPolicy(path, self._spec.model, self._spec.learner, self._spec.temperature)

    @property
    def _credits_late(self) -> bool:
        """Whether advantages take more than the scores of a group."""
        row = self._row
        return (
            self._spec.dense
            or bool(row.kl_reward or row.spread != "none" or row.baseline == "moving")
            or not row.needs.isdisjoint({"critic", "process", "tuned"})
        )

    # --------------------------------------------------------------------------------------------- before updates

    def _score(self, load: Load, several: bool) -> list[Scored]:
        """What is known of each micro-batch before any update of the step. With one update the log-probabilities of
        its own forward pass are those at the start of the step."""
        row, batches = self._row, load.batches
        top_p = self._spec.top_p if "nucleus" in row.needs else None
        columns: dict[str, list] = {}
        if several or top_p or self._credits_late:
            columns["logp"], _, columns["support"] = _columns(self.policy.score(batches, top_p), 3)
        if row.reads_reference:
            columns["reference"] = self._frozen_logprobs("reference", load)
        if "tuned" in row.needs:
            columns["tuned"] = self._frozen_logprobs("tuned", load)
        if self._process is not None:
            columns["process"], *_ = _columns(self._process.score(batches), 3)
        if self._critic is not None:
            (columns["values"],) = _columns(self._critic.score(batches), 1)
        return [Scored(**{name: column[i] for name, column in columns.items()}) for i in range(len(batches))]

    def _frozen_logprobs(self, name: str, load: Load) -> list[torch.Tensor]:
        """Of the trained tokens of each micro-batch; tokens that only the policy sees are left out of the context."""
        frozen = self._frozen[name]
        if not any(sample.hidden for sample in load.samples):
            return [frozen.logprobs(batch) for batch in self.policy.in_step(load.batches)][: len(load.batches)]
        bare = [
            replace(s, tokens=s.tokens[s.hidden :], trained=s.trained[s.hidden :], sampler=None) for s in load.samples
        ]
        packed = pack(bare, self._spec.learner.micro_batch_tokens)
        scored = [frozen.logprobs(batch) for batch in self.policy.in_step(packed)][: len(packed)]
        return self._spread(load, _per_sample(packed, scored, len(bare)))

    def _credit(self, loads: Sequence[Load], scored: Sequence[list[Scored]]) -> list[tuple[Load, list[Scored]]]:
        """The loads with advantages that take more than the scores of a group: over tokens, the KL, the whole batch."""
        rewards = [self._rewards(load, marks) for load, marks in zip(loads, scored, strict=True)]
        found = [self._advantages(*each) for each in zip(loads, scored, rewards, strict=True)]
        if self._row.baseline == "moving":
            self._move_baseline([r.sum() for of_load in rewards for r in of_load])
        standardised = iter(self._standardised([a for advantages, _ in found for a in advantages]))
        credited = []
        for load, marks, (advantages, returns) in zip(loads, scored, found, strict=True):
            spread = self._spread(load, [next(standardised) for _ in advantages])
            batches = [replace(b, advantages=a.cpu().numpy()) for b, a in zip(load.batches, spread, strict=True)]
            targets = self._spread(load, returns) if self._critic is not None else [None] * len(marks)
            marks = [replace(mark, returns=target) for mark, target in zip(marks, targets, strict=True)]
            credited.append((replace(load, batches=tuple(batches)), marks))
        return credited

    def _rewards(self, load: Load, marks: Sequence[Scored]) -> list[np.ndarray]:
        """Rewards of the tokens of each sample: the score on the last, less the KL, plus those of a tuned policy."""
        row = self._row
        lengths = [int(sample.trained.sum()) for sample in load.samples]
        penalties, dense = [np.zeros(n) for n in lengths], [np.zeros(n) for n in lengths]
        if row.kl_reward:
            gaps = self._difference(load, marks, "logp")
            penalties = [row.kl_reward * kl_estimate(row.kl_estimator, torch.from_numpy(gap)).numpy() for gap in gaps]
        if "tuned" in row.needs:
            dense = [tuned_rewards(gap) for gap in self._difference(load, marks, "tuned")]
            penalties = [tuned_rewards(penalty, beta=1.0) for penalty in penalties]  # both terms have one bound
        parts = zip(load.samples, penalties, dense, strict=True)
        return [token_rewards(self._spec.end * sample.score, penalty, bonus) for sample, penalty, bonus in parts]

    def _advantages(
        self, load: Load, marks: Sequence[Scored], rewards: Sequence[np.ndarray]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """(advantages, returns) of the tokens of each sample; without a critic there are no returns."""
        row = self._row
        if self._critic is not None:
            values = self._of_samples(load, marks, "values")
            paid = [r + np.nan_to_num(_marks(s)) for r, s in zip(rewards, load.samples, strict=True)]
            found = [gae(r, v, row.gamma, row.lam) for r, v in zip(paid, values, strict=True)]
            return found, [a + v for a, v in zip(found, values, strict=True)]
        totals = np.array([r.sum() for r in rewards])
        totals -= self._baseline[0] if row.baseline == "moving" else 0.0
        implicit = self._difference(load, marks, "process") if self._process is not None else []
        advantages: list[np.ndarray] = [np.empty(0)] * len(rewards)
        for members in _groups(load.samples):
            if implicit:
                group = process_advantages(totals[members], [PROCESS_BETA * implicit[i] for i in members], row.gamma)
            else:
                credits = zip(members, row.credit(totals[members]), strict=True)
                group = [np.full(rewards[index].size, credit) for index, credit in credits]
            if self._spec.dense:
                steps = span_advantages([_marks(load.samples[i]) for i in members], row.gamma)
                group = [of_score + of_steps for of_score, of_steps in zip(group, steps, strict=True)]
            for index, of_sample in zip(members, group, strict=True):
                advantages[index] = of_sample
        return advantages, []

    def _difference(self, load: Load, marks: Sequence[Scored], name: str) -> list[np.ndarray]:
        """log p - log p_reference of the tokens of each sample."""
        pairs = zip(self._of_samples(load, marks, name), self._of_samples(load, marks, "reference"), strict=True)
        return [of - reference for of, reference in pairs]

    def _move_baseline(self, totals: Sequence[float]) -> None:
        total, count = self._summed([sum(totals), len(totals)])
        self._baseline = moving_baseline(*self._baseline, total, int(count))

    def _standardised(self, advantages: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Advantages over the mean and deviation of all tokens of the step, where the algorithm asks for that."""
        if self._row.spread == "none":
            return list(advantages)
        tokens = np.concatenate([*advantages, np.empty(0)])
        count, total = self._summed([tokens.size, tokens.sum()])
        mean = total / max(1.0, count)
        (squares,) = self._summed([np.square(tokens - mean).sum()])
        spread = [whitened(a, mean, squares / max(1.0, count - 1.0)) for a in advantages]
        return [without_outliers(a) for a in spread] if self._row.spread == "standardise" else spread

    def _summed(self, values: Sequence[float]) -> list[float]:
        return all_reduced(torch.tensor(values, dtype=torch.float64), self.policy.device).tolist()

    def _of_samples(self, load: Load, marks: Sequence[Scored], name: str) -> list[np.ndarray]:
        """One of the scored quantities, for the tokens of each sample."""
        return _per_sample(load.batches, [getattr(mark, name) for mark in marks], len(load.samples))

    def _spread(self, load: Load, values: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """Values of the tokens of each sample as float32[M] for each micro-batch."""
        device = self.policy.device
        parts = ([values[index] for index in batch.members] for batch in load.batches)
        return [torch.from_numpy(np.concatenate(part).astype(np.float32)).to(device) for part in parts]

    # -------------------------------------------------------------------------------------------------- updates

    def _update(self, load: Load, marks: Sequence[Scored]) -> UpdateStats:
        objective = PolicyObjective(load.row, marks, self._frozen["start"])
        supports = [mark.support for mark in marks]
        stats = policy_stats(self.policy, (*load.batches, *load.worked), objective, supports)
        if self._critic is not None:
            self._critic.update(load.batches, ValueObjective(scored=marks, clip=load.row.value_clip))
        if self._process is not None:
            correct = [torch.tensor([float(load.samples[i].correct) for i in b.members]) for b in load.batches]
            outcome = OutcomeObjective(scored=marks, correct=correct, responses=load.totals.responses)
            self._process.update(load.batches, outcome)
        return stats


def _worst_ratio(ratios: Sequence[torch.Tensor], device: torch.device) -> float:
    p99 = torch.from_numpy(np.quantile(torch.cat(list(ratios)).numpy(), 0.99, keepdims=True)) + 1.0
    return all_reduced(p99, device, dist.ReduceOp.MAX).item()


def _columns(rows: Sequence[tuple], width: int) -> list[list]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def _marks(sample: Sample) -> np.ndarray:
    """The rewards of steps and spans on the trained tokens; NaN on the others."""
    length = int(sample.trained.sum())
    known = sample.span_rewards
    return np.full(length, np.nan) if known is None else known[sample.trained].astype(np.float64)


def _groups(samples: Sequence[Sample]) -> Iterator[list[int]]:
    """Indices of the samples of each group."""
    ids: dict[int, list[int]] = {}
    for index, sample in enumerate(samples):
        ids.setdefault(sample.group, []).append(index)
    yield from ids.values()


def _per_sample(batches: Sequence[TrainBatch], values: Sequence[torch.Tensor], count: int) -> list[np.ndarray]:
    """Values of trained tokens of each micro-batch [M] as one array for each packed sequence."""
    arrays: list[np.ndarray] = [np.empty(0)] * count
    for batch, of_batch in zip(batches, values, strict=True):
        for index, array in zip(batch.members, batch.split(of_batch.cpu().double().numpy()), strict=True):
            arrays[index] = array
    return arrays
