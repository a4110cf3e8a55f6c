"""What responses and tokens are worth as numbers that the losses take: numpy in, numpy out.

Scores are -1 (wrong) and +1 (correct) unless the run says otherwise; J counts the scored responses of one group, T the
trained tokens of one response.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rewards import shaping


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """One way to turn the scores of a group into advantages. A run chooses it by name (`objective.credit`)."""

    name: str
    formula: str  # ASCII; r stands for the score of a response
    function: Callable[..., np.ndarray]  # (scores[J], and the options below that are not None) -> advantages[J]
    siblings: int = 1  # smallest group size with which it means anything
    pairs: bool = False  # whether responses are trained on in pairs of a correct and a wrong one
    ddof: int | None = None  # of the standard deviation that it divides by; None: it divides by none
    threshold: float | None = None  # the score that a response must exceed; None: it has no threshold
    nothing: float | None = None  # the score that is worth nothing, from which it counts; None: it does not matter

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """The advantages of the J responses of a group, float64[J], from their scores, float[J]."""
        options = {"ddof": self.ddof, "threshold": self.threshold, "nothing": self.nothing}
        return self.function(scores, **{name: value for name, value in options.items() if value is not None})


CREDITS: dict[str, Credit] = {}  # name -> credit, in the order of this file


def credit(formula: str, **traits: Any) -> Callable[[Callable[..., np.ndarray]], Credit]:
    """Makes a function a credit and enters it in CREDITS, under its name with hyphens.

    Args:
        formula: what it computes, with r for the score of a response.
        traits: fields of `Credit`.
    """

    def enter(function: Callable[..., np.ndarray]) -> Credit:
        name = function.__name__.replace("_", "-")
        function.__qualname__ += ".function"  # where pickle finds it: the module's name is now the credit's
        CREDITS[name] = Credit(name=name, formula=formula, function=function, **traits)
        return CREDITS[name]

    return enter


# ------------------------------------------------------------------------------- one value for each response


@credit("[r = max r, r > 0]")
def best(scores: np.ndarray) -> np.ndarray:
    """w_i = 1[r_i = max_j r_j and r_i > 0]; without the guard a group of wrong answers would teach its mistakes.
    arXiv 2304.06767; arXiv 2504.11343 equation 6."""
    return ((scores == scores.max()) & (scores > 0)).astype(np.float64)


@credit("[R > threshold]", threshold=0.0)
def above(scores: np.ndarray, threshold: float) -> np.ndarray:
    """w_i = 1[r_i > threshold]: ReST's filter, whose threshold rises from pass to pass. arXiv 2308.08998."""
    return (scores > threshold).astype(np.float64)


@credit("1")
def ones(scores: np.ndarray) -> np.ndarray:
    """w_i = 1: every response is imitated, under the token of its reward quantile. arXiv 2205.13636 (Quark)."""
    return np.ones(scores.shape)


@credit("0")
def zeros(scores: np.ndarray) -> np.ndarray:
    """A_i = 0: nothing is learned from scores. Of algorithms with a teacher, which they then have alone."""
    return np.zeros(scores.shape)


@credit("r")
def raw(scores: np.ndarray) -> np.ndarray:
    """A_i = r_i: imitate the correct, unlearn the wrong. arXiv 2504.11343 section 3."""
    return scores.astype(np.float64)


@credit("r - mean r", siblings=2)
def centred(scores: np.ndarray) -> np.ndarray:
    """A_i = r_i - mean r: exactly 0 where all scores are equal. arXiv 2503.20783 (Dr. GRPO)."""
    return np.zeros(scores.shape) if _equal(scores) else scores - scores.mean()


@credit("r / std r", siblings=2, ddof=1)
def scaled(scores: np.ndarray, ddof: int) -> np.ndarray:
    """A_i = r_i / std r, 0 where all scores are equal. arXiv 2504.11343 section 4 ("normalize std")."""
    if _equal(scores):
        return np.zeros(scores.shape)
    units = _units(scores)
    return units / units.std(ddof=ddof)


@credit("(r - mean r) / std r", siblings=2, ddof=1)
def normalised(scores: np.ndarray, ddof: int) -> np.ndarray:
    """A_i = (r_i - mean r) / std r, exactly 0 where all scores are equal; never larger than sqrt(J) in size.
    arXiv 2402.03300 equation 21 (which leaves `ddof` open; torch.std, and so most code, has 1)."""
    if _equal(scores):
        return np.zeros(scores.shape)
    units = _units(scores)
    return (units - units.mean()) / units.std(ddof=ddof)


@credit("r - mean of siblings' r", siblings=2)
def leave_one_out(scores: np.ndarray) -> np.ndarray:
    """A_i = r_i - mean of the siblings' r = J/(J-1) * (r_i - mean r). arXiv 2402.14740 (RLOO)."""
    return np.zeros(scores.shape) if _equal(scores) else centred(scores) * scores.size / (scores.size - 1)


@credit("(r - mean r) / (mean r - wrong)", siblings=2, nothing=-1.0)
def relative(scores: np.ndarray, nothing: float) -> np.ndarray:
    """A_i = (R_i - mean R) / mean R with R_i = max(r_i - nothing, 0); 0 where all R are equal, never below -1 and never
    above J - 1. arXiv 2602.02710 (MaxRL): the rarer success is, the more it weighs, as in the gradient of the logarithm
    of the success rate."""
    gains = np.maximum(scores - nothing, 0.0)
    if _equal(gains):
        return np.zeros(scores.shape)
    units = _units(gains)
    return units / units.mean() - 1.0


@credit("+1, -1 in pairs", siblings=2, pairs=True)
def paired(scores: np.ndarray) -> np.ndarray:
    """+1 for the first correct responses and -1 for as many wrong ones, in their order; 0 for the rest, which has no
    partner. The k-th of each are a pair. arXiv 2305.18290, iterated as in arXiv 2504.11343."""
    correct, wrong = np.flatnonzero(scores > 0), np.flatnonzero(scores <= 0)
    count = min(correct.size, wrong.size)
    credits = np.zeros(scores.shape)
    credits[correct[:count]], credits[wrong[:count]] = 1.0, -1.0
    return credits


# --------------------------------------------------------------------------------------- shaping of scores


def overlong(lengths: np.ndarray, max_new_tokens: int, share: float) -> np.ndarray:
    """Penalty added to each score, as `rewards.shaping.overlong` has it for one response; 0 where the share is 0."""
    if share == 0:
        return np.zeros(lengths.shape)
    return np.array([shaping.overlong(length, max_new_tokens, share) for length in lengths.tolist()])


def moving_baseline(mean: float, seen: int, total: float, count: int) -> tuple[float, int]:
    """(mean over all scores so far, their number) after `count` more with this sum; (0, 0) at first.
    arXiv 2402.14740 section 2."""
    return (mean * seen + total) / max(1, seen + count), seen + count


def role_baseline(mean: float, scores: np.ndarray, decay: float = 0.95) -> float:
    """The moving mean b of a role's scores after these n: decay^n b + (1 - decay^n) mean of the scores; 0 at first. As
    one score after another would move it, but for their order within a step. arXiv 2506.24119 (SPIRAL)."""
    if not scores.size:
        return mean
    kept = decay**scores.size
    return float(kept * mean + (1.0 - kept) * scores.mean())


def quantiles(pool: np.ndarray, scores: np.ndarray, count: int) -> np.ndarray:
    """Reward quantile of each score within a pool of scores: 0 is the best of `count`, the remainder joins the worst.

    Tied scores share a quantile, so their order does not matter. The top score has quantile 0, so that a rare success
    is not mixed with failures; any other tie has the worst quantile that one of its members would have.
    arXiv 2205.13636 (Quark).
    """
    ordered, size = np.sort(pool), max(1, pool.size // count)
    first = pool.size - np.searchsorted(ordered, scores, side="right")  # place of the first of a tie, from 0
    last = pool.size - np.searchsorted(ordered, scores, side="left") - 1  # and of its last
    return np.minimum(np.where(first == 0, first, last) // size, count - 1)


# ------------------------------------------------------------------------------------ one value for each token


def tuned_rewards(gap: np.ndarray, beta: float = 0.05, limit: float = 0.05) -> np.ndarray:
    """r_t = beta * (log p_tuned - log p_reference), held within +-limit; float64[T]. arXiv 2404.18922 (RTO)."""
    return np.clip(beta * gap, -limit, limit)


def token_rewards(score: float, penalty: np.ndarray, bonus: np.ndarray | float = 0.0) -> np.ndarray:
    """r_t = bonus_t - penalty_t, and the score on the last token; float64[T]."""
    rewards = bonus - penalty.astype(np.float64)
    rewards[-1] += score
    return rewards


def discounted(rewards: np.ndarray, gamma: float) -> np.ndarray:
    """G_t = r_t + gamma * G_(t+1), float64[T]."""
    returns, ahead = np.empty(rewards.shape), 0.0
    for t in range(rewards.size - 1, -1, -1):
        returns[t] = ahead = rewards[t] + gamma * ahead
    return returns


def gae(rewards: np.ndarray, values: np.ndarray, gamma: float, lam: float) -> np.ndarray:
    """A_t = d_t + gamma * lam * A_(t+1), d_t = r_t + gamma * V_(t+1) - V_t, V after the last token 0; float64[T].
    arXiv 1506.02438 equation 16. The returns are A + V."""
    ahead = np.append(values[1:], 0.0)
    return discounted(rewards + gamma * ahead - values, gamma * lam)


def process_advantages(outcomes: np.ndarray, process: Sequence[np.ndarray], gamma: float) -> list[np.ndarray]:
    """A_(i,t) = sum over s >= t of gamma^(s-t) (r_(i,s) - mean over siblings j of mean r_j) + leave-one-out outcome.

    This is leave-one-out over two sources of reward, the outcome of a response and the implicit rewards of its tokens.
    arXiv 2502.01456 equation 5 (PRIME).

    Args:
        outcomes: float[J], scores of the responses.
        process: J arrays float[T_j], implicit rewards of their tokens.
        gamma: discount of the process rewards.
    """
    means = np.array([rewards.mean() for rewards in process])
    others = (means.sum() - means) / max(1, means.size - 1)
    return [
        discounted(rewards - other, gamma) + outcome
        for rewards, other, outcome in zip(process, others, leave_one_out(outcomes), strict=True)
    ]


def span_advantages(span_rewards: Sequence[np.ndarray], gamma: float) -> list[np.ndarray]:
    """A_(i,t) = sum over s >= t of gamma^(s-t) (m_(i,s) - mean of all m of the group), over the tokens that have a span
    reward m.

    What span rewards add to the advantage of a response. arXiv 2402.03300 section 4.1.3 without the division by the
    deviation.

    Args:
        span_rewards: J arrays float[T_j], NaN on tokens without a reward.
        gamma: discount over tokens.
    """
    known = np.concatenate([m[~np.isnan(m)] for m in span_rewards])
    mean = known.mean() if known.size else 0.0
    return [discounted(np.nan_to_num(m - mean), gamma) for m in span_rewards]


# ------------------------------------------------------------------------------- over all tokens of the batch


def whitened(advantages: np.ndarray, mean: float, variance: float) -> np.ndarray:
    """(A - mean) / sqrt(variance + 1e-8), with mean and variance of the whole batch."""
    return (advantages - mean) / np.sqrt(variance + 1e-8)


def without_outliers(advantages: np.ndarray, limit: float = 3.0) -> np.ndarray:
    """0 for standardised advantages beyond `limit`, the rest as it is. arXiv 2505.02835 (StableReinforce)."""
    return np.where(np.abs(advantages) > limit, 0.0, advantages)


def _units(scores: np.ndarray) -> np.ndarray:
    """Scores over the largest of their sizes, so that neither squares nor quotients over- or underflow."""
    return scores / np.abs(scores).max()


def _equal(scores: np.ndarray) -> bool:
    return bool(scores.size < 2 or np.ptp(scores) == 0)
