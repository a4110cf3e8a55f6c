"""The algorithms, as a table of small pure functions that can be read from top to bottom.

    keep    which groups teach                    scores[J] -> "" or the reason of the rejection
    credit  what each response is worth           scores[J] -> advantages[J]
    loss    what a token costs, to be minimised   (logp[T], old_logp[T], advantage[T]) -> [T]

Scores are -1 (wrong) and +1 (correct) unless the run says otherwise; J counts the judged responses of one group. The
functions use array and tensor methods only, so the table can be read without torch.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from actors.rules import RULES, KeepRule, keep_all, mixed, no_wrong

if TYPE_CHECKING:
    import torch

Credit = Callable[[np.ndarray], np.ndarray]
Loss = Callable[["torch.Tensor", "torch.Tensor", "torch.Tensor"], "torch.Tensor"]


class Choices(Protocol):
    """What a run may choose about an algorithm; `LearnerSettings` is one."""

    @property
    def algorithm(self) -> str: ...
    @property
    def aggregate(self) -> str: ...
    @property
    def clip_low(self) -> float: ...
    @property
    def clip_high(self) -> float: ...
    @property
    def std_ddof(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """One row of the table."""

    keep: KeepRule
    credit: Credit
    loss: Loss
    aggregate: str  # a key of AGGREGATIONS
    counts: Literal["all", "credited"] = "all"  # whether responses of credit 0 are trained on and stand in denominators
    siblings: int = 1  # smallest group size with which the algorithm means anything
    needs: frozenset[str] = frozenset()  # what the wiring must provide beyond the policy


# ---------------------------------------------------------------------------------------------- credit


def best(scores: np.ndarray) -> np.ndarray:
    """w_i = 1[r_i = max_j r_j and r_i > 0]; without the guard a group of wrong answers would teach its mistakes.
    arXiv 2304.06767; arXiv 2504.11343 equation 6."""
    return ((scores == scores.max()) & (scores > 0)).astype(np.float64)


def raw(scores: np.ndarray) -> np.ndarray:
    """A_i = r_i: imitate the correct, unlearn the wrong. arXiv 2504.11343 section 3."""
    return scores.astype(np.float64)


def normalised(scores: np.ndarray, ddof: int = 1) -> np.ndarray:
    """A_i = (r_i - mean r) / std r, exactly 0 where all scores are equal; never larger than sqrt(J) in size.
    arXiv 2402.03300 equation 21 (which leaves `ddof` open; torch.std, and so most code, has 1)."""
    scores = scores.astype(np.float64)
    if scores.size == 1 or np.ptp(scores) == 0:
        return np.zeros_like(scores)
    return (scores - scores.mean()) / scores.std(ddof=ddof)


# ------------------------------------------------------------------------------------------------ loss


def likelihood(logp: "torch.Tensor", old_logp: "torch.Tensor", advantage: "torch.Tensor") -> "torch.Tensor":
    """L = -A log p, without ratio or clip. Several updates on one batch are then uncorrected."""
    return -advantage * logp


def clipped(
    logp: "torch.Tensor", old_logp: "torch.Tensor", advantage: "torch.Tensor", low: float = 0.2, high: float = 0.2
) -> "torch.Tensor":
    """L = -min(s A, clip(s, 1-low, 1+high) A) with s = p / p_old. arXiv 1707.06347 equation 7, token by token."""
    ratio = (logp - old_logp).clamp(-20.0, 20.0).exp()
    return -(ratio * advantage).minimum(ratio.clamp(1.0 - low, 1.0 + high) * advantage)


# ----------------------------------------------------------------------------------------- aggregation

AGGREGATIONS: dict[str, str] = {
    "token-mean": "sum over all tokens / number of tokens",
    "seq-mean-token-mean": "mean over responses of (sum over its tokens / its length)",
    "seq-mean-token-sum": "mean over responses of (sum over its tokens)",
    "constant": "sum over all tokens / (number of responses * rollout.max_new_tokens)",
}

# ----------------------------------------------------------------------------------------------- table

ALGORITHMS: dict[str, Algorithm] = {
    # Rejection sampling: imitate the best of each group. Simple and quick at first; the entropy falls.
    "raft": Algorithm(keep=no_wrong, credit=best, loss=likelihood, aggregate="seq-mean-token-mean", counts="credited"),
    # RAFT with importance ratio and clip, for several updates on a batch. arXiv 2504.11343 equation 6.
    "raft++": Algorithm(keep=no_wrong, credit=best, loss=clipped, aggregate="seq-mean-token-mean", counts="credited"),
    # Every response with its score, no baseline. Groups of wrong answers make it unstable. Equation 5.
    "reinforce": Algorithm(keep=keep_all, credit=raw, loss=clipped, aggregate="seq-mean-token-mean"),
    # Reinforce on mixed groups only: the default. arXiv 2504.11343 section 4.
    "reinforce-rej": Algorithm(keep=mixed, credit=raw, loss=clipped, aggregate="seq-mean-token-mean", siblings=2),
    # Group-normalised scores; equal groups give zero but stand in the denominators. arXiv 2402.03300.
    "grpo": Algorithm(keep=keep_all, credit=normalised, loss=clipped, aggregate="seq-mean-token-mean", siblings=2),
}


def algorithm_of(choices: Choices, keep: str = "") -> Algorithm:
    """The row that a run trains with, its own choices filled in.

    Args:
        choices: name of the algorithm, clip range, aggregation and ddof.
        keep: a key of `actors.rules.RULES` instead of the row's own rule; "" leaves it.
    """
    row = ALGORITHMS[choices.algorithm]
    if row.loss is clipped:
        row = replace(row, loss=partial(clipped, low=choices.clip_low, high=choices.clip_high))
    if row.credit is normalised:
        row = replace(row, credit=partial(normalised, ddof=choices.std_ddof))
    return replace(row, keep=RULES[keep] if keep else row.keep, aggregate=choices.aggregate or row.aggregate)
