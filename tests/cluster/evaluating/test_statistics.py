import itertools
import math

import numpy as np
import pytest

from cluster.evaluating.statistics import (
    Estimate,
    best_at,
    estimates,
    majority,
    mean_of_estimates,
    pass_at,
    resampled_means,
)


def only(found: list[Estimate | None]) -> Estimate:
    (one,) = found
    assert one is not None
    return one


def bounds(found: Estimate) -> tuple[float, float]:
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def drawn(count: int, k: int) -> list[tuple[int, ...]]:
    return list(itertools.combinations(range(count), k))


@pytest.mark.parametrize("scored", range(1, 7))
def test_pass_at_k_is_the_share_of_all_draws_that_hold_a_correct_response(scored: int) -> None:
    for correct, k in itertools.product(range(scored + 1), range(1, scored + 1)):
        draws = drawn(scored, k)
        share = sum(min(draw) < correct for draw in draws) / len(draws)  # the first ones are correct
        assert pass_at(scored, correct, k) == pytest.approx(share, abs=1e-12)


def test_pass_at_k_of_hand() -> None:
    assert pass_at(16, 4, 1) == pytest.approx(0.25)
    assert pass_at(10, 3, 5) == pytest.approx(1 - 21 / 252)  # C(7, 5) / C(10, 5)
    assert pass_at(2000, 1, 1000) == pytest.approx(0.5)
    for bad in ((4, 2, 5), (4, 2, 0), (0, 0, 1)):
        with pytest.raises(ValueError, match="1 <= k <= n"):
            pass_at(*bad)


@pytest.mark.parametrize("right", list(itertools.product((True, False), repeat=4)))
def test_best_at_k_is_the_share_of_all_draws_whose_first_is_correct(right: tuple[bool, ...]) -> None:
    for k in range(1, 5):
        draws = drawn(4, k)
        assert best_at(right, k) == pytest.approx(sum(right[min(draw)] for draw in draws) / len(draws))
    with pytest.raises(ValueError, match="best@k needs"):
        best_at(right, 5)


@pytest.mark.parametrize(
    ("correct", "others", "value"),
    [(0, [], 0), (0, [3], 0), (1, [], 1), (3, [2, 2], 1), (2, [3], 0), (2, [2], 1 / 2), (1, [1, 1], 1 / 3)],
)
def test_a_majority_is_drawn_among_the_answers_that_most_give(correct: int, others: list[int], value: float) -> None:
    assert majority(correct, others) == pytest.approx(value)


def test_the_bootstrap_of_two_prompts_is_that_of_hand() -> None:
    """The mean of two draws from 0 and 1 is 0, 1/2 or 1 with probability 1/4, 1/2, 1/4."""
    means = resampled_means(np.array([[0.0], [1.0]]), (0,), 20_000)[:, 0]
    assert set(means) == {0.0, 0.5, 1.0}
    assert np.mean(means == 0.5) == pytest.approx(0.5, abs=0.02)
    found = only(estimates(np.array([[0.0], [1.0]])))
    assert (found.value, found.low, found.high, found.prompts) == (0.5, 0.0, 1.0, 2)


def test_the_standard_error_of_the_bootstrap_is_that_of_the_mean() -> None:
    values = np.random.default_rng(1).random((200, 1))
    means = resampled_means(values, (0,), 10_000)[:, 0]
    assert means.std() == pytest.approx(values.std() / math.sqrt(200), rel=0.03)


def test_a_prompt_without_a_value_is_in_no_mean() -> None:
    values = np.array([[1.0, np.nan], [0.0, 1.0], [1.0, 0.0]])
    first, second = estimates(values)
    assert only([first]).value == pytest.approx(2 / 3)
    assert only([second]).value == 0.5
    assert (only([first]).prompts, only([second]).prompts) == (3, 2)
    assert estimates(np.full((3, 1), np.nan)) == [None]
    assert estimates(np.empty((0, 2))) == [None, None]


def test_where_all_prompts_are_alike_there_is_no_interval() -> None:
    for values in (np.ones((8, 1)), np.array([[0.25]])):
        found = only(estimates(values))
        assert (found.low, found.high) == (None, None)


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Prompts have a pass rate drawn from Beta(1, 2), whose mean is a third, and four responses each."""
    draw, covered, tries = np.random.default_rng(3), 0, 400
    for number in range(tries):
        correct = draw.binomial(4, draw.beta(1.0, 2.0, size=120))
        low, high = bounds(only(estimates(correct[:, None] / 4, (number,), 1_000)))
        covered += low <= 1 / 3 <= high
    assert 0.92 <= covered / tries <= 0.98


def test_the_mean_of_benchmarks_weighs_each_the_same() -> None:
    large, small = np.tile([[1.0], [0.0]], (50, 1)), np.array([[1.0], [1.0], [1.0], [0.0]])
    found = only(mean_of_estimates([large, small]))
    low, high = bounds(found)
    assert found.value == pytest.approx((0.5 + 0.75) / 2)
    assert found.prompts == 104
    # the variances of both means, each divided by the number of benchmarks squared
    error = math.sqrt((0.25 / 100 + 0.1875 / 4) / 4)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.15)
    assert mean_of_estimates([large, np.full((2, 1), np.nan)]) == [None]
