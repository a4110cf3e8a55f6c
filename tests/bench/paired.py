"""Intervals of ratios between two sides that took turns: their steps are what is drawn anew (a bootstrap)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from cluster.evaluating.statistics import LEVEL, resampled_means
from tests.bench.reached import WINDOW

DRAWS = 2000
Line = Mapping[str, float]  # totals after a step, as `tests.bench.reached` writes them
Turns = Sequence[Sequence[Line]]


def steps_of(turns: Turns, what: str) -> np.ndarray:
    """float64[N, 2], seconds and `what` ("samples" or "tokens") of each step of all turns but their first."""
    rows = [
        (after["seconds"] - before["seconds"], after[what] - before[what])
        for lines in turns
        for before, after in pairwise(lines)
    ]
    return np.array(rows, dtype=float).reshape(-1, 2)


def speed_interval(ours: Turns, theirs: Turns, what: str = "samples") -> tuple[float, float] | None:
    """Bounds of (our `what` a second) / (theirs); None where a side has fewer than two steps."""
    rates = []
    for side, turns in enumerate((ours, theirs)):
        steps = steps_of(turns, what)
        if len(steps) < 2:
            return None
        means = resampled_means(steps, (side,), DRAWS)
        rates.append(means[:, 1] / means[:, 0])
    return bounds(rates[0] / rates[1])


def until_interval(ours: Turns, theirs: Turns, accuracy: float) -> tuple[float, float]:
    """Bounds of (our seconds until `accuracy`) / (theirs), medians over the turns.

    In each draw a step has as many correct samples as chance gives it with the accuracy that it had, and the mean of
    the last steps is taken anew. A turn that does not reach the accuracy in a draw counts with all its seconds.
    """
    draw = np.random.default_rng(0)
    medians = [np.median([_until(lines, accuracy, draw) for lines in turns], axis=0) for turns in (ours, theirs)]
    return bounds(medians[0] / medians[1])


def _until(lines: Sequence[Line], accuracy: float, draw: np.random.Generator) -> np.ndarray:
    """float64[DRAWS], seconds until the accuracy."""
    seconds, total = (np.array([line[name] for line in lines]) for name in ("seconds", "samples"))
    counts = np.diff(total, prepend=0.0).astype(int)
    correct = draw.binomial(
        counts, [line["correct"] / max(1, n) for line, n in zip(lines, counts, strict=True)], (DRAWS, len(lines))
    )
    summed = [
        np.cumsum(np.pad(each, ((0, 0), (1, 0))), axis=1) for each in (correct, np.broadcast_to(counts, correct.shape))
    ]
    begin = np.maximum(0, np.arange(1, len(lines) + 1) - WINDOW)
    recent = [each[:, 1:] - each[:, begin] for each in summed]
    reached = recent[0] >= accuracy * np.maximum(1, recent[1])
    first = np.where(reached.any(axis=1), reached.argmax(axis=1), len(lines) - 1)
    return seconds[first]


def bounds(draws: np.ndarray) -> tuple[float, float]:
    """The percentile interval of LEVEL."""
    outside = (1 - LEVEL) / 2
    low, high = np.quantile(draws, [outside, 1 - outside])
    return float(low), float(high)
