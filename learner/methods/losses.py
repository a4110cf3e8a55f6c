"""What a token costs: the ratio, the losses, the KL estimators and the weights against sampler mismatch, each once.

All tensors are float32[T] over the trained tokens of a micro-batch. Only tensor methods are used, so the table of
algorithms can be read without torch. Log-ratios are clamped to +-20 before they are exponentiated.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from learner.methods.choices import KlEstimator, Mismatch, Ratio

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """One loss of a token. A run chooses it by name (`objective.loss`)."""

    name: str
    template: str  # its formula in ASCII, with {low} and {high} for the bounds of the ratio
    function: Callable[..., "torch.Tensor"]  # (terms, clip) -> [T], to be minimised
    needs_ratio: bool = True  # whether it looks at the ratio s
    needs_pairs: bool = False  # whether responses must come in pairs of a correct and a wrong one
    has_dual_clip: bool = False  # whether it knows the dual clip
    scales: bool = (
        False  # whether it is a multiple of A: a token without an advantage costs nothing and has no gradient
    )
    ratio_note: str = ""  # what the loss does to the ratio before anything else
    symbols: tuple[str, ...] = ()  # what the other symbols of the formula mean

    def __call__(self, terms: Terms, clip: Clip) -> "torch.Tensor":
        """The loss of each token, float[T], to be minimised."""
        return self.function(terms, clip)

    def formula(self, clip: Clip) -> str:
        """The loss with the bounds of the ratio filled in."""
        plain = self.template.format(low=f"{1 - clip.low:g}", high=f"{1 + clip.high:g}")
        return f"min({plain}, -{clip.dual:g} A where A < 0)" if clip.dual and self.has_dual_clip else plain


LOSSES: dict[str, Loss] = {}  # name -> loss, in the order of this file


def loss(template: str, **traits: Any) -> Callable[[Callable[..., "torch.Tensor"]], Loss]:
    """Makes a function a loss and enters it in LOSSES under its name.

    Args:
        template: its formula, see `Loss`.
        traits: fields of `Loss`.
    """

    def enter(function: Callable[..., "torch.Tensor"]) -> Loss:
        name = function.__name__
        function.__qualname__ += ".function"  # where pickle finds it: the module's name is now the loss's
        LOSSES[name] = Loss(name=name, template=template, function=function, **traits)
        return LOSSES[name]

    return enter


# --------------------------------------------------------------------------------------------------- ratio


def per_response(values: "torch.Tensor", owners: "torch.Tensor") -> "torch.Tensor":
    """Sum over the tokens of each response, float[N]."""
    return values.new_zeros(int(owners.max()) + 1).index_add(0, owners, values)


def log_ratio(gap: "torch.Tensor", owners: "torch.Tensor", level: Ratio) -> "torch.Tensor":
    """Log-ratio of each token [T] from log p - log p_anchor of each token [T]: its own, or the mean or sum over the
    tokens of its owner.

    Args:
        gap: float[T].
        owners: int64[T], the response of each token; with the level "turn" its turn.
        level: which of them.
    """
    if level is Ratio.TOKEN:
        return gap
    whole = per_response(gap, owners)
    if level is not Ratio.PRODUCT:
        whole = whole / per_response(gap.new_ones(gap.shape), owners).clamp(min=1.0)
    return whole[owners]


def bounded_exp(log: "torch.Tensor") -> "torch.Tensor":
    """exp of a log-ratio held within +-20."""
    return log.clamp(-LIMIT, LIMIT).exp()


# ---------------------------------------------------------------------------------------------------- loss


@loss("-A log p", needs_ratio=False, scales=True)
def likelihood(t: Terms, clip: Clip) -> "torch.Tensor":
    """L = -A log p, without ratio or clip. Several updates on one batch are then uncorrected."""
    return -t.advantage * t.logp


@loss("-s A", scales=True)
def unclipped(t: Terms, clip: Clip) -> "torch.Tensor":
    """L = -s A: importance sampling without a bound. Worse than no ratio at all in arXiv 2504.11343."""
    return -bounded_exp(t.log_ratio) * t.advantage


@loss("-min(s A, clip(s, {low}, {high}) A)", has_dual_clip=True, scales=True)
def clipped(t: Terms, clip: Clip) -> "torch.Tensor":
    """L = -min(s A, clip(s, 1-low, 1+high) A); with A < 0 and a dual clip c at most -c A.
    arXiv 1707.06347 equation 7; arXiv 1912.09729 (dual clip)."""
    ratio = bounded_exp(t.log_ratio)
    cost = -(ratio * t.advantage).minimum(ratio.clamp(1.0 - clip.low, 1.0 + clip.high) * t.advantage)
    return cost.minimum((-t.advantage * clip.dual).where(t.advantage < 0, cost)) if clip.dual else cost


@loss("-min(s A, clip(s, {low}, {high}) A)", has_dual_clip=True, scales=True, ratio_note="held within 1e-3..1e3")
def preclipped(t: Terms, clip: Clip) -> "torch.Tensor":
    """The clipped loss of a log-ratio that is first held within [log 1e-3, log 1e3]. arXiv 2505.02835."""
    return clipped(replace(t, log_ratio=t.log_ratio.clamp(-PRECLIP, PRECLIP)), clip)


@loss("-sg(clip(s, {low}, {high})) A log p", scales=True)
def detached(t: Terms, clip: Clip) -> "torch.Tensor":
    """L = -sg(clip(s, 1-low, 1+high)) A log p: every token keeps a gradient. arXiv 2506.13585 (CISPO)."""
    return -bounded_exp(t.log_ratio).clamp(1.0 - clip.low, 1.0 + clip.high).detach() * t.advantage * t.logp


@loss("-A v log p", symbols=("v = 1 where A > 0, else sg(min(s, 1))",), scales=True)
def tapered(t: Terms, clip: Clip) -> "torch.Tensor":
    """L = -w A log p; w = 1 for A > 0, sg(min(s, 1)) otherwise: imitate the good fully, unlearn the bad only while the
    policy still says it. arXiv 2503.14286 (TOPR)."""
    weight = bounded_exp(t.log_ratio).clamp(max=1.0).detach()
    return -weight.where(t.advantage < 0, 1.0) * t.advantage * t.logp


@loss(
    "-log sigmoid(0.1 (m+ - m-)) per pair",
    needs_ratio=False,
    needs_pairs=True,
    symbols=("m = log p - log p_reference of the response",),
)
def preferred(t: Terms, clip: Clip, beta: float = 0.1) -> "torch.Tensor":
    """L of a pair = -log sigmoid(beta * (m+ - m-)), m = log pi(y) - log ref(y). Both responses of a pair have this
    loss, spread evenly over their tokens, so that a mean over responses is a mean over pairs. Responses 2k and 2k+1 of
    the micro-batch are a pair. arXiv 2305.18290 equation 7 (DPO)."""
    sign = t.advantage.sign()
    margins = per_response((t.logp - t.reference) * sign, t.owners)
    lengths = per_response(sign.abs(), t.owners).clamp(min=1.0)
    if margins.numel() % 2:  # the batch that keeps a rank in step has one response and no weight
        return t.logp * 0.0
    costs = _softplus(margins.view(-1, 2).sum(-1) * -beta)
    return (costs.repeat_interleave(2) / lengths)[t.owners]


def _softplus(x: "torch.Tensor") -> "torch.Tensor":
    """log(1 + exp(x)) = -log sigmoid(-x), written with tensor methods as log(exp(x) + exp(0))."""
    return x.logaddexp(x * 0.0)


# ------------------------------------------------------------------------------------------- KL and mismatch


def kl_estimate(estimator: KlEstimator, gap: "torch.Tensor") -> "torch.Tensor":
    """Estimate of KL(pi || ref), [T], from d = log pi - log ref on a token that pi sampled, [T]: k1 = d, k2 = d^2 / 2,
    k3 = exp(-d) + d - 1."""
    if estimator is KlEstimator.K1:
        return gap
    if estimator is KlEstimator.K2:
        return gap.square() / 2.0
    return (-gap).clamp(-LIMIT, LIMIT).expm1() + gap  # exp and -1 apart would round a small gap's estimate below 0


def mismatch_weight(kind: Mismatch, gap: "torch.Tensor", owners: "torch.Tensor", cap: float) -> "torch.Tensor":
    """Weight of each token [T] for having been sampled by a slightly other policy; q = p_step / p_sampler.

    Args:
        kind: whether q is the token's or its response's, and what becomes of a q above the cap.
        gap: log q of each token.
        owners: int64[T], the response of each token.
        cap: the most that a weight may be.
    """
    if kind is Mismatch.NONE:
        return gap.new_ones(gap.shape)
    ratio = bounded_exp(log_ratio(gap, owners, kind.level))
    return ratio.where(ratio <= cap, 0.0) if kind.masks else ratio.clamp(max=cap)


def value_loss(value: "torch.Tensor", target: "torch.Tensor", old: "torch.Tensor", clip: float) -> "torch.Tensor":
    """0.5 * max((v - R)^2, (clip(v, v_old - c, v_old + c) - R)^2), [T]. arXiv 1506.02438; clipping as in PPO's code."""
    near = value.maximum(old - clip).minimum(old + clip)
    return 0.5 * (value - target).square().maximum((near - target).square())
