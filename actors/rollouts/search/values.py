"""What a search makes of numbers: which branch to follow, and what the steps of a path are worth."""

import math
from collections.abc import Sequence


def uct(total: float, visits: int, parent_visits: int, explore: float = 1.0) -> float:
    """How much a branch is worth following: Q/N + explore * sqrt(ln N_parent / N); infinite where nobody was.

    Args:
        total: Q, the sum of the values found below it.
        visits: N, how many these are.
        parent_visits: the same of its parent.
        explore: c, the weight of branches that were followed less.
    """
    if not visits:
        return math.inf
    return total / visits + explore * math.sqrt(math.log(parent_visits) / visits)


def hard_label(right: Sequence[bool]) -> float | None:
    """Math-Shepherd's hard estimate of a step: 1 where any completion from there is right, else 0; None without any."""
    return float(any(right)) if right else None


def soft_label(right: Sequence[bool]) -> float | None:
    """Math-Shepherd's soft estimate of a step: the share of completions from there that are right; None without any."""
    return sum(right) / len(right) if right else None


def weighted_values(steps: Sequence[tuple[int, bool]]) -> list[float]:
    """ReST-MCTS*'s values v_k of the steps of a path: v_0 = 0, w_k = (1 - v_{k-1}) / (m_k + 1) * (1 - 2 r_k),
    v_k = max(v_{k-1} + w_k, 0).

    Args:
        steps: of each, m_k, how many more it takes at least to a right end, 0 at the last one; and whether it is on the
            way to one (r_k = 0).
    """
    values, value = list[float](), 0.0
    for remaining, right in steps:
        value = next_value(value, remaining, right=right)
        values.append(value)
    return values


def next_value(before: float, remaining: int, *, right: bool) -> float:
    """v_k of a step behind one of the value `before`; see `weighted_values`."""
    weighted = (1.0 - before) / (remaining + 1) * (1.0 if right else -1.0)
    return max(before + weighted, 0.0)
