"""How hard a prompt is that was never seen, from its tokens: a logistic regression on every group that is graded."""

from collections.abc import Iterable
from math import exp, log

import numpy as np

from actors.types import Prompt

BITS = 12  # of a bucket's number, so there are 4096
GRAMS = 3  # tokens of an n-gram, at most
RATE = 0.5  # of the gradient in a step
RIDGE = 1e-3  # of the weights in the loss
SURE = 0.98  # largest prediction; 1 - SURE is the least
MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, and its bits as good as random: 2^64 over the golden ratio


class Difficulty:
    """Predicts the pass rate of a prompt: 1 / (1 + exp(-w x)).

    x has 1/sqrt(K) in each of the K buckets that the prompt's n-grams of tokens fall into, and two more entries: 1, and
    a fifth of the logarithm of its length. A group with pass rate r moves

        w  to  (1 - RATE RIDGE) w - RATE (predicted - r) x,

    which is a step of gradient descent on the mean log-loss of its verdicts, with a ridge. Steps stay as large as they
    are, so that it follows a policy that learns, and it errs by what a single group errs by.

    It learns from the prompts that are dealt, which are chosen by what it says. So it is soon corrected where it takes
    a hard or an easy prompt for an undecided one, and the other way round only by prompts that share n-grams, or when
    no better prompt is among the next ones.

    After arXiv 2602.01970 (GPS), a small model, and arXiv 2510.26374 (BOTS), which infers unseen prompts from others.
    """

    def __init__(self, prompts: Iterable[Prompt]) -> None:
        """`prompts` are those that it may be asked about."""
        self.weights = np.zeros(2**BITS + 2)  # float64
        self._tokens = {prompt.id: prompt.tokens for prompt in prompts}

    def predict(self, prompt_id: str) -> float:
        """The pass rate that is expected of a prompt, from 1 - SURE to SURE; 1/2 before anything is learned."""
        return min(SURE, max(1.0 - SURE, self._rate(*_entries(self._tokens[prompt_id]))))

    def learn(self, prompt_id: str, rate: float) -> None:
        """A group of a prompt had this share of correct responses."""
        places, values = _entries(self._tokens[prompt_id])
        error = self._rate(places, values) - rate
        self.weights *= 1.0 - RATE * RIDGE
        self.weights[places] -= RATE * error * values

    def _rate(self, places: np.ndarray, values: np.ndarray) -> float:
        return 1.0 / (1.0 + exp(-float(self.weights[places] @ values)))


def _entries(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where x is not 0, int64[K + 2], and what it is there, float64[K + 2], for a prompt int32[P]."""
    buckets = _buckets(tokens)
    places = np.concatenate([buckets, [2**BITS, 2**BITS + 1]])
    values = np.full(places.size, buckets.size**-0.5)
    values[-2:] = 1.0, log(tokens.size) / 5.0
    return places, values


def _buckets(tokens: np.ndarray) -> np.ndarray:
    """The buckets of the n-grams of int32[P] tokens, each once, ascending, int64[K]; the same in every process."""
    ids = tokens.astype(np.uint64) + np.uint64(1)
    grams = [ids]
    for size in range(1, GRAMS):  # numbers of 64 bits go round
        grams.append(grams[-1][:-1] * MIX + ids[size:])
    return np.unique((np.concatenate(grams) * MIX) >> np.uint64(64 - BITS)).astype(np.int64)
