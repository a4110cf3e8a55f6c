"""Advantages that take more than the scores of a group: rewards of single tokens, the KL, a critic, a model of process
rewards, a teacher, all scores so far, the whole batch. Computed on the learner's ranks, together; the driver has left
the credits out (`learner/batches/planning.py`).

T' counts the trained tokens of one response, in all of its samples, M those of one micro-batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from learner.batches.types import Sample, UpdateBatch
from learner.batches.values import gather, scatter
from learner.engine import all_reduced
from learner.methods.choices import Baseline, Normalisation, SideModelKind
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
from learner.objective import PROCESS_BETA, ModelOutputs
from learner.types import LearnerSpec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KnownUpdate:
    """An update with what the models say about it."""

    update: UpdateBatch
    outputs: tuple[ModelOutputs, ...]  # of each micro-batch

    @property
    def responses(self) -> list[Sequence[Sample]]:
        """The samples of each response."""
        samples = self.update.samples
        starts = [number for number, sample in enumerate(samples) if not sample.continues]
        return [samples[start:end] for start, end in pairwise([*starts, len(samples)])]

    def values(self, name: str) -> list[np.ndarray]:
        """One of the outputs, float64[T'] of each response."""
        tensors = [getattr(output, name) for output in self.outputs]
        of_samples = iter(gather(self.update.batches, tensors, len(self.update.samples)))
        return [_joined([next(of_samples) for _ in samples]) for samples in self.responses]

    def log_ratios(self, name: str) -> list[np.ndarray]:
        """log p - log p_reference of the trained tokens, float64[T'] of each response; `name` is the output that is
        p."""
        return [p - reference for p, reference in zip(self.values(name), self.values("reference"), strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Credited:
    """Advantages of the responses of one update."""

    advantages: list[np.ndarray]  # float64[T'] of each response
    returns: list[np.ndarray] | None  # the same, of what a critic should have said; None without a critic


class RankAdvantages:
    """Makes the advantages of a step. All ranks call it together, once in a step that needs it.

    It remembers the moving baseline: the mean of all scores of former steps.
    """

    def __init__(self, spec: LearnerSpec, device: torch.device) -> None:
        self._spec, self._algorithm, self._device = spec, spec.algorithm, device
        self.baseline_mean, self.baseline_count = 0.0, 0

    @property
    def needed(self) -> bool:
        """Whether the driver has left the credits out."""
        return self._spec.has_span_rewards or self._algorithm.credits_on_rank

    def __call__(self, known: Sequence[KnownUpdate]) -> list[KnownUpdate]:
        """The same updates with their advantages filled in, and for a critic the returns."""
        rewards = [self._token_rewards(one) for one in known]
        credited = [self._taught(one, self._credited(one, of)) for one, of in zip(known, rewards, strict=True)]
        if self._algorithm.baseline is Baseline.MOVING:
            self._move_baseline([r.sum() for of_update in rewards for r in of_update])
        normalised = iter(self._normalised([a for one in credited for a in one.advantages]))
        return [
            self._filled(one, [next(normalised) for _ in of.advantages], of.returns)
            for one, of in zip(known, credited, strict=True)
        ]

    def _filled(
        self, known: KnownUpdate, advantages: Sequence[np.ndarray], returns: Sequence[np.ndarray] | None
    ) -> KnownUpdate:
        """The update with these values of each response in its micro-batches."""
        batches, outputs = known.update.batches, known.outputs
        of_batches = scatter(batches, _on_samples(known, advantages), self._device)
        filled = tuple(replace(b, advantages=a.cpu().numpy()) for b, a in zip(batches, of_batches, strict=True))
        if returns is not None:
            targets = scatter(batches, _on_samples(known, returns), self._device)
            outputs = tuple(replace(o, returns=target) for o, target in zip(outputs, targets, strict=True))
        return KnownUpdate(update=replace(known.update, batches=filled), outputs=outputs)

    def _token_rewards(self, known: KnownUpdate) -> list[np.ndarray]:
        """Rewards of the trained tokens, float64[T'] of each response: the score on the last, less the KL, plus those
        of a tuned policy."""
        algorithm, responses = self._algorithm, known.responses
        lengths = [sum(map(_length, samples)) for samples in responses]
        penalties, bonuses = [np.zeros(n) for n in lengths], [np.zeros(n) for n in lengths]
        if algorithm.kl_reward:
            penalties = [
                algorithm.kl_reward * kl_estimate(algorithm.kl, torch.from_numpy(ratio)).numpy()
                for ratio in known.log_ratios("logp")
            ]
        if SideModelKind.TUNED in algorithm.side_models:
            bonuses = [tuned_rewards(ratio) for ratio in known.log_ratios("tuned")]
            penalties = [tuned_rewards(penalty, beta=1.0) for penalty in penalties]  # both terms have one bound
        parts = zip(responses, penalties, bonuses, strict=True)
        weight = self._spec.score_weight
        return [token_rewards(weight * samples[0].score, penalty, bonus) for samples, penalty, bonus in parts]

    def _credited(self, known: KnownUpdate, rewards: Sequence[np.ndarray]) -> Credited:
        """Advantages from the rewards float64[T'] of each response."""
        if SideModelKind.CRITIC in self._algorithm.side_models:
            return self._by_critic(known, rewards)
        responses = known.responses
        scores = np.array([r.sum() for r in rewards])
        scores -= self.baseline_mean if self._algorithm.baseline is Baseline.MOVING else 0.0
        has_process = SideModelKind.PROCESS in self._algorithm.side_models
        implicit = [PROCESS_BETA * ratio for ratio in known.log_ratios("process")] if has_process else []
        advantages: list[np.ndarray] = [np.empty(0)] * len(responses)
        for members in _siblings(responses):
            if has_process:
                of_group = process_advantages(
                    scores[members], [implicit[index] for index in members], self._algorithm.gamma
                )
            else:
                credits = zip(members, self._algorithm.credit(scores[members]), strict=True)
                of_group = [np.full(rewards[index].size, credit) for index, credit in credits]
            if self._spec.has_span_rewards:
                spans = span_advantages([_span_rewards(responses[index]) for index in members], self._algorithm.gamma)
                of_group = [of_score + of_spans for of_score, of_spans in zip(of_group, spans, strict=True)]
            for index, of_response in zip(members, of_group, strict=True):
                advantages[index] = of_response
        return Credited(advantages=advantages, returns=None)

    def _taught(self, known: KnownUpdate, credited: Credited) -> Credited:
        """With log p_teacher - log p of the policy at the start of the step added to each token's advantage, where a
        model teaches: the gradient is then that of KL(policy || teacher) too, of each token by itself."""
        teacher = self._algorithm.teacher
        if teacher is None:
            return credited
        parts = zip(credited.advantages, known.values(teacher.value), known.values("logp"), strict=True)
        return replace(credited, advantages=[advantages + theirs - own for advantages, theirs, own in parts])

    def _by_critic(self, known: KnownUpdate, rewards: Sequence[np.ndarray]) -> Credited:
        """Generalised advantages of rewards and span rewards under the critic's values."""
        values, responses = known.values("critic"), known.responses
        paid = [r + np.nan_to_num(_span_rewards(samples)) for r, samples in zip(rewards, responses, strict=True)]
        advantages = [gae(r, v, self._algorithm.gamma, self._algorithm.lam) for r, v in zip(paid, values, strict=True)]
        return Credited(advantages=advantages, returns=[a + v for a, v in zip(advantages, values, strict=True)])

    def _move_baseline(self, scores: Sequence[float]) -> None:
        total, count = self._summed([sum(scores), len(scores)])
        self.baseline_mean, self.baseline_count = moving_baseline(
            self.baseline_mean, self.baseline_count, total, int(count)
        )

    def _normalised(self, advantages: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Advantages over the mean and deviation of all tokens of the step, where the algorithm asks for that."""
        normalisation = self._algorithm.advantage_normalisation
        if normalisation is Normalisation.NONE:
            return list(advantages)
        tokens = np.concatenate([*advantages, np.empty(0)])
        count, total = self._summed([tokens.size, tokens.sum()])
        mean = total / max(1.0, count)
        (squares,) = self._summed([np.square(tokens - mean).sum()])
        found = [whitened(a, mean, squares / max(1.0, count - 1.0)) for a in advantages]
        return [without_outliers(a) for a in found] if normalisation is Normalisation.STANDARDISE else found

    def _summed(self, values: Sequence[float]) -> list[float]:
        """Each value summed over all ranks."""
        found: list[float] = all_reduced(torch.tensor(values, dtype=torch.float64), self._device).tolist()
        return found


def _span_rewards(samples: Sequence[Sample]) -> np.ndarray:
    """The span rewards of the trained tokens of a response, float64[T'], NaN on tokens without one."""
    return _joined(
        [
            np.full(_length(sample), np.nan)
            if sample.span_rewards is None
            else sample.span_rewards[sample.trained].astype(np.float64)
            for sample in samples
        ]
    )


def _siblings(responses: Sequence[Sequence[Sample]]) -> list[list[int]]:
    """Indices of the responses of each set of siblings."""
    sets: dict[tuple[int, str], list[int]] = {}
    for index, samples in enumerate(responses):
        sets.setdefault((samples[0].group, samples[0].siblings), []).append(index)
    return list(sets.values())


def _on_samples(known: KnownUpdate, values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Values of each response, float64[T'], as those of each of its samples."""
    return [
        part
        for samples, of_response in zip(known.responses, values, strict=True)
        for part in np.split(of_response, np.cumsum([_length(sample) for sample in samples])[:-1])
    ]


def _joined(of_samples: Sequence[np.ndarray]) -> np.ndarray:
    """The values of a response from those of its samples."""
    return of_samples[0] if len(of_samples) == 1 else np.concatenate(of_samples)


def _length(sample: Sample) -> int:
    """Trained tokens."""
    return int(sample.trained.sum())
