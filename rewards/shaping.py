"""Formulas that shape rewards: numbers in, a number out. Each names its paper; nothing here knows a response.

The worked numbers of the tests are those of the papers, or were computed from their formulas.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType


def sigmoid(score: float) -> float:
    """1 / (1 + exp(-score)), without overflow at either end."""
    if score >= 0:
        return 1.0 / (1.0 + math.exp(-score))
    grown = math.exp(score)
    return grown / (1.0 + grown)


# ------------------------------------------------------------------------------------- several rewards as one


def qwen_math(model_score: float, verified: float, alpha: float = 0.5) -> float:
    """sigmoid(alpha * model_score) + (verified - 1); in (0, 1) when verified is 1, in (-1, 0) when it is 0, so that
    the verifier always outweighs the model. arXiv 2409.12122 (Qwen2.5-Math)."""
    return sigmoid(alpha * model_score) + (verified - 1.0)


def stable_reinforce_consistency(accuracy: float, consistency: float, form: float) -> float:
    """accuracy * (1 + 0.5 * consistency) + 0.5 * form. Accuracy and form are 0 or 1; consistency is 1 where the
    reasoning ends at the answer that is given, 0 where it does not (the authors' code: 1, 0 undecided, -1).
    arXiv 2505.02835 (StableReinforce)."""
    return accuracy * (1.0 + 0.5 * consistency) + 0.5 * form


def f_beta(precision: float, recall: float, beta: float = 3.0) -> float:
    """(1 + beta^2) * P * R / (beta^2 * P + R), and 0 where both are 0; above 1, beta favours recall.
    arXiv 2502.20127 (SoRFT), beta 3."""
    below = beta**2 * precision + recall
    return (1.0 + beta**2) * precision * recall / below if below > 0 else 0.0


def sorft(predicted: Collection[str], gold: Collection[str], known: Collection[str]) -> float:
    """F-beta (beta 3) of a predicted set against the gold one; 0 where nothing is predicted, or something that the
    input does not name. arXiv 2502.20127 (SoRFT).

    Raises:
        ValueError: the gold set is empty, which no prediction could ever meet.
    """
    said, wanted = set(predicted), set(gold)
    if not wanted:
        raise ValueError("the gold set is empty: F-beta has no recall; leave such tasks out of the data")
    if not said or not said <= set(known):
        return 0.0
    found = len(said & wanted)
    return f_beta(found / len(said), found / len(wanted))


def overlong(tokens: int, max_new_tokens: int, share: float) -> float:
    """min(0, (max_new_tokens - buffer - tokens) / buffer), not below -1, with buffer = share * max_new_tokens: 0 up to
    (1 - share) * max_new_tokens, then falling to -1. arXiv 2503.14476 equation 13 (DAPO).

    Raises:
        ValueError: `max_new_tokens` is not positive, or `share` not in (0, 1].
    """
    if max_new_tokens <= 0 or not 0 < share <= 1:
        raise ValueError(
            f"a length is shaped against max_new_tokens > 0 and a share in (0, 1], got {max_new_tokens} and {share}"
        )
    buffer = share * max_new_tokens
    return max(-1.0, min(0.0, (max_new_tokens - buffer - tokens) / buffer))


# ------------------------------------------------------------------------------------- scores of steps as one


def _geometric(scores: Sequence[float]) -> float:
    return 0.0 if min(scores) <= 0 else math.exp(math.fsum(math.log(score) for score in scores) / len(scores))


def _max_change(scores: Sequence[float]) -> float:
    """The score that follows the largest change |p_i - p_(i-1)|, the lowest such score where changes are equal; of
    one step, its score. No published definition was found; this one reads the name as it stands."""
    changes = [(abs(after - before), -after) for before, after in pairwise(scores)]
    return -max(changes)[1] if changes else scores[0]


# Each takes the scores of all steps, in [0, 1] and at least one, and returns one of the same range. min is
# Math-Shepherd's (arXiv 2312.08935); arXiv 2311.05821 compares mean, product, max and min.
AGGREGATES: Mapping[str, Callable[[Sequence[float]], float]] = MappingProxyType(
    {
        "min": min,
        "max": max,
        "product": math.prod,
        "mean": lambda scores: math.fsum(scores) / len(scores),
        "geometric": _geometric,
        "last": lambda scores: scores[-1],
        "max-change": _max_change,
    }
)


# ------------------------------------------------------------------------------------- labels and votes


def hard_label(verdicts: Sequence[bool]) -> float:
    """1 where any completion of a step is correct, else 0; of at least one. arXiv 2312.08935 (Math-Shepherd)."""
    return float(any(verdicts))


def soft_label(verdicts: Sequence[bool]) -> float:
    """The share of a step's completions that are correct; of at least one. arXiv 2312.08935 (Math-Shepherd)."""
    return sum(verdicts) / len(verdicts)
