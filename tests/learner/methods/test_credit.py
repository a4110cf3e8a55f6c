"""What responses and tokens are worth: the worked numbers of the papers, and what must hold for any scores."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from learner.methods.credit import (
    CREDITS,
    above,
    best,
    centred,
    discounted,
    gae,
    leave_one_out,
    moving_baseline,
    normalised,
    overlong,
    paired,
    process_advantages,
    quantiles,
    raw,
    relative,
    role_baseline,
    scaled,
    span_advantages,
    token_rewards,
    tuned_rewards,
    whitened,
    without_outliers,
)

CENTRED = {
    "centred": centred,
    "scaled": scaled,
    "normalised": normalised,
    "normalised over n": replace(normalised, ddof=0),
    "leave-one-out": leave_one_out,
    "relative": relative,
}
ANY_SCORES = st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=16).map(np.array)
# Multiples of 1/4 add up without rounding in any order.
PLAIN_SCORES = st.lists(st.integers(-16, 16).map(lambda n: n / 4), min_size=1, max_size=16).map(np.array)


# --------------------------------------------------------------------------------------------- worked numbers


@pytest.mark.parametrize(
    ("credit", "scores", "expected"),
    [
        (best, [1, -1, 1, -1], [1, 0, 1, 0]),
        (best, [0.2, 0.9, 0.5], [0, 1, 0]),
        (raw, [1, -1, -1, -1], [1, -1, -1, -1]),
        (centred, [1, -1, -1, -1], [1.5, -0.5, -0.5, -0.5]),
        (centred, [1, 1, -1, -1], [1, 1, -1, -1]),
        (centred, [1, 0, 0, 0], [0.75, -0.25, -0.25, -0.25]),
        (replace(scaled, ddof=0), [1, -1, -1, -1], [1.1547, -1.1547, -1.1547, -1.1547]),
        (replace(scaled, ddof=1), [1, -1, -1, -1], [1, -1, -1, -1]),
        (replace(normalised, ddof=0), [1, -1, -1, -1], [1.7321, -0.5774, -0.5774, -0.5774]),
        (replace(normalised, ddof=1), [1, -1, -1, -1], [1.5, -0.5, -0.5, -0.5]),
        (replace(normalised, ddof=0), [1, 1, -1, -1], [1, 1, -1, -1]),
        (replace(normalised, ddof=1), [1, 1, -1, -1], [0.8660, 0.8660, -0.8660, -0.8660]),
        (replace(normalised, ddof=0), [1, 1, 1, -1], [0.5774, 0.5774, 0.5774, -1.7321]),
        (replace(normalised, ddof=1), [1, 1, 1, -1], [0.5, 0.5, 0.5, -1.5]),
        (leave_one_out, [1, 0, 0, 1], [0.6667, -0.6667, -0.6667, 0.6667]),
        (leave_one_out, [2, 1, 0, -3], [2.6667, 1.3333, 0, -4]),
        (leave_one_out, [1, 0, 0, 0], [1, -0.3333, -0.3333, -0.3333]),
        (relative, [1, -1, -1, -1], [3, -1, -1, -1]),
        (relative, [1, 1, 1, -1], [1 / 3, 1 / 3, 1 / 3, -1]),
        (relative, [-1, -1], [0, 0]),
        (relative, [-1.5, -1, 0, 1], [-1, -1, 1 / 3, 5 / 3]),
        (replace(relative, nothing=0.0), [1, 0, 0, 0], [3, -1, -1, -1]),
        (replace(relative, nothing=0.0), [0.5, 0.25, 0, 0.25], [1, 0, -1, 0]),
        (paired, [1, -1, 1, 1], [1, -1, 0, 0]),
        (paired, [-1, -1, 1, 1, -1], [-1, -1, 1, 1, 0]),
    ],
)
def test_credits_of_the_worked_groups(credit, scores: list[float], expected: list[float]) -> None:
    assert credit(np.array(scores, float)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("credit", CENTRED.values(), ids=CENTRED)
def test_one_sibling_has_no_baseline_and_no_advantage(credit) -> None:
    assert credit(np.array([1.0])).tolist() == [0.0]


@pytest.mark.parametrize(("threshold", "kept"), [(0.7, 4), (0.8, 3), (0.9, 1)])
def test_rising_thresholds_keep_less_and_leave_out_what_just_reaches_them(threshold: float, kept: int) -> None:
    assert replace(above, threshold=threshold)(np.array([0.2, 0.75, 0.85, 0.9, 0.95])).sum() == kept


@pytest.mark.parametrize("score", [-1.0, 0.0])
def test_the_best_of_a_wrong_group_is_not_imitated(score: float) -> None:
    assert best(np.full(3, score)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("length", "penalty"), [(100, 0.0), (16384, 0.0), (18432, -0.5), (20480, -1.0)], ids=lambda value: str(value)
)
def test_a_response_is_penalised_over_the_last_fifth_of_the_length(length: int, penalty: float) -> None:
    assert overlong(np.array([length]), 20480, 0.2) == pytest.approx([penalty])


def test_no_length_is_penalised_without_a_share() -> None:
    assert overlong(np.array([1, 20480]), 20480, 0.0).tolist() == [0.0, 0.0]


def test_the_moving_baseline_is_the_mean_of_the_scores_before() -> None:
    state, advantages = (0.0, 0), []
    for score in (1.0, 0.0, 1.0):
        advantages.append(score - state[0])
        state = moving_baseline(*state, score, 1)
    assert advantages == [1.0, -1.0, 0.5]
    assert moving_baseline(0.5, 4, 6.0, 2) == pytest.approx((8 / 6, 6))
    assert moving_baseline(0.0, 0, 0.0, 0) == (0.0, 0)


def test_the_baseline_of_a_role_moves_a_twentieth_of_the_way_for_each_score() -> None:
    assert role_baseline(0.0, np.array([1.0])) == pytest.approx(0.05)
    assert role_baseline(0.05, np.array([-1.0])) == pytest.approx(0.05 * 0.95 - 0.05)
    assert role_baseline(0.4, np.array([1.0, 0.0]), decay=0.5) == pytest.approx(0.25 * 0.4 + 0.75 * 0.5)
    assert role_baseline(0.4, np.empty(0)) == 0.4


@given(st.lists(st.just(0.7), min_size=1, max_size=9).map(np.array), st.floats(-1, 1))
def test_equal_scores_move_a_baseline_as_one_after_another_would(scores: np.ndarray, mean: float) -> None:
    found = mean
    for score in scores:
        found = role_baseline(found, np.array([score]))
    assert role_baseline(mean, scores) == pytest.approx(found)


@pytest.mark.parametrize(
    ("scores", "count", "expected"),
    [
        ([0.9, 0.1, 0.5, 0.7, 0.3, 0.2], 3, [0, 2, 1, 0, 1, 2]),
        ([7, 6, 5, 4, 3, 2, 1], 3, [0, 0, 1, 1, 2, 2, 2]),
        ([1, 1, -1, -1], 2, [0, 0, 1, 1]),
        ([0.5, 0.2], 5, [0, 1]),
    ],
)
def test_reward_quantiles_of_the_pool(scores: list[float], count: int, expected: list[int]) -> None:
    assert quantiles(np.array(scores), np.array(scores), count).tolist() == expected


# ---------------------------------------------------------------------------------------------- token by token


@pytest.mark.parametrize(
    ("lam", "advantages", "returns"), [(0.95, [0.751, 0.58, 0.4], [0.951, 0.98, 1.0]), (1.0, [0.8, 0.6, 0.4], [1] * 3)]
)
def test_generalised_advantages_and_returns(lam: float, advantages: list[float], returns: list[float]) -> None:
    values = np.array([0.2, 0.4, 0.6])
    found = gae(np.array([0.0, 0.0, 1.0]), values, 1.0, lam)
    assert found == pytest.approx(advantages)
    assert found + values == pytest.approx(returns)


def test_returns_are_discounted_from_the_end() -> None:
    assert discounted(np.array([1.0, 2.0, 4.0]), 0.5).tolist() == [3.0, 4.0, 4.0]


def test_the_kl_is_taken_off_each_token_and_the_score_lies_on_the_last() -> None:
    assert token_rewards(1.0, 0.05 * np.array([0.2, 0.1])) == pytest.approx([-0.01, 0.995])


@pytest.mark.parametrize(
    ("tuned", "last", "expected"), [(-1.0, False, 0.045), (-1.0, True, 1.045), (0.0, False, 0.045)]
)
def test_a_tuned_policy_rewards_each_token_within_bounds(tuned: float, last: bool, expected: float) -> None:
    reference, logp = -2.0, -1.5
    bonus = tuned_rewards(np.array([tuned - reference] * 2))
    rewards = token_rewards(1.0, 0.01 * np.array([logp - reference] * 2), bonus)
    assert rewards[int(last)] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("outcomes", "process", "gamma", "expected"),
    [
        ([1, 0], [[0.1, 0.3], [0.2]], 1.0, [[1.0, 1.1], [-1.0]]),
        ([1, -1, 0], [[0.1, 0.3], [0.6], [0.0, 0.3]], 0.5, [[1.1875, 1.425], [-1.075], [-0.45, -0.1]]),
        ([1, 0, 0, 0], [[0.0], [0.0], [0.0], [0.0]], 1.0, [[1], [-1 / 3], [-1 / 3], [-1 / 3]]),
        ([1, 1], [[0.4], [0.1]], 1.0, [[0.3], [-0.3]]),
    ],
)
def test_process_rewards_add_their_returns_to_the_outcome(outcomes, process, gamma: float, expected) -> None:
    found = process_advantages(np.array(outcomes, float), [np.array(tokens) for tokens in process], gamma)
    assert [tokens.tolist() for tokens in found] == [pytest.approx(tokens) for tokens in expected]


# ---------------------------------------------------------------------------------------------- over the batch


def test_whitened_advantages_have_mean_zero_and_deviation_one() -> None:
    advantages = np.array([0.751, 0.58, 0.4])
    found = whitened(advantages, advantages.mean(), advantages.var(ddof=1))
    assert found == pytest.approx([0.9913, 0.0171, -1.0084], abs=1e-3)


def test_advantages_beyond_three_deviations_teach_nothing() -> None:
    assert without_outliers(np.array([-3.1, -3.0, 0.5, 3.0, 3.1])).tolist() == [0.0, -3.0, 0.5, 3.0, 0.0]


# -------------------------------------------------------------------------------------------------- any scores


@given(ANY_SCORES)
@settings(deadline=None)
def test_advantages_are_finite_for_any_scores(scores: np.ndarray) -> None:
    for credit in (*CREDITS.values(), replace(normalised, ddof=0), replace(scaled, ddof=0)):
        assert np.isfinite(credit(scores)).all()


@given(st.floats(-1e300, 1e300), st.integers(1, 16))
@settings(deadline=None)
def test_equal_scores_teach_exactly_nothing_where_credit_is_relative(score: float, siblings: int) -> None:
    for credit in CENTRED.values():
        assert not credit(np.full(siblings, score)).any()


@given(ANY_SCORES)
@example(np.array([5e-324] * 3 + [0.0] * 13))
@example(np.array([25e-324] + [0.0] * 15))
@settings(deadline=None)
def test_normalised_advantages_never_exceed_the_root_of_the_group_size(scores: np.ndarray) -> None:
    for ddof in (0, 1):
        assert np.abs(replace(normalised, ddof=ddof)(scores)).max() <= np.sqrt(scores.size) * (1 + 1e-9)


@given(PLAIN_SCORES, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_advantages_follow_their_responses_in_any_order(scores: np.ndarray, random) -> None:
    order = random.sample(range(scores.size), scores.size)
    for credit in CREDITS.values():
        if credit is not paired:
            assert credit(scores[order]) == pytest.approx(credit(scores)[order], abs=1e-9)
    assert np.bincount((paired(scores[order]) + 1).astype(int), minlength=3).tolist() == (
        np.bincount((paired(scores) + 1).astype(int), minlength=3).tolist()
    )


@given(PLAIN_SCORES)
@settings(deadline=None)
def test_there_is_a_wrong_response_to_each_correct_one_in_pairs(scores: np.ndarray) -> None:
    credits = paired(scores)
    assert (credits > 0).sum() == (credits < 0).sum() == min((scores > 0).sum(), (scores <= 0).sum())
    assert (scores[credits > 0] > 0).all()
    assert (scores[credits < 0] <= 0).all()


@given(PLAIN_SCORES)
@settings(deadline=None)
def test_advantages_against_the_group_sum_to_zero(scores: np.ndarray) -> None:
    for credit in (centred, normalised, leave_one_out, relative):
        assert credit(scores).sum() == pytest.approx(0.0, abs=1e-9)


@given(PLAIN_SCORES)
@settings(deadline=None)
def test_leaving_one_out_is_centring_times_a_constant(scores: np.ndarray) -> None:
    siblings = scores.size
    assert leave_one_out(scores) * (siblings - 1) == pytest.approx(centred(scores) * siblings)


@given(PLAIN_SCORES, st.floats(0.1, 10), st.floats(-5, 5))
@settings(deadline=None)
def test_grpo_does_not_care_for_the_scale_of_scores(scores: np.ndarray, scale: float, shift: float) -> None:
    assert normalised(scores * scale + shift) == pytest.approx(normalised(scores), abs=1e-6)


@given(st.lists(st.sampled_from([-1.0, 1.0]), min_size=2, max_size=16).map(np.array))
def test_maxrl_has_the_gradient_of_the_mean_over_correct_responses(scores: np.ndarray) -> None:
    # mean over responses of A_i g_i = mean over the correct ones of g_i - mean over all of g_i, for any g
    found = relative(scores)
    correct = scores > 0
    if correct.any():
        assert found / scores.size == pytest.approx(correct / correct.sum() - 1 / scores.size)
    assert found.max() <= scores.size - 1


def test_reinforce_rej_does_care_for_the_scale_of_scores() -> None:
    scores = np.array([1.0, -1.0, -1.0])
    assert raw((scores + 1) / 2).tolist() == [1.0, 0.0, 0.0]
    assert raw(scores).tolist() == [1.0, -1.0, -1.0]


@given(PLAIN_SCORES, st.integers(1, 6), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_quantiles_do_not_depend_on_order_and_better_scores_never_have_worse_ones(
    scores: np.ndarray, count: int, random
) -> None:
    found = quantiles(scores, scores, count)
    assert quantiles(np.array(random.sample(list(scores), scores.size)), scores, count).tolist() == found.tolist()
    assert (np.diff(found[np.argsort(scores)]) <= 0).all()
    assert found.max() < count


def test_a_rare_success_has_a_quantile_of_its_own_among_many_failures() -> None:
    pool = np.array([1.0] + [-1.0] * 9)
    assert quantiles(pool, np.array([1.0, -1.0]), 5).tolist() == [0, 4]
    assert quantiles(np.ones(10), np.array([1.0]), 5).tolist() == [0]


@pytest.mark.parametrize(
    ("span_rewards", "gamma", "expected"),
    [
        # two responses with rewards on the spans that end at these tokens; the mean of all span rewards is 0.5
        ([[np.nan, 0.9, np.nan, 0.3], [0.3, np.nan]], 1.0, [[0.2, 0.2, -0.2, -0.2], [-0.2, 0.0]]),
        ([[np.nan, 0.9, np.nan, 0.3], [0.3, np.nan]], 0.5, [[0.175, 0.35, -0.1, -0.2], [-0.2, 0.0]]),
        ([[0.7, 0.7], [0.7]], 1.0, [[0.0, 0.0], [0.0]]),
        ([[np.nan, np.nan], [np.nan]], 1.0, [[0.0, 0.0], [0.0]]),
    ],
)
def test_a_token_gets_the_span_rewards_that_end_after_it_less_the_groups_mean(
    span_rewards: list[list[float]], gamma: float, expected: list[list[float]]
) -> None:
    found = span_advantages([np.array(of) for of in span_rewards], gamma)
    for of, wanted in zip(found, expected, strict=True):
        assert of == pytest.approx(wanted, abs=1e-12)
