"""Credits and losses against the worked numbers of the papers' formulas, gradients among them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.algorithms import ALGORITHMS, algorithm_of, best, clipped, likelihood, normalised, raw
from learner.settings import LearnerSettings


def value_and_gradient(loss, ratios: list[float], advantage: float) -> tuple[list[float], list[float]]:
    old = torch.full((len(ratios),), -1.0, dtype=torch.float64)
    logp = (old + torch.tensor(ratios, dtype=torch.float64).log()).requires_grad_()
    values = loss(logp, old, torch.full_like(old, advantage))
    values.sum().backward()
    return values.tolist(), logp.grad.tolist()


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "gradient"),
    [
        (1.4, 1.0, -1.2, 0.0),
        (0.8, 1.0, -0.8, -0.8),
        (1.4, -1.0, 1.4, 1.4),
        (0.7, -1.0, 0.8, 0.0),
        (1.0, 1.0, -1.0, -1.0),
    ],
)
def test_the_clipped_loss_and_its_gradient(ratio: float, advantage: float, value: float, gradient: float) -> None:
    values, gradients = value_and_gradient(clipped, [ratio], advantage)
    assert values == pytest.approx([value])
    assert gradients == pytest.approx([gradient])


def test_raft_plus_plus_on_its_worked_response() -> None:
    values, gradients = value_and_gradient(ALGORITHMS["raft++"].loss, [1.4, 0.8], 1.0)
    assert np.mean(values) == pytest.approx(-1.0)
    assert np.array(gradients) / 2 == pytest.approx([0.0, -0.4])


def test_clip_higher_lets_a_rare_good_token_grow_further() -> None:
    higher = algorithm_of(LearnerSettings(algorithm="raft++", clip_high=0.28)).loss
    values, _ = value_and_gradient(higher, [1.4, 0.8], 1.0)
    assert np.mean(values) == pytest.approx(-1.04)


def test_reinforce_on_a_wrong_response() -> None:
    values, _ = value_and_gradient(ALGORITHMS["reinforce"].loss, [1.4, 0.8], -1.0)
    assert np.mean(values) == pytest.approx(1.1)


def test_the_plain_likelihood_ignores_the_ratio() -> None:
    values, gradients = value_and_gradient(likelihood, [1.4], 2.0)
    assert values == pytest.approx([-2.0 * (-1.0 + np.log(1.4))])
    assert gradients == pytest.approx([-2.0])


@pytest.mark.parametrize(
    ("name", "keeps", "credit"),
    [
        ("raft", [True, False, True], [1, 0, 0, 0]),
        ("raft++", [True, False, True], [1, 0, 0, 0]),
        ("reinforce", [True, True, True], [1, -1, -1, -1]),
        ("reinforce-rej", [False, False, True], [1, -1, -1, -1]),
        ("grpo", [True, True, True], [1.5, -0.5, -0.5, -0.5]),
    ],
)
def test_each_row_on_the_three_groups_of_the_worked_example(name: str, keeps: list[bool], credit: list[float]) -> None:
    groups = [np.array(scores, float) for scores in ([1, 1, 1, 1], [-1, -1, -1, -1], [1, -1, -1, -1])]
    row = ALGORITHMS[name]
    assert [row.keep(scores) == "" for scores in groups] == keeps
    assert row.credit(groups[2]) == pytest.approx(credit)


def test_raft_never_imitates_the_best_of_a_wrong_group() -> None:
    assert best(np.array([-1.0, -1.0])).tolist() == [0, 0]
    assert best(np.array([0.0, 0.0])).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("scores", "ddof", "expected"),
    [
        ([1, -1, -1, -1], 0, [1.7321, -0.5774, -0.5774, -0.5774]),
        ([1, 1, -1, -1], 0, [1, 1, -1, -1]),
        ([1, 1, -1, -1], 1, [0.8660, 0.8660, -0.8660, -0.8660]),
        ([1, 1, 1, -1], 1, [0.5, 0.5, 0.5, -1.5]),
        ([0, 0, 1, 1], 1, [-0.8660, -0.8660, 0.8660, 0.8660]),
    ],
)
def test_group_normalisation(scores: list[float], ddof: int, expected: list[float]) -> None:
    chosen = algorithm_of(LearnerSettings(algorithm="grpo", std_ddof=ddof)).credit
    assert chosen(np.array(scores, float)) == pytest.approx(expected, abs=1e-4)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=16))
def test_normalised_advantages_are_finite_bounded_and_zero_where_all_are_equal(scores: list[float]) -> None:
    advantages = normalised(np.array(scores))
    assert np.isfinite(advantages).all()
    assert np.abs(advantages).max() <= np.sqrt(len(scores)) + 1e-9
    assert not normalised(np.full(len(scores), scores[0])).any()


@given(st.lists(st.sampled_from([-1.0, 1.0]), min_size=2, max_size=8), st.floats(0.1, 10), st.floats(-5, 5))
def test_grpo_does_not_care_for_the_scale_of_scores_and_reinforce_does(
    scores: list[float], scale: float, shift: float
) -> None:
    moved = np.array(scores) * scale + shift
    assert normalised(moved) == pytest.approx(normalised(np.array(scores)), abs=1e-6)
    assert raw(moved) == pytest.approx(moved)
