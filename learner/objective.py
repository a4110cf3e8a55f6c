"""The losses of an update, micro-batch by micro-batch: the policy's with all its pieces, the critic's, and that of the
model of process rewards. Losses arrive as weighted sums over the whole update (see `learner/batches/batching.py`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from learner.batches.batching import TrainBatch
from learner.engine import FrozenPolicy, Measured
from learner.methods.algorithms import Algorithm
from learner.methods.credit import imitated
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

DRIFT_ROWS = 8  # of so many rows one is asked for the metric: another pass over all of them would cost a quarter
DRIFT_LIMIT = 10.0  # nats; in the metric only: one token of a thousand must not be the whole estimate
PROCESS_BETA = 0.05  # nats of log-ratio to units of implicit reward. arXiv 2502.01456


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What is known of one micro-batch before its update, float32[M] each; None for what the algorithm does not ask."""

    logp: torch.Tensor | None = None  # under the policy at the start of the step; None: its own forward pass tells
    support: torch.Tensor | None = None  # int64[2, K], the nucleus that the policy is restricted to
    reference: torch.Tensor | None = None  # log-probabilities under the reference policy
    tuned: torch.Tensor | None = None  # under the tuned policy
    process: torch.Tensor | None = None  # under the model of process rewards
    values: torch.Tensor | None = None  # the critic's
    returns: torch.Tensor | None = None  # what the critic should have said


class PolicyObjective:
    """The policy's loss on one update, and what there is to say about it."""

    def __init__(self, row: Algorithm, scored: Sequence[Scored], start: FrozenPolicy | None) -> None:
        self._row, self._scored, self._start = row, scored, start
        self.ratios = [torch.zeros(1)]  # |ratio - 1| of every trained token, on the CPU

    def __call__(self, number: int, batch: TrainBatch, outputs: tuple[Any, ...]) -> Measured:
        logp, entropy, _ = outputs
        tensors = _tensors(batch, logp.device)
        weights, live = tensors["weights"], tensors["weights"] > 0
        drift = self._drift(number, batch, logp.detach(), live)  # on all ranks alike, as sharded policies demand
        if number >= len(self._scored):  # worked answers, or a batch that trains nothing
            loss = (self._row.likelihood * -logp * weights).sum()
            return self._measured(loss, batch, {"loss": loss.detach()})
        known = self._scored[number]
        start = logp.detach() if known.logp is None else known.logp
        gap = start - tensors.get("sampler", start)  # 0 where no sampler was involved
        per_token = token_loss(self._row, (logp, entropy), (start, gap, known.reference), tensors)
        total = ((1.0 - self._row.likelihood) * per_token * weights).sum()
        anchored = start if self._row.anchor == "step" else start - gap
        ratio = bounded_exp(log_ratio(logp.detach() - anchored, tensors["owners"], self._row.ratio))[live]
        self.ratios.append((ratio - 1.0).abs().cpu())
        gap = gap[live]
        sums = {
            "loss": total.detach(),
            "tokens": live.sum(),
            "entropy": entropy.detach()[live].sum(),
            "clipped": ((ratio < 1.0 - self._row.clip_low) | (ratio > 1.0 + self._row.clip_high)).sum(),
            "mismatch_kl": (bounded_exp(gap) - 1.0 - gap).sum(),
            "capped": (bounded_exp(gap) > self._row.mismatch_cap).sum(),
        }
        return self._measured(total, batch, sums | drift)

    def _drift(
        self, number: int, batch: TrainBatch, logp: torch.Tensor, live: torch.Tensor
    ) -> dict[str, torch.Tensor | float]:
        if self._start is None or number > 0:
            return {}
        start = self._start.logprobs(batch, rows=max(1, len(batch.tokens) // DRIFT_ROWS))
        logp, live = logp[: start.numel()], live[: start.numel()]
        drift = kl_estimate("k3", logp - start).clamp(max=DRIFT_LIMIT)
        return {"drift": drift[live].sum(), "drift_tokens": live.sum()}

    def _measured(self, loss: torch.Tensor, batch: TrainBatch, sums: dict[str, Any]) -> Measured:
        found = {"computed": float(batch.tokens.size), "padding": float(batch.padding)} | sums
        return Measured(loss=loss, sums={name: found.get(name, 0.0) for name in SUMS})


SUPERVISED = Algorithm(about="imitates worked answers", credit=imitated, loss=likelihood, mismatch="none")

SUMS = (
    "loss",
    "tokens",
    "computed",
    "padding",
    "entropy",
    "clipped",
    "mismatch_kl",
    "capped",
    "drift",
    "drift_tokens",
)


def token_loss(
    row: Algorithm,
    now: tuple[torch.Tensor, torch.Tensor],
    before: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None],
    tensors: dict[str, torch.Tensor],
) -> torch.Tensor:
    """The loss of each token [T]: the surrogate with its weight, the KL and the entropy.

    Args:
        row: the algorithm.
        now: (log-probability, entropy) of each token under the policy.
        before: (log-probability at the start of the step, its difference to the sampler's, log-probability under the
            reference or None) of each token.
        tensors: "advantages" and "owners" of each token.
    """
    (logp, entropy), (start, gap, reference), owners = now, before, tensors["owners"]
    anchored = start if row.anchor == "step" else start - gap
    terms = Terms(
        logp=logp,
        log_ratio=log_ratio(logp - anchored, owners, row.ratio),
        advantage=tensors["advantages"],
        reference=logp.detach() if reference is None else reference,
        owners=owners,
    )
    loss = row.loss(terms, row.clip)
    if row.anchor == "step":
        loss = loss * mismatch_weight(row.mismatch, gap, owners, row.mismatch_cap)
    if row.kl_loss and reference is not None:
        loss = loss + row.kl_loss * kl_estimate(row.kl_estimator, logp - reference)
    return loss - row.entropy * entropy if row.entropy else loss


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueObjective:
    """The critic's loss on one update, aggregated as the policy's."""

    scored: Sequence[Scored]
    clip: float

    def __call__(self, number: int, batch: TrainBatch, outputs: tuple[Any, ...]) -> Measured:
        (value,) = outputs
        weights = _tensors(batch, value.device)["weights"]
        if number >= len(self.scored):
            return Measured(loss=(value * 0.0).sum(), sums={"loss": 0.0})
        known = self.scored[number]
        assert known.returns is not None  # the trainer has filled both in
        assert known.values is not None
        loss = (value_loss(value, known.returns, known.values, self.clip) * weights).sum()
        return Measured(loss=loss, sums={"loss": loss.detach()})


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeObjective:
    """Cross-entropy of sigmoid(sum of implicit rewards) against the outcome, mean over responses.
    arXiv 2502.01456 section 3 (PRIME)."""

    scored: Sequence[Scored]
    correct: Sequence[torch.Tensor]  # for each micro-batch float32[N], 1 for a correct response
    responses: int  # of the whole update

    def __call__(self, number: int, batch: TrainBatch, outputs: tuple[Any, ...]) -> Measured:
        logp = outputs[0]
        if number >= len(self.scored):
            return Measured(loss=(logp * 0.0).sum(), sums={"loss": 0.0})
        reference, owners = self.scored[number].reference, _tensors(batch, logp.device)["owners"]
        scores = per_response(PROCESS_BETA * (logp - reference), owners)
        losses = torch.nn.functional.binary_cross_entropy_with_logits(
            scores, self.correct[number].to(logp.device), reduction="sum"
        )
        loss = losses / self.responses
        return Measured(loss=loss, sums={"loss": loss.detach()})


def _tensors(batch: TrainBatch, device: torch.device) -> dict[str, torch.Tensor]:
    arrays = {name: getattr(batch, name) for name in ("sampler", "advantages", "weights", "owners")}
    return {name: torch.from_numpy(array).to(device) for name, array in arrays.items() if array is not None}
