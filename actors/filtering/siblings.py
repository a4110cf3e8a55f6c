"""Which responses of a group are compared with each other, which of these sets the drop rule refuses, and which
responses of the others are trained on.

Where an environment has the policy speak for several seats, or solve what it made up itself, the responses of a group
are several sets of siblings. Rule and credit are asked about each set alone; the ledger counts the group, which is
trained on where any of its sets is kept.

A set may have more responses than are trained on. Its credit is then that of all of them, and the rest is spare.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from actors.arrow import group_of
from actors.filtering.rules import DropRule
from actors.types import Summary, Times

FAILED = "failed"  # the reason of a set with fewer than two verdicts
SPARE = "spare"  # that of a response whose set is trained on without it


def refusals(summary: Summary, drop: DropRule) -> list[str]:
    """Why each set of siblings of a group is refused; "" where it is kept."""
    scores = np.array(summary.scores)
    return [drop(scores[list(one.scored)]) if one.has_verdicts else FAILED for one in summary.sets]


def refusal(summary: Summary, drop: DropRule) -> str:
    """Why a group is refused, "" where any of its sets is kept: the reason of its first set that has verdicts."""
    reasons = refusals(summary, drop)
    return "" if "" in reasons else next((reason for reason in reasons if reason != FAILED), FAILED)


def has_verdicts(summary: Summary) -> bool:
    """Whether the drop rule can be asked about any set of siblings."""
    return any(one.has_verdicts for one in summary.sets)


def largest_variance(scores: np.ndarray, size: int) -> np.ndarray:
    """Which `size` of J scores vary most, int64[size], ascending; all where there are no more. arXiv 2504.13818 (PODS).

    They are the k highest and the size - k lowest, for one of the values of k; of scores of two values half of each, as
    far as there are. Of equal scores the first count.

    A gradient from them is biased in size and not in direction. Let p be the pass rate, scores be 0 and 1, k of the m
    that are trained on be correct, and a credit be score - p, with p from all J. As p g1 + (1 - p) g0 = 0 holds of the
    mean gradients g1 and g0 of log-probabilities of correct and wrong responses,

        k/m (1 - p) g1 - (1 - k/m) p g0  =  [k/m (1 - p) + (1 - k/m) p^2 / (1 - p)] g1,

    which is the gradient p g1 of the pass rate for k/m = p, and for k/m = 1/2 that times

        ((1 - p)^2 + p^2) / (2 p (1 - p)):  1 at p = 1/2, 4.6 at p = 0.1 and at 0.9.

    So a prompt counts the more the rarer one of its outcomes is, with the noise of the few responses that have it.

    Args:
        scores: float64[J].
        size: at least 1.
    """
    if size >= scores.size:
        return np.arange(scores.size)
    ranked = np.sort(scores)
    parts = [np.concatenate([ranked[: size - k], ranked[scores.size - k :]]) for k in range(size + 1)]
    values, counts = np.unique(max(parts, key=_scatter), return_counts=True)
    chosen = [np.flatnonzero(scores == value)[:count] for value, count in zip(values, counts, strict=True)]
    return np.sort(np.concatenate(chosen))


def trained_on(scores: Sequence[float], places: Sequence[int], most: int | None) -> list[int]:
    """Which responses of a set of siblings that is kept are trained on.

    Args:
        scores: of the group's J scored responses.
        places: which of the J are of the set.
        most: how many at most; None: all.
    """
    if most is None:
        return list(places)
    of_set = np.array([scores[place] for place in places])
    return [places[index] for index in largest_variance(of_set, most)]


def refused_rows(batch: pa.RecordBatch, drop: DropRule, most: int | None = None) -> list[str]:
    """Of a group that is trained on: why the response of each row is not; "" where it is.

    Args:
        batch: of the group.
        drop: the rule that has kept it.
        most: how many responses of a set of siblings are trained on at most; None: all.
    """
    names = batch.column("siblings")
    if names[0] == names[-1] and (most is None or batch.num_rows <= most):  # sets lie together, so there is one
        return [""] * batch.num_rows
    group = group_of(batch)
    summary = Summary.of(group, Times())
    reasons, sets = refusals(summary, drop), summary.sets
    trained = {
        place
        for one, reason in zip(sets, reasons, strict=True)
        if not reason
        for place in trained_on(summary.scores, one.scored, most)
    }
    found, scored = list[str](), 0
    numbers = summary.siblings or (0,) * len(summary.outcomes)
    for number, outcome, rows in zip(numbers, summary.outcomes, group.responses, strict=True):
        is_spare = outcome.scored and scored not in trained
        scored += outcome.scored
        found += [reasons[number] or SPARE * is_spare] * len(rows)
    return found


def _scatter(scores: np.ndarray) -> float:
    """Their variance, times the square of their number: exact where they are small whole numbers, so that every process
    finds the same one the largest."""
    return float(scores.size * (scores * scores).sum() - scores.sum() ** 2)
