import math

import pytest

from rewards.models.scoring import ProcessSettings
from rewards.shaping import (
    AGGREGATES,
    f_beta,
    hard_label,
    overlong,
    qwen_math,
    sigmoid,
    soft_label,
    sorft,
    stable_reinforce_consistency,
)


@pytest.mark.parametrize(
    ("model_score", "verified", "shaped"), [(2, 1, 0.73106), (2, 0, -0.26894), (-2, 1, 0.26894), (-2, 0, -0.73106)]
)
def test_qwen_math_gives_the_numbers_of_the_paper(model_score: float, verified: float, shaped: float) -> None:
    assert qwen_math(model_score, verified) == pytest.approx(shaped, abs=5e-6)


def test_a_verified_response_beats_any_other_whatever_the_model_says_of_them() -> None:
    assert qwen_math(-30, 1) > 0 > qwen_math(30, 0)


@pytest.mark.parametrize("score", [-1e6, -3.0, 0.0, 3.0, 1e6])
def test_a_sigmoid_never_overflows_and_mirrors_at_zero(score: float) -> None:
    assert sigmoid(score) + sigmoid(-score) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("accuracy", "consistency", "form", "reward"), [(1, 1, 1, 2.0), (1, 0, 1, 1.5), (1, -1, 1, 1.0), (0, 1, 1, 0.5)]
)
def test_consistency_counts_only_for_a_right_answer(
    accuracy: float, consistency: float, form: float, reward: float
) -> None:
    assert stable_reinforce_consistency(accuracy, consistency, form) == reward


@pytest.mark.parametrize(
    ("precision", "recall", "score"), [(0.5, 1, 0.90909), (1, 0.5, 0.52632), (0, 0, 0.0), (1, 1, 1.0)]
)
def test_f_beta_of_three_favours_recall(precision: float, recall: float, score: float) -> None:
    assert f_beta(precision, recall) == pytest.approx(score, abs=5e-6)


@pytest.mark.parametrize(
    ("predicted", "score"), [({"a", "b"}, 1 / 1.1), ({"a"}, 1.0), ({"b"}, 0.0), (set(), 0.0), ({"a", "made_up"}, 0.0)]
)
def test_sorft_gives_nothing_for_an_empty_set_or_a_name_that_the_input_lacks(predicted: set[str], score: float) -> None:
    assert sorft(predicted, {"a"}, known={"a", "b", "c"}) == pytest.approx(score)


def test_sorft_refuses_an_empty_gold_set() -> None:
    with pytest.raises(ValueError, match="gold set is empty"):
        sorft({"a"}, set(), known={"a"})


@pytest.mark.parametrize(("tokens", "penalty"), [(0, 0.0), (16384, 0.0), (18432, -0.5), (20480, -1.0), (99999, -1.0)])
def test_overlong_falls_over_the_last_fifth_as_in_dapo(tokens: int, penalty: float) -> None:
    assert overlong(tokens, 20480, 0.2) == pytest.approx(penalty)


@pytest.mark.parametrize(("max_new_tokens", "share"), [(0, 0.25), (-1, 0.25), (100, 0.0), (100, 1.5)])
def test_overlong_refuses_lengths_it_cannot_shape(max_new_tokens: int, share: float) -> None:
    with pytest.raises(ValueError, match="max_new_tokens > 0"):
        overlong(10, max_new_tokens, share)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min", 0.5),
        ("max", 0.9),
        ("product", 0.36),
        ("mean", 0.7333),
        ("geometric", 0.7114),
        ("last", 0.8),
        ("max-change", 0.5),
    ],
)
def test_three_steps_are_aggregated_as_the_papers_do(name: str, value: float) -> None:
    assert AGGREGATES[name]([0.9, 0.5, 0.8]) == pytest.approx(value, abs=5e-5)


@pytest.mark.parametrize("name", sorted(AGGREGATES))
def test_one_step_aggregates_to_its_own_score(name: str) -> None:
    assert AGGREGATES[name]([0.3]) == pytest.approx(0.3)


def test_every_aggregate_that_the_settings_allow_is_there() -> None:
    assert {ProcessSettings(aggregate=name).aggregate for name in AGGREGATES} == set(AGGREGATES)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scores", "value"), [([0.2, 0.9, 0.8], 0.9), ([0.9, 0.8, 0.1, 0.3], 0.1), ([0.5, 0.75, 0.5], 0.5)]
)
def test_max_change_is_the_score_after_the_largest_change_and_the_lower_of_equals(
    scores: list[float], value: float
) -> None:
    assert AGGREGATES["max-change"](scores) == value


def test_a_step_of_no_worth_makes_the_geometric_mean_nothing() -> None:
    assert AGGREGATES["geometric"]([0.0, 1.0]) == 0.0


def test_many_small_scores_do_not_vanish_in_the_geometric_mean() -> None:
    assert math.isclose(AGGREGATES["geometric"]([1e-200, 1e-200]), 1e-200)


@pytest.mark.parametrize(("correct", "hard", "soft"), [(2, 1.0, 0.25), (0, 0.0, 0.0), (8, 1.0, 1.0)])
def test_eight_completions_label_a_step_as_in_math_shepherd(correct: int, hard: float, soft: float) -> None:
    verdicts = [True] * correct + [False] * (8 - correct)
    assert (hard_label(verdicts), soft_label(verdicts)) == (hard, soft)
