"""The losses of an update, micro-batch by micro-batch: the policy's with all its pieces, the critic's, and that of the
model of process rewards. Each gives a micro-batch's share of the whole update's loss: a sum weighted as
`learner/batches/samples.py` says.

M counts the trained tokens of a micro-batch, N its responses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch

from learner.batches.types import TrainBatch
from learner.engine import Measured
from learner.methods.algorithms import Algorithm
from learner.methods.choices import Anchor, KlEstimator, Mismatch, Ratio
from learner.methods.credit import ones
from learner.methods.losses import (
    Terms,
    bounded_exp,
    kl_estimate,
    likelihood,
    log_ratio,
    mismatch_weight,
    per_response,
    value_loss,
)

DRIFT_ROWS = 8  # kl_start is measured on one row in 8; on all rows a step would be about 25 % slower
DRIFT_LIMIT = 10.0  # nats; in the metric only: one token of a thousand must not be the whole estimate
PROCESS_BETA = 0.05  # nats of log-ratio to units of implicit reward. arXiv 2502.01456


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOutputs:
    """What the models say about one micro-batch before its update, float32[M] each; None for what the algorithm does
    not ask."""

    logp: torch.Tensor | None = None  # under the policy at the start of the step; None: its own forward pass tells
    support: torch.Tensor | None = None  # int64[2, K], the nucleus that the policy is restricted to
    reference: torch.Tensor | None = None  # log-probabilities under the reference policy
    tuned: torch.Tensor | None = None  # under the tuned policy
    process: torch.Tensor | None = None  # under the model of process rewards
    teacher: torch.Tensor | None = None  # under the teacher
    informed: torch.Tensor | None = None  # under the policy that has read a correct response
    critic: torch.Tensor | None = None  # the critic's values of the states before the tokens
    returns: torch.Tensor | None = None  # what the critic should have said


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTensors:
    """The arrays of a micro-batch that losses read, on the device."""

    sampler: torch.Tensor | None  # float32[M], the sampler's log-probabilities
    advantages: torch.Tensor  # float32[M]
    weights: torch.Tensor  # float32[M]
    owners: torch.Tensor  # int64[M], which of the N responses the token belongs to
    turns: torch.Tensor  # int64[M], which turn it belongs to, of all responses

    @classmethod
    def of(cls, batch: TrainBatch, device: torch.device) -> Self:
        """Those of this micro-batch."""
        sampler = None if batch.sampler is None else torch.from_numpy(batch.sampler).to(device)
        advantages, weights, owners, turns = (
            torch.from_numpy(array).to(device) for array in (batch.advantages, batch.weights, batch.owners, batch.turns)
        )
        return cls(sampler=sampler, advantages=advantages, weights=weights, owners=owners, turns=turns)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenTerms:
    """What the policy's loss of a token is made of, float32[M] each; only `logp` and `entropy` carry gradients."""

    logp: torch.Tensor  # log-probability under the policy now
    entropy: torch.Tensor  # of the policy's next-token distribution, nats
    start: torch.Tensor  # log-probability under the policy at the start of the step
    gap: torch.Tensor  # `start` less the sampler's log-probability; 0 where no sampler was involved
    reference: torch.Tensor | None  # log-probability under the reference policy
    advantages: torch.Tensor
    owners: torch.Tensor  # int64[M], which response the token belongs to
    turns: torch.Tensor  # int64[M], which turn

    def log_ratio(self, algorithm: Algorithm) -> torch.Tensor:
        """Log-ratio of the policy to the algorithm's anchor, float32[M]."""
        anchor = self.start if algorithm.anchor is Anchor.STEP else self.start - self.gap
        owners = self.turns if algorithm.ratio is Ratio.TURN else self.owners
        return log_ratio(self.logp - anchor, owners, algorithm.ratio)


def token_loss(algorithm: Algorithm, terms: TokenTerms) -> torch.Tensor:
    """The loss of each token, float32[M]: the surrogate with its weight against mismatch, the KL and the entropy."""
    surrogate = Terms(
        logp=terms.logp,
        log_ratio=terms.log_ratio(algorithm),
        advantage=terms.advantages,
        reference=terms.logp.detach() if terms.reference is None else terms.reference,
        owners=terms.owners,
    )
    loss = algorithm.loss(surrogate, algorithm.clip)
    if algorithm.anchor is Anchor.STEP:
        loss = loss * mismatch_weight(algorithm.mismatch, terms.gap, terms.owners, algorithm.mismatch_cap)
    if algorithm.kl_loss and terms.reference is not None:
        loss = loss + algorithm.kl_loss * kl_estimate(algorithm.kl, terms.logp - terms.reference)
    return loss - algorithm.entropy * terms.entropy if algorithm.entropy else loss


SUMS = (  # what a policy's update sums over its tokens, besides the loss
    "loss",
    "tokens",
    "computed",
    "padding",
    "shared",
    "rows",
    "sequences",
    "entropy",
    "clipped",
    "mismatch_kl",
    "capped",
    "teacher_gap",
    "told",
    "told_loss",
    "drift",
    "drift_tokens",
)


class PolicyObjective:
    """The policy's loss on one update, and what there is to say about it.

    It is called once for each micro-batch, in order: first those that `outputs` tells about, then worked answers and
    micro-batches that train nothing.

    Args:
        algorithm: its pieces and their numbers.
        outputs: what the models said about each micro-batch of samples.
        start: log-probabilities under the starting policy of the trained tokens in the first `drift_rows` of the first
            micro-batch, for the metric kl_start; None leaves the metric out.
    """

    def __init__(self, algorithm: Algorithm, outputs: Sequence[ModelOutputs], start: torch.Tensor | None) -> None:
        self._algorithm, self._outputs, self._start = algorithm, outputs, start
        self.taught = algorithm.teacher is not None  # whether the distance from a teacher is counted too
        self.ratios = [torch.zeros(1)]  # |ratio - 1| of every trained token, on the CPU

    def __call__(self, number: int, batch: TrainBatch, outputs: tuple[Any, ...]) -> Measured:
        logp, entropy = (output[: batch.targets.size] for output in outputs[:2])
        tensors = BatchTensors.of(batch, logp.device)
        live = tensors.weights > 0
        drift = self._drift(number, logp.detach(), live)
        if number >= len(self._outputs):
            loss = (self._algorithm.imitation * -logp * tensors.weights).sum()
            return _measured(loss, batch, {"loss": loss.detach()})
        known = self._outputs[number]
        start = logp.detach() if known.logp is None else known.logp
        terms = TokenTerms(
            logp=logp,
            entropy=entropy,
            start=start,
            gap=start - (start if tensors.sampler is None else tensors.sampler),
            reference=known.reference,
            advantages=tensors.advantages,
            owners=tensors.owners,
            turns=tensors.turns,
        )
        per_token = token_loss(self._algorithm, terms)
        loss = ((1.0 - self._algorithm.imitation) * per_token * tensors.weights).sum()
        sums = self._seen(terms, live) | drift
        if batch.told is not None:
            nats = -outputs[0][batch.targets.size :]
            weights = torch.from_numpy(batch.told.weights).to(logp.device)
            loss = loss + (nats * weights).sum()
            sums |= {"told": float(nats.numel()), "told_loss": nats.detach().sum()}
        if teacher := self._algorithm.teacher:
            sums["teacher_gap"] = (start - getattr(known, teacher))[live].sum()
        return _measured(loss, batch, {"loss": loss.detach()} | sums)

    @torch.no_grad()
    def _seen(self, terms: TokenTerms, live: torch.Tensor) -> dict[str, torch.Tensor | float]:
        """Sums over the tokens that are trained on."""
        low, high = 1.0 - self._algorithm.clip_low, 1.0 + self._algorithm.clip_high
        ratio, gap = bounded_exp(terms.log_ratio(self._algorithm))[live], terms.gap[live]
        self.ratios.append((ratio - 1.0).abs().cpu())
        return {
            "tokens": live.sum(),
            "entropy": terms.entropy[live].sum(),
            "clipped": ((ratio < low) | (ratio > high)).sum(),
            "mismatch_kl": kl_estimate(KlEstimator.K3, -gap).clamp(min=0.0).sum(),  # below 0 by rounding only
            "capped": (bounded_exp(gap) > self._algorithm.mismatch_cap).sum(),
        }

    def _drift(self, number: int, logp: torch.Tensor, live: torch.Tensor) -> dict[str, torch.Tensor | float]:
        """KL estimate against the starting policy on some rows of the first micro-batch, and the tokens in them."""
        if self._start is None or number > 0:
            return {}
        start = self._start
        logp, live = logp[: start.numel()], live[: start.numel()]
        drift = kl_estimate(KlEstimator.K3, logp - start).clamp(max=DRIFT_LIMIT)
        return {"drift": drift[live].sum(), "drift_tokens": live.sum()}


def drift_rows(batch: TrainBatch) -> int:
    """On how many rows of a micro-batch kl_start is measured."""
    return max(1, len(batch.tokens) // DRIFT_ROWS)


def _measured(loss: torch.Tensor, batch: TrainBatch, sums: Mapping[str, torch.Tensor | float]) -> Measured:
    found = {
        "computed": float(batch.tokens.size),
        "padding": float(batch.padding),
        "shared": float(batch.shared),
        "rows": float(len(batch.tokens)),
        "sequences": float(len(batch.members)),
        **sums,
    }
    return Measured(loss=loss, sums={name: found.get(name, 0.0) for name in SUMS})


SUPERVISED = Algorithm(about="imitates worked answers", credit=ones, loss=likelihood, mismatch=Mismatch.NONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueObjective:
    """The critic's loss on one update, aggregated as the policy's."""

    outputs: Sequence[ModelOutputs]  # of each micro-batch, with `critic` and `returns`
    clip: float

    def __call__(self, number: int, batch: TrainBatch, outputs: tuple[Any, ...]) -> Measured:
        (value,) = outputs
        if number >= len(self.outputs):  # a micro-batch that trains nothing
            return Measured(loss=(value * 0.0).sum(), sums={"loss": 0.0})
        known, weights = self.outputs[number], BatchTensors.of(batch, value.device).weights
        assert known.returns is not None  # the trainer has filled both in
        assert known.critic is not None
        loss = (value_loss(value, known.returns, known.critic, self.clip) * weights).sum()
        return Measured(loss=loss, sums={"loss": loss.detach()})


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeObjective:
    """Cross-entropy of sigmoid(sum of implicit rewards) against the outcome, mean over responses.
    arXiv 2502.01456 section 3 (PRIME)."""

    outputs: Sequence[ModelOutputs]  # of each micro-batch, with `reference`
    correct: Sequence[torch.Tensor]  # for each micro-batch float32[N], 1 for a correct response
    responses: int  # of the whole update

    def __call__(self, number: int, batch: TrainBatch, outputs: tuple[Any, ...]) -> Measured:
        logp = outputs[0]
        if number >= len(self.outputs):  # a micro-batch that trains nothing
            return Measured(loss=(logp * 0.0).sum(), sums={"loss": 0.0})
        reference, owners = self.outputs[number].reference, BatchTensors.of(batch, logp.device).owners
        scores = per_response(PROCESS_BETA * (logp - reference), owners)
        losses = torch.nn.functional.binary_cross_entropy_with_logits(
            scores, self.correct[number].to(logp.device), reduction="sum"
        )
        loss = losses / self.responses
        return Measured(loss=loss, sums={"loss": loss.detach()})
