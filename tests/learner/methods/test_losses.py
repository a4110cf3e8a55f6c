"""Every loss, ratio, KL estimate and weight against the worked numbers of its paper, values and gradients."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from learner.methods.choices import KlEstimator, Mismatch, Ratio
from learner.methods.losses import (
    LOSSES,
    Clip,
    Loss,
    Terms,
    clipped,
    detached,
    kl_estimate,
    likelihood,
    log_ratio,
    mismatch_weight,
    per_response,
    preclipped,
    preferred,
    tapered,
    unclipped,
    value_loss,
)
from tests.builders import slopes, terms

PLAIN, DUAL = Clip(), Clip(dual=3.0)
FROZEN = ("detached", "tapered")  # losses whose weights are held fixed


def costs(loss: Loss, given_terms: Terms, clip: Clip = PLAIN) -> tuple[list[float], list[float]]:
    """(loss of each token, gradient of their sum to each log-probability)."""
    values = loss(given_terms, clip)
    (gradient,) = torch.autograd.grad(values.sum(), given_terms.logp)
    return values.tolist(), gradient.tolist()


# ------------------------------------------------------------------------------------------------------ losses


@pytest.mark.parametrize(
    ("clip", "ratio", "advantage", "value", "gradient"),
    [
        (PLAIN, 1.4, 1.0, -1.2, 0.0),
        (PLAIN, 0.8, 1.0, -0.8, -0.8),
        (PLAIN, 0.7, 1.0, -0.7, -0.7),
        (PLAIN, 1.4, -1.0, 1.4, 1.4),
        (PLAIN, 0.7, -1.0, 0.8, 0.0),
        (PLAIN, 1.0, 1.0, -1.0, -1.0),
        (PLAIN, 5.0, -1.0, 5.0, 5.0),
        (Clip(high=0.28), 1.4, 1.0, -1.28, 0.0),
        (Clip(high=0.28), 1.25, 1.0, -1.25, -1.25),
        (DUAL, 5.0, -1.0, 3.0, 0.0),
        (DUAL, 1.4, -1.0, 1.4, 1.4),
        (DUAL, 0.7, -1.0, 0.8, 0.0),
        (DUAL, 1.4, 1.0, -1.2, 0.0),
        (DUAL, 5.0, -0.5, 1.5, 0.0),
    ],
)
def test_the_clipped_loss_and_its_gradient(
    clip: Clip, ratio: float, advantage: float, value: float, gradient: float
) -> None:
    assert costs(clipped, terms([ratio], advantage), clip) == (pytest.approx([value]), pytest.approx([gradient]))


@pytest.mark.parametrize(
    ("loss", "clip", "advantage", "value", "gradient"),
    [
        (clipped, PLAIN, 1.0, -1.0, [0.0, -0.4]),
        (clipped, Clip(high=0.28), 1.0, -1.04, [0.0, -0.4]),
        (unclipped, PLAIN, 1.0, -1.1, [-0.7, -0.4]),
        (clipped, PLAIN, -1.0, 1.1, [0.7, 0.4]),
    ],
)
def test_the_worked_response_of_two_tokens(loss: Loss, clip: Clip, advantage: float, value: float, gradient) -> None:
    values, gradients = costs(loss, terms([1.4, 0.8], advantage), clip)
    assert np.mean(values) == pytest.approx(value)
    assert np.array(gradients) / 2 == pytest.approx(gradient)


def test_the_plain_likelihood_ignores_the_ratio() -> None:
    values, gradients = costs(likelihood, terms([1.4], 2.0))
    assert values == pytest.approx([-2.0 * (-1.0 + math.log(1.4))])
    assert gradients == pytest.approx([-2.0])


@pytest.mark.parametrize(
    ("loss", "advantage", "value", "gradient"),
    [
        (preclipped, -1.0, 1000.0, 0.0),
        (preclipped, 1.0, -1.2, 0.0),
        (clipped, -1.0, math.exp(20.0), math.exp(20.0)),
    ],
)
def test_only_the_loss_that_clips_first_bounds_a_huge_ratio(
    loss: Loss, advantage: float, value: float, gradient: float
) -> None:
    values, gradients = costs(loss, terms([math.exp(20.0 - 1e-12)], advantage))
    assert values == pytest.approx([value])
    assert gradients == pytest.approx([gradient])


@pytest.mark.parametrize(
    ("ratio", "low", "gradient"), [(1.5, 1.0, -1.28), (0.5, 1.0, -0.5), (0.5, 0.2, -0.8), (1.1, 0.2, -1.1)]
)
def test_a_clipped_weight_leaves_every_token_its_gradient(ratio: float, low: float, gradient: float) -> None:
    values, gradients = costs(detached, terms([ratio], 1.0), Clip(low=low, high=0.28))
    assert gradients == pytest.approx([gradient])
    assert values == pytest.approx([gradient * (-1.0 + math.log(ratio))])


@pytest.mark.parametrize("clip", [PLAIN, DUAL])
@pytest.mark.parametrize("loss", [loss for loss in LOSSES.values() if loss.scales], ids=lambda loss: loss.name)
def test_losses_that_scale_are_multiples_of_the_advantage(loss: Loss, clip: Clip) -> None:
    ratios, signs = [0.01, 0.7, 1.0, 1.4, 50.0] * 2, np.repeat([1.0, -1.0], 5)
    values, gradients = costs(loss, terms(ratios, signs), clip)
    thrice = costs(loss, terms(ratios, 3.0 * signs), clip)
    assert thrice == (pytest.approx(3.0 * np.array(values)), pytest.approx(3.0 * np.array(gradients)))
    assert not np.array(costs(loss, terms(ratios, 0.0), clip)).any()


@pytest.mark.parametrize(
    ("ratios", "reward", "gradient"),
    [([0.5], -1.0, 0.5), ([3.0], -1.0, 1.0), ([0.1], 1.0, -1.0), ([0.25, 2.0], -1.0, 0.5), ([4.0, 0.5], -1.0, 1.0)],
)
def test_wrong_responses_are_unlearned_only_as_far_as_the_policy_still_says_them(ratios, reward, gradient) -> None:
    _, gradients = costs(tapered, terms(ratios, reward, level=Ratio.PRODUCT))
    assert gradients == pytest.approx([gradient] * len(ratios))


def test_the_preference_loss_of_the_worked_pair() -> None:
    chosen, rejected = [1.0, 1.0], [-0.5, -0.25, -0.25]  # log-ratios to the reference, 2 and -1 in sum
    pair = terms(np.exp(chosen + rejected).tolist(), [1.0] * 2 + [-1.0] * 3, [0, 0, 1, 1, 1])
    values, gradients = costs(preferred, pair)
    each = per_response(torch.tensor(values), pair.owners)
    assert each.tolist() == pytest.approx([0.55436, 0.55436], abs=1e-5)
    slope = 0.1 / (1 + math.exp(0.3))  # of -log sigmoid(0.1 m) at m = 3; the pair's loss is the mean of the two
    assert np.array(gradients) / 2 == pytest.approx([-slope] * 2 + [slope] * 3)


def test_pairs_of_one_micro_batch_do_not_mix() -> None:
    alone = [terms([2.0, 0.5], [1, -1], [0, 1]), terms([0.25, 3.0], [1, -1], [0, 1])]
    both = terms([2.0, 0.5, 0.25, 3.0], [1, -1, 1, -1], [0, 1, 2, 3])
    assert costs(preferred, both)[0] == pytest.approx([value for one in alone for value in costs(preferred, one)[0]])


# ------------------------------------------------------------------------------------------------------ ratios


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (Ratio.TOKEN, [1.10517, 0.81873, 1.49182, 2.0]),
        (Ratio.SEQUENCE, [1.10517] * 3 + [2.0]),
        (Ratio.PRODUCT, [1.34986] * 3 + [2.0]),
    ],
)
def test_the_ratio_of_a_token_of_a_response_or_its_mean(level: Ratio, expected: list[float]) -> None:
    gap = torch.tensor([0.1, -0.2, 0.4, math.log(2.0)], dtype=torch.float64)
    found = log_ratio(gap, torch.tensor([0, 0, 0, 1]), level)
    assert found.exp().tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("advantage", "value", "gradient"), [(1.0, -1.2, 0.0), (-1.0, 1.22140, 1.22140)])
def test_a_turn_has_a_ratio_of_its_own(advantage: float, value: float, gradient: float) -> None:
    turns = terms(np.exp([0.1, 0.3, 0.0]).tolist(), advantage, [0, 0, 1], level=Ratio.TURN)
    values, gradients = costs(clipped, turns)
    assert values == pytest.approx([value] * 2 + [-advantage], abs=1e-5)
    assert gradients == pytest.approx([gradient] * 2 + [-advantage], abs=1e-5)


@pytest.mark.parametrize(("advantage", "value", "gradient"), [(1.0, -1.0004, 0.0), (-1.0, 1.10517, 1.10517)])
def test_a_sequence_ratio_is_clipped_for_the_whole_response(advantage: float, value: float, gradient: float) -> None:
    response = terms(np.exp([0.1, -0.2, 0.4]).tolist(), advantage, level=Ratio.SEQUENCE)
    values, gradients = costs(clipped, response, Clip(low=3e-4, high=4e-4))
    assert values == pytest.approx([value] * 3, abs=1e-5)
    assert gradients == pytest.approx([gradient] * 3, abs=1e-5)


@pytest.mark.parametrize(("length", "expected"), [(10, 2.6), (100, 13780)])
def test_products_of_ratios_grow_with_the_length(length: int, expected: float) -> None:
    gap = torch.full((length,), math.log(1.1), dtype=torch.float64)
    assert log_ratio(gap, torch.zeros(length, dtype=torch.int64), Ratio.PRODUCT)[0].exp().item() == pytest.approx(
        expected, rel=3e-3
    )


# ---------------------------------------------------------------------------------------------------------- KL


@pytest.mark.parametrize(
    ("p", "reference", "expected"), [(0.5, 0.25, [0.6931, 0.2402, 0.1931]), (0.2, 0.4, [-0.6931, 0.2402, 0.3069])]
)
def test_the_three_kl_estimates_of_one_token(p: float, reference: float, expected: list[float]) -> None:
    gap = torch.tensor([math.log(p / reference)], dtype=torch.float64)
    assert [kl_estimate(kind, gap).item() for kind in KlEstimator] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "expected"), [(KlEstimator.K1, 0.14384), (KlEstimator.K2, 0.16121), (KlEstimator.K3, 0.14384)]
)
def test_only_the_second_estimate_is_biased(kind: KlEstimator, expected: float) -> None:
    policy, reference = (torch.tensor(p, dtype=torch.float64) for p in ([0.5, 0.5], [0.25, 0.75]))
    assert (policy * kl_estimate(kind, policy.log() - reference.log())).sum().item() == pytest.approx(
        expected, abs=1e-5
    )


@pytest.mark.parametrize("kind", KlEstimator)
def test_the_gradient_that_each_estimate_has_in_expectation(kind: KlEstimator) -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(4, dtype=torch.float64, generator=draw).requires_grad_()
    reference = torch.randn(4, dtype=torch.float64, generator=draw).log_softmax(-1)
    logp = logits.log_softmax(-1)
    truth = {
        "k1": 0.0 * logits.sum(),
        "k2": (logp.exp() * (logp - reference)).sum(),
        "k3": (reference.exp() * (reference - logp)).sum(),
    }[kind]
    every_outcome = (logp.detach().exp() * kl_estimate(kind, logp - reference)).sum()
    found, expected = (torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (every_outcome, truth))
    torch.testing.assert_close(found, expected)
    if kind is not KlEstimator.K1:
        assert expected.abs().max() > 0.01


@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=20))
@example([-3.509545649649226e-06])
@settings(deadline=None)
def test_the_third_estimate_is_never_negative(gaps: list[float]) -> None:
    for dtype in (torch.float32, torch.float64):
        assert kl_estimate(KlEstimator.K3, torch.tensor(gaps, dtype=dtype)).min() >= 0


def test_the_third_estimate_of_a_small_gap_is_not_lost_in_rounding() -> None:
    assert kl_estimate(KlEstimator.K3, torch.tensor([1e-4])).item() == pytest.approx(5e-9, rel=1e-2)


# ---------------------------------------------------------------------------------------------------- mismatch


@pytest.mark.parametrize(
    ("kind", "cap", "expected"),
    [
        ("none", 2.0, [1, 1, 1, 1]),
        ("truncate", 2.0, [0.5, 1, 2, 1.5]),
        ("mask", 2.0, [0.5, 1, 0, 1.5]),
        ("mask", 5.0, [0.5, 1, 4, 1.5]),
        ("truncate-response", 3.0, [2, 2, 2, 1.5]),
        ("truncate-response", 1.8, [1.8, 1.8, 1.8, 1.5]),
        ("mask-response", 2.0 + 1e-9, [2, 2, 2, 1.5]),
        ("mask-response", 1.8, [0, 0, 0, 1.5]),
    ],
)
def test_weights_against_sampler_mismatch(kind: str, cap: float, expected: list[float]) -> None:
    gap = torch.tensor([0.5, 1.0, 4.0, 1.5], dtype=torch.float64).log()
    owners = torch.tensor([0, 0, 0, 1])
    assert mismatch_weight(Mismatch(kind), gap, owners, cap).tolist() == pytest.approx(expected)
    assert log_ratio(gap, owners, Ratio.SEQUENCE).exp().tolist() == pytest.approx([1.2599] * 3 + [1.5], abs=1e-4)


def test_every_kind_of_mismatch_weight_is_one_where_the_policies_agree() -> None:
    for kind in Mismatch:
        for cap in (1.0, 2.0):  # a weight that just reaches the cap is not masked
            assert mismatch_weight(kind, torch.zeros(3), torch.tensor([0, 0, 1]), cap).tolist() == [1.0, 1.0, 1.0]


# ------------------------------------------------------------------------------------------------------- value


@pytest.mark.parametrize(
    ("value", "loss", "gradient"), [(1.2, 0.845, 0.0), (0.6, 0.98, -1.4), (0.1, 1.805, -1.9), (3.5, 1.125, 1.5)]
)
def test_the_value_loss_takes_the_worse_of_clipped_and_not(value: float, loss: float, gradient: float) -> None:
    now = torch.tensor([value], dtype=torch.float64, requires_grad=True)
    found = value_loss(now, torch.tensor([2.0]), torch.tensor([0.5]), 0.2)
    found.sum().backward()
    assert found.item() == pytest.approx(loss)
    assert now.grad.item() == pytest.approx(gradient)


# --------------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("level", Ratio)
@pytest.mark.parametrize("clip", [PLAIN, Clip(low=0.3, high=0.1, dual=1.5)], ids=["plain", "dual"])
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name: str, clip: Clip, level: Ratio) -> None:
    old = torch.tensor([-1.2, -0.4, -2.0, -0.1, -0.9, -3.0, -0.7, -1.1], dtype=torch.float64)
    gap = torch.tensor([0.4, -0.03, -0.9, 0.35, 0.02, 0.9, 8.0, -0.5], dtype=torch.float64)
    owners = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3])
    advantages = torch.tensor([0.7, -1.3, 0.4, -0.9], dtype=torch.float64)[owners]
    share = torch.linspace(0.5, 1.5, 8, dtype=torch.float64)

    def loss(logp: torch.Tensor) -> torch.Tensor:
        ratio = log_ratio((gap if name in FROZEN else logp - old), owners, level)
        given_terms = Terms(logp=logp, log_ratio=ratio, advantage=advantages, reference=old - 0.3, owners=owners)
        return share * LOSSES[name](given_terms, clip)

    at = (old + gap).requires_grad_()
    honest = Terms(
        logp=at, log_ratio=log_ratio(at - old, owners, level), advantage=advantages, reference=old - 0.3, owners=owners
    )
    (found,) = torch.autograd.grad((share * LOSSES[name](honest, clip)).sum(), at)
    torch.testing.assert_close(found, slopes(loss, at.detach()), atol=1e-7, rtol=1e-6)
    assert found.any()


@pytest.mark.parametrize("level", [Ratio.TOKEN, Ratio.PRODUCT])
@pytest.mark.parametrize("name", sorted(LOSSES.keys() - {"preferred"}))
def test_on_policy_every_loss_has_the_gradient_of_the_policy_gradient(name: str, level: Ratio) -> None:
    owners, advantages = [0, 0, 0, 1, 1], [0.5, 0.5, 0.5, -2.0, -2.0]
    lengths = np.array([3, 3, 3, 2, 2]) if level is Ratio.PRODUCT and name not in (*FROZEN, "likelihood") else 1
    _, found = costs(LOSSES[name], terms([1.0] * 5, advantages, owners, level), DUAL)
    assert found == pytest.approx(-np.array(advantages) * lengths)


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - {"preferred"}))
def test_on_policy_a_sequence_ratio_gives_the_policy_gradient_too(name: str) -> None:
    _, found = costs(LOSSES[name], terms([1.0] * 5, [0.5] * 3 + [-2.0] * 2, [0, 0, 0, 1, 1], Ratio.SEQUENCE), DUAL)
    assert found == pytest.approx([-0.5] * 3 + [2.0] * 2)
