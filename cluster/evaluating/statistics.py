"""What responses to prompts say of a model: pure functions of counts.

A prompt has n responses with a verdict, of which c are correct. Prompts are what a benchmark is a sample of, so every
interval is a bootstrap over prompts: whole prompts are drawn anew, with all their responses.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95  # of intervals
RESAMPLES = 10_000
CHUNK_DRAWS = 2_000_000  # numbers drawn at a time, for memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over prompts with its interval."""

    value: float
    low: float | None  # None where the bootstrap has nothing to say: fewer than two prompts, or all alike
    high: float | None
    prompts: int  # that it is a mean over


def pass_at(scored: int, correct: int, k: int) -> float:
    """Probability that one of k responses, drawn without replacement from those that there are, is correct:

    pass@k = 1 - C(n - c, k) / C(n, k)

    the unbiased estimator of arXiv 2107.03374 (Codex), here as the product over i = n - c + 1 .. n of (1 - k / i).

    Args:
        scored: n, at least k.
        correct: c, at most n.
        k: at least 1.
    """
    if not 1 <= k <= scored:
        raise ValueError(f"pass@k needs 1 <= k <= n, got k = {k} and n = {scored}")
    if scored - correct < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(scored - correct + 1, scored + 1))


def best_at(correct_by_score: Sequence[bool], k: int) -> float:
    """Probability that of k responses, drawn without replacement, the one with the highest score is correct:

    best@k = sum over i of [response i is correct] * C(n - i, k - 1) / C(n, k)

    with responses numbered from 1 by falling score: i is the best where the others are drawn from those behind it.

    Args:
        correct_by_score: of each response, the one with the highest score first; n >= k of them.
        k: at least 1.
    """
    size = len(correct_by_score)
    if not 1 <= k <= size:
        raise ValueError(f"best@k needs 1 <= k <= n, got k = {k} and n = {size}")
    ways = sum(math.comb(size - place, k - 1) for place, right in enumerate(correct_by_score, 1) if right)
    return ways / math.comb(size, k)


def majority(correct: int, others: Sequence[int]) -> float:
    """Whether the answer that most responses give is the correct one; of several that as many give, one is drawn.

    Args:
        correct: responses with the correct answer.
        others: responses with each other answer.

    Returns:
        1 or 0, or 1 / m where the correct answer is one of m that most responses give.
    """
    most = max(others, default=0)
    if correct == 0 or correct < most:
        return 0.0
    return 1.0 / (1 + sum(count == correct for count in others))


def resampled_means(values: np.ndarray, seed: Sequence[int], resamples: int = RESAMPLES) -> np.ndarray:
    """Means over prompts of bootstrap resamples.

    Args:
        values: float64[N, any number], a row for each prompt; NaN where a prompt has no value, which is left out of
            the mean.
        seed: of the draws.
        resamples: how many, R.

    Returns:
        float64[R, as many], NaN where a resample has no value at all.
    """
    draw = np.random.default_rng(list(seed))
    count = len(values)
    there = ~np.isnan(values)
    filled, weights_there = np.where(there, values, 0.0), there.astype(float)
    found = []
    rows = max(1, CHUNK_DRAWS // count)
    for start in range(0, resamples, rows):
        times = draw.multinomial(count, np.full(count, 1.0 / count), size=min(rows, resamples - start)).astype(float)
        with np.errstate(invalid="ignore"):
            found.append((times @ filled) / (times @ weights_there))
    return np.concatenate(found)


def estimates(values: np.ndarray, seed: Sequence[int] = (0,), resamples: int = RESAMPLES) -> list[Estimate | None]:
    """The mean of each column of `values` (as of `resampled_means`) with a percentile interval of LEVEL; None for a
    column without any value."""
    means = resampled_means(values, seed, resamples) if len(values) else np.empty((0, values.shape[1]))
    return [_estimate(values[:, column], means[:, column]) for column in range(values.shape[1])]


def mean_of_estimates(values: Sequence[np.ndarray], seed: int = 0, resamples: int = RESAMPLES) -> list[Estimate | None]:
    """The mean of several benchmarks, each weighing the same, column by column; prompts are drawn within each.

    Args:
        values: of each benchmark, as of `resampled_means`.
        seed: of the draws.
        resamples: how many.
    """
    found: list[Estimate | None] = []
    means = [resampled_means(each, (seed, number), resamples) for number, each in enumerate(values)]
    for column in range(values[0].shape[1]):
        columns = [each[:, column] for each in values]
        if any(np.isnan(each).all() for each in columns):
            found.append(None)
            continue
        value = float(np.mean([np.nanmean(each) for each in columns]))
        prompts = sum(int((~np.isnan(each)).sum()) for each in columns)
        certain = any(_is_flat(each) for each in columns)
        low, high = (None, None) if certain else _bounds(np.mean([each[:, column] for each in means], axis=0))
        found.append(Estimate(value=value, low=low, high=high, prompts=prompts))
    return found


def _estimate(values: np.ndarray, means: np.ndarray) -> Estimate | None:
    known = values[~np.isnan(values)]
    if not known.size:
        return None
    low, high = (None, None) if _is_flat(values) else _bounds(means)
    return Estimate(value=float(known.mean()), low=low, high=high, prompts=known.size)


def _is_flat(values: np.ndarray) -> bool:
    """Whether a bootstrap of these knows nothing: every resample would have the same mean."""
    known = values[~np.isnan(values)]
    return known.size < 2 or bool((known == known[0]).all())


def _bounds(means: np.ndarray) -> tuple[float, float]:
    outside = (1.0 - LEVEL) / 2.0
    low, high = np.nanquantile(means, [outside, 1.0 - outside])
    return float(low), float(high)
