"""The paper's rejection of groups: one that is rejected stays in its step, and is worth nothing.

winnow's own rows have the filter replace rejected groups, so that every update is full; from the same number of sampled
tokens a method that rejects two groups of three then makes a third of the updates. The paper samples its prompts,
removes groups, and trains on what is left, so that all methods make as many updates. Here the credit removes them, and
denominators count what is left.
"""

from dataclasses import replace

import numpy as np

from actors.filtering.rules import drop_none
from learner.methods.algorithms import ALGORITHMS as TABLE
from learner.methods.algorithms import Algorithm
from learner.methods.credit import Credit, credit, scaled


@credit("r [max r > 0]")
def right_somewhere(scores: np.ndarray) -> np.ndarray:
    """A_i = r_i, 0 in a group that is all wrong."""
    return scores * float(scores.max() > 0)


@credit("r [min r <= 0]")
def wrong_somewhere(scores: np.ndarray) -> np.ndarray:
    """A_i = r_i, 0 in a group that is all correct."""
    return scores * float(scores.min() <= 0)


@credit("r [min r <= 0 < max r]", siblings=2)
def mixed(scores: np.ndarray) -> np.ndarray:
    """A_i = r_i, 0 in a group that is all wrong or all correct."""
    return scores * float(scores.min() <= 0 < scores.max())


def _in_place(name: str, worth: Credit) -> Algorithm:
    about = f"{name}, whose rejected groups are not replaced. arXiv 2504.11343 section 4"
    return replace(TABLE[name], about=about, drop=drop_none, credit=worth, counts="credited")


ALGORITHMS = {
    "drop-all-wrong-in-place": _in_place("reinforce-drop-all-wrong", right_somewhere),
    "drop-all-correct-in-place": _in_place("reinforce-drop-all-correct", wrong_somewhere),
    "rej-in-place": _in_place("reinforce-rej", mixed),
    "rej-std-in-place": _in_place("reinforce-rej-std", scaled),
}
