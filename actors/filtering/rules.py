"""Which groups teach: each rule gives "" to keep a group, else the reason why it is rejected.

A score above zero is a correct response; the rules hold for scores of -1 and +1 as for 0 and 1.
"""

from collections.abc import Callable

import numpy as np

KeepRule = Callable[[np.ndarray], str]  # float[J] scores of the judged responses -> reason, "" to keep


def keep_all(scores: np.ndarray) -> str:
    """Keeps every group."""
    return ""


def no_wrong(scores: np.ndarray) -> str:
    """Rejects groups without a correct response ("remove all wrong", arXiv 2504.11343 section 4)."""
    return "" if scores.max() > 0 else "all_wrong"


def no_correct(scores: np.ndarray) -> str:
    """Rejects groups without a wrong response ("remove all correct", arXiv 2504.11343 section 4)."""
    return "" if scores.min() <= 0 else "all_correct"


def mixed(scores: np.ndarray) -> str:
    """Keeps only groups with both correct and wrong responses (Reinforce-Rej, arXiv 2504.11343 section 4)."""
    return no_wrong(scores) or no_correct(scores)


def band(scores: np.ndarray, low: float = 0.2, high: float = 0.8) -> str:
    """Keeps groups whose share of correct responses lies in [low, high] (PRIME, arXiv 2502.01456)."""
    share = float((scores > 0).mean())
    return "all_wrong" if share == 0 else "all_correct" if share == 1 else "" if low <= share <= high else "out_of_band"


RULES: dict[str, KeepRule] = {
    "all": keep_all,
    "no-wrong": no_wrong,
    "no-correct": no_correct,
    "mixed": mixed,
    "band": band,
}
