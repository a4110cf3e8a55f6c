"""Which groups the filter drops: each rule gives "" to keep a group, else the reason why it is rejected.

Rules are named for what they drop.

A score above zero is a correct response; the rules hold for scores of -1 and +1 as for 0 and 1.
"""

from collections.abc import Callable

import numpy as np

DropRule = Callable[[np.ndarray], str]  # float[J] scores of the responses with a verdict -> reason, "" to keep


def drop_none(scores: np.ndarray) -> str:
    """Keeps every group."""
    return ""


def drop_all_wrong(scores: np.ndarray) -> str:
    """Drops groups without a correct response ("remove all wrong", arXiv 2504.11343 section 4)."""
    return "" if scores.max() > 0 else "all_wrong"


def drop_all_correct(scores: np.ndarray) -> str:
    """Drops groups without a wrong response ("remove all correct", arXiv 2504.11343 section 4)."""
    return "" if scores.min() <= 0 else "all_correct"


def drop_both(scores: np.ndarray) -> str:
    """Drops groups that are all wrong or all correct (Reinforce-Rej, arXiv 2504.11343 section 4)."""
    return drop_all_wrong(scores) or drop_all_correct(scores)


def drop_out_of_band(scores: np.ndarray, low: float = 0.2, high: float = 0.8) -> str:
    """Drops groups whose share of correct responses lies outside [low, high] (PRIME, arXiv 2502.01456)."""
    share = float((scores > 0).mean())
    return "all_wrong" if share == 0 else "all_correct" if share == 1 else "" if low <= share <= high else "out_of_band"


RULES: dict[str, DropRule] = {
    "none": drop_none,
    "all-wrong": drop_all_wrong,
    "all-correct": drop_all_correct,
    "both": drop_both,
    "out-of-band": drop_out_of_band,
}
