"""What a token costs: the ratio, the losses, the KL estimators and the weights against sampler mismatch, each once.

All tensors are float32[T] over the trained tokens of a micro-batch. Only tensor methods are used, so the table of
algorithms can be read without torch. Log-ratios are clamped to +-20 before they are exponentiated.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

LIMIT = 20.0  # nats
PRECLIP = math.log(1e3)  # nats


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Bounds of the ratio s: 1 - low <= s <= 1 + high, and the dual clip for negative advantages (0 is off)."""

    low: float = 0.2
    high: float = 0.2
    dual: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Terms:
    """What a loss may look at, float[T] each; only `logp` and `log_ratio` carry a gradient."""

    logp: "torch.Tensor"  # log-probability of the token under the policy
    log_ratio: "torch.Tensor"  # log of p / p_anchor, of the token or of its whole response
    advantage: "torch.Tensor"
    reference: "torch.Tensor"  # log-probability under the reference policy; `logp` detached where there is none
    owners: "torch.Tensor"  # int64[T], which response of the micro-batch the token belongs to


Loss = Callable[[Terms, Clip], "torch.Tensor"]  # -> [T], to be minimised


# --------------------------------------------------------------------------------------------------- ratio


def per_response(values: "torch.Tensor", owners: "torch.Tensor") -> "torch.Tensor":
    """Sum over the tokens of each response, float[N]."""
    return values.new_zeros(int(owners.max()) + 1).index_add(0, owners, values)


def log_ratio(gap: "torch.Tensor", owners: "torch.Tensor", level: str) -> "torch.Tensor":
    """Log-ratio of each token [T] from log p - log p_anchor of each token.

    token     its own
    sequence  mean over the tokens of its response (arXiv 2507.18071, GSPO)
    product   sum over the tokens of its response: the ratio of the whole response (arXiv 2503.14286, TOPR)
    """
    if level == "token":
        return gap
    whole = per_response(gap, owners)
    if level == "sequence":
        whole = whole / per_response(gap.new_ones(gap.shape), owners).clamp(min=1.0)
    return whole[owners]


RATIOS = ("token", "sequence", "product")


def bounded_exp(log: "torch.Tensor") -> "torch.Tensor":
    """exp of a log-ratio held within +-20."""
    return log.clamp(-LIMIT, LIMIT).exp()


# ---------------------------------------------------------------------------------------------------- loss


def likelihood(t: Terms, clip: Clip) -> "torch.Tensor":
    """L = -A log p, without ratio or clip. Several updates on one batch are then uncorrected."""
    return -t.advantage * t.logp


def unclipped(t: Terms, clip: Clip) -> "torch.Tensor":
    """L = -s A: importance sampling without a bound. Worse than no ratio at all in arXiv 2504.11343."""
    return -bounded_exp(t.log_ratio) * t.advantage


def clipped(t: Terms, clip: Clip) -> "torch.Tensor":
    """L = -min(s A, clip(s, 1-low, 1+high) A); with A < 0 and a dual clip c at most -c A.
    arXiv 1707.06347 equation 7; arXiv 1912.09729 (dual clip)."""
    ratio = bounded_exp(t.log_ratio)
    loss = -(ratio * t.advantage).minimum(ratio.clamp(1.0 - clip.low, 1.0 + clip.high) * t.advantage)
    return loss.minimum((-t.advantage * clip.dual).where(t.advantage < 0, loss)) if clip.dual else loss


def preclipped(t: Terms, clip: Clip) -> "torch.Tensor":
    """The clipped loss of a log-ratio that is first held within [log 1e-3, log 1e3]. arXiv 2505.02835."""
    return clipped(replace(t, log_ratio=t.log_ratio.clamp(-PRECLIP, PRECLIP)), clip)


def detached(t: Terms, clip: Clip) -> "torch.Tensor":
    """L = -sg(clip(s, 1-low, 1+high)) A log p: every token keeps a gradient. arXiv 2506.13585 (CISPO)."""
    return -bounded_exp(t.log_ratio).clamp(1.0 - clip.low, 1.0 + clip.high).detach() * t.advantage * t.logp


def tapered(t: Terms, clip: Clip) -> "torch.Tensor":
    """L = -w A log p; w = 1 for A > 0, sg(min(s, 1)) otherwise: imitate the good fully, unlearn the bad only while the
    policy still says it. arXiv 2503.14286 (TOPR)."""
    weight = bounded_exp(t.log_ratio).clamp(max=1.0).detach()
    return -weight.where(t.advantage < 0, 1.0) * t.advantage * t.logp


def preferred(t: Terms, clip: Clip, beta: float = 0.1) -> "torch.Tensor":
    """L of a pair = -log sigmoid(beta * (m+ - m-)), m = log pi(y) - log ref(y); on each of its responses, spread evenly
    over the tokens, so that a mean over responses is one over pairs. Responses 2k and 2k+1 of the micro-batch are a
    pair. arXiv 2305.18290 equation 7 (DPO)."""
    sign = t.advantage.sign()
    margins = per_response((t.logp - t.reference) * sign, t.owners)
    lengths = per_response(sign.abs(), t.owners).clamp(min=1.0)
    if margins.numel() % 2:  # the batch that keeps a rank in step has one response and no weight
        return t.logp * 0.0
    against = margins.view(-1, 2).sum(-1) * -beta
    return (against.logaddexp(against * 0.0).repeat_interleave(2) / lengths)[t.owners]


LOSSES: dict[str, Loss] = {
    "likelihood": likelihood,
    "unclipped": unclipped,
    "clipped": clipped,
    "preclipped": preclipped,
    "detached": detached,
    "tapered": tapered,
    "preferred": preferred,
}


# ------------------------------------------------------------------------------------------- KL and mismatch


def kl_estimate(kind: str, gap: "torch.Tensor") -> "torch.Tensor":
    """Estimate of KL(pi || ref) from d = log pi - log ref on a token that pi sampled. http://joschu.net/blog/kl-approx

    k1 = d, k2 = d^2 / 2, k3 = exp(-d) + d - 1. As a loss, k2 has the gradient of KL(pi || ref), k3 that of
    KL(ref || pi), and k1 none in expectation.
    """
    if kind == "k1":
        return gap
    if kind == "k2":
        return gap.square() / 2.0
    return (-gap).clamp(-LIMIT, LIMIT).expm1() + gap  # exp and -1 apart would round a small gap's estimate below 0


KL_ESTIMATORS = ("k1", "k2", "k3")

MISMATCHES: dict[str, str] = {
    "none": "1",
    "truncate": "min(q, cap)",
    "mask": "q [q <= cap]",
    "truncate-response": "min(prod q, cap)",
    "mask-response": "prod q [prod q <= cap]",
}


def mismatch_weight(kind: str, gap: "torch.Tensor", owners: "torch.Tensor", cap: float) -> "torch.Tensor":
    """Weight of each token [T] for having been sampled by a slightly other policy; q = p_learner / p_sampler.

    Args:
        kind: a key of MISMATCHES; "response" takes the product over the response.
        gap: log q of each token.
        owners: int64[T], the response of each token.
        cap: the most that a weight may be; beyond it the weight is cut ("truncate") or 0 ("mask").
    """
    if kind == "none":
        return gap.new_ones(gap.shape)
    ratio = bounded_exp(log_ratio(gap, owners, "product" if kind.endswith("response") else "token"))
    if kind.startswith("truncate"):
        return ratio.clamp(max=cap)
    return ratio.where(ratio <= cap, 0.0)


def value_loss(value: "torch.Tensor", target: "torch.Tensor", old: "torch.Tensor", clip: float) -> "torch.Tensor":
    """0.5 * max((v - R)^2, (clip(v, v_old - c, v_old + c) - R)^2), [T]. arXiv 1506.02438; clipping as in PPO's code."""
    near = value.maximum(old - clip).minimum(old + clip)
    return 0.5 * (value - target).square().maximum((near - target).square())
