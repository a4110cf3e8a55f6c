"""The loss of an update with all its pieces: worked numbers through the whole chain, and exact gradients."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from learner.batches.packing import empty_batch, pack
from learner.batches.samples import token_weight
from learner.batches.types import Sample, Totals, TrainBatch
from learner.engine import Measured
from learner.methods.algorithms import ALGORITHMS, Algorithm, algorithm_of
from learner.methods.choices import Anchor, KlEstimator, Mismatch, Ratio
from learner.methods.credit import raw
from learner.methods.losses import LOSSES
from learner.objective import (
    SUMS,
    SUPERVISED,
    ModelOutputs,
    OutcomeObjective,
    PolicyObjective,
    TokenTerms,
    ValueObjective,
    token_loss,
)
from tests.builders import group, samples_of, slopes

FROZEN = ("detached", "tapered")  # losses whose weights are held fixed
OWNERS = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3])
TURNS = torch.tensor([0, 0, 1, 2, 2, 3, 4, 4])  # the first response has two
START = torch.tensor([-1.2, -0.4, -2.0, -0.1, -0.9, -3.0, -0.7, -1.1], dtype=torch.float64)
MOVED = torch.tensor([0.4, -0.03, -0.9, 0.35, 0.02, 0.9, 0.6, -0.5], dtype=torch.float64)
GAP = torch.tensor([0.15, -0.4, 0.05, -0.25, 0.6, -0.1, 0.3, 0.02], dtype=torch.float64)
REFERENCE = START + torch.tensor([0.2, -0.3, 0.1, 0.5, -0.2, 0.7, -0.6, 0.05], dtype=torch.float64)
ENTROPY = torch.linspace(0.2, 2.0, 8, dtype=torch.float64)
ADVANTAGES = torch.tensor([0.7, -1.3, 0.4, -0.9], dtype=torch.float64)[OWNERS]


def one_token(start: float, *, moved: float, gap: float = 0.0, advantage: float = 1.0) -> TokenTerms:
    """A token whose log-probability has moved since the start of the step; its entropy is 1."""
    return TokenTerms(
        logp=torch.tensor([start + moved]),
        entropy=torch.ones(1),
        start=torch.tensor([start]),
        gap=torch.tensor([gap]),
        reference=None,
        advantages=torch.tensor([advantage]),
        owners=torch.tensor([0]),
        turns=torch.tensor([0]),
    )


def batch_of(algorithm: Algorithm, scores: list[float], lengths: list[int], **more: object) -> TrainBatch:
    (samples,) = samples_of(algorithm, [group(scores, lengths)])
    (batch,) = pack(samples, 4096, together=2 if algorithm.credit.pairs else 1)
    return replace(batch, **more)


def measured(algorithm: Algorithm, batch: TrainBatch, logp: list[float], known: ModelOutputs | None = None) -> Measured:
    outputs = torch.tensor(logp, dtype=torch.float64, requires_grad=True), torch.ones(len(logp)), None
    return PolicyObjective(algorithm, [known or ModelOutputs()], None)(0, batch, outputs)


def by_response(batch: TrainBatch, values: list[float]) -> list[float]:
    """One value for each response, the shortest first, at each of its tokens in the micro-batch."""
    rank = np.argsort(np.argsort(np.bincount(batch.owners)))
    return [values[rank[owner]] for owner in batch.owners]


# ------------------------------------------------------------------------------------------- worked examples


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [("seq-mean-token-sum", 11 / 2), ("token-mean", 11 / 6), ("seq-mean-token-mean", 1.75)],
)
def test_raft_on_the_two_responses_that_it_keeps(aggregate: str, expected: float) -> None:
    algorithm = algorithm_of("raft", {"aggregate": aggregate})
    batch = batch_of(algorithm, [1.0, -1.0, 1.0, -1.0], [2, 3, 4, 1])
    assert measured(algorithm, batch, by_response(batch, [-1.5, -2.0])).loss.item() == pytest.approx(expected)


def test_a_pair_of_log_ratios_two_and_minus_one() -> None:
    algorithm = ALGORITHMS["iterative-dpo"]
    batch = batch_of(algorithm, [-1.0, 1.0], [2, 4])
    reference = torch.tensor(by_response(batch, [-1.0, -3.0]), dtype=torch.float64)
    logp = by_response(batch, [-1.5, -2.5])
    assert measured(algorithm, batch, logp, ModelOutputs(reference=reference)).loss.item() == pytest.approx(
        0.55436, abs=1e-5
    )


def test_a_self_critical_response_mixed_with_a_worked_answer() -> None:
    algorithm = ALGORITHMS["self-critical"]
    (samples,) = samples_of(algorithm, [replace(group([0.5], [1]), greedy=0.3)])
    (sampled,) = pack(samples, 64)
    totals = Totals(tokens=1, responses=1, max_new_tokens=1)
    (worked,) = pack([replace(samples[0], sampler=None, weight=token_weight(algorithm.aggregate, 1, totals))], 64)
    objective = PolicyObjective(algorithm, [ModelOutputs()], None)
    losses = [
        objective(number, batch, (torch.tensor([logp]), torch.zeros(1), None)).loss.item()
        for number, batch, logp in ((0, replace(sampled, sampler=None), -10.0), (1, worked, -5.0))
    ]
    assert losses == pytest.approx([1.9968, 0.008])
    assert sum(losses) == pytest.approx(2.0048)


@pytest.mark.parametrize(("advantage", "loss"), [(1.0, -0.96), (-1.0, 1.2)])
def test_the_decoupled_objective_weighs_the_clipped_loss(advantage: float, loss: float) -> None:
    terms = one_token(-1.0, moved=math.log(1.5), gap=math.log(0.8), advantage=advantage)
    assert token_loss(ALGORITHMS["reinforce"], terms).item() == pytest.approx(loss)


def test_against_the_sampler_there_is_one_ratio_and_no_weight() -> None:
    algorithm = algorithm_of("reinforce", {"anchor": "sampler"})
    assert token_loss(algorithm, one_token(-1.0, moved=0.1, gap=-0.3)).item() == pytest.approx(-math.exp(-0.2))


def test_quark_adds_its_kl_and_takes_off_its_entropy() -> None:
    terms = replace(one_token(-2.0, moved=0.0), reference=torch.tensor([-1.5]))
    assert token_loss(ALGORITHMS["quark"], terms).item() == pytest.approx(2.0 + 0.05 * 0.125 - 0.06)


@pytest.mark.parametrize(("kind", "kl"), [("k2", 0.2402), ("k3", 0.1931)])
def test_grpo_with_a_kl_adds_the_estimate_to_every_token(kind: str, kl: float) -> None:
    algorithm = algorithm_of("grpo", {"kl_estimator": kind, "kl_loss": 0.1, "mismatch": "none"})
    batch = batch_of(algorithm, [1.0, -1.0], [2, 2])
    logp = [math.log(0.5)] * 4
    found = measured(
        algorithm, batch, logp, ModelOutputs(reference=torch.full((4,), math.log(0.25), dtype=torch.float64))
    )
    assert found.loss.item() == pytest.approx(0.1 * kl, abs=1e-4)


def test_the_outcome_loss_of_the_worked_implicit_rewards() -> None:
    batch = batch_of(ALGORITHMS["reinforce"], [1.0], [2])
    outputs, correct = [ModelOutputs(reference=torch.tensor([-1.2, -1.0]))], [torch.tensor([1.0])]
    logp = torch.tensor([-1.0, -0.5], requires_grad=True)
    loss = OutcomeObjective(outputs=outputs, correct=correct, responses=1)(0, batch, (logp,)).loss
    loss.backward()
    assert loss.item() == pytest.approx(0.67580, abs=1e-5)
    assert logp.grad.tolist() == pytest.approx([0.05 * (0.50875 - 1)] * 2, abs=1e-6)


def test_the_outcome_loss_is_a_mean_over_the_responses_of_the_whole_update() -> None:
    batch = batch_of(ALGORITHMS["reinforce"], [1.0, -1.0], [2, 1])
    outputs = [ModelOutputs(reference=torch.zeros(3))]
    objective = OutcomeObjective(outputs=outputs, correct=[torch.tensor([1.0, 0.0])], responses=4)
    assert objective(0, batch, (torch.zeros(3),)).loss.item() == pytest.approx(2 * math.log(2) / 4)


def test_the_value_loss_is_aggregated_as_the_policy_s() -> None:
    batch = batch_of(ALGORITHMS["ppo"], [1.0], [2])
    outputs = [ModelOutputs(critic=torch.tensor([0.5, 2.0]), returns=torch.tensor([2.0, 2.0]))]
    found = ValueObjective(outputs=outputs, clip=0.2)(0, batch, (torch.tensor([1.2, 2.0]),))
    assert found.loss.item() == pytest.approx(0.845 / 2)


def test_supervised_text_costs_its_negative_log_likelihood() -> None:
    tokens, trained = np.array([1, 2, 3], np.int32), np.array([False, True, True])
    (batch,) = pack([Sample(tokens=tokens, trained=trained, sampler=None, advantage=1.0, weight=0.5)], 64)
    assert measured(SUPERVISED, batch, [-1.0, -3.0]).loss.item() == pytest.approx(2.0)


def test_a_batch_that_trains_nothing_costs_nothing_but_has_a_gradient() -> None:
    for algorithm in (ALGORITHMS["grpo"], ALGORITHMS["iterative-dpo"], ALGORITHMS["self-critical"]):
        logp = torch.tensor([-1.0], requires_grad=True)
        found = PolicyObjective(algorithm, [], None)(0, empty_batch(), (logp, torch.zeros(1), None))
        found.loss.backward()
        assert (found.loss.item(), logp.grad.item()) == (0.0, 0.0)
    value = torch.tensor([0.3], requires_grad=True)
    for objective in (ValueObjective(outputs=[], clip=0.2), OutcomeObjective(outputs=[], correct=[], responses=1)):
        objective(0, empty_batch(), (value,)).loss.backward()
        assert value.grad.item() == 0.0


# ------------------------------------------------------------------------------------------------------ sums


def test_what_an_update_saw_is_counted_over_its_tokens() -> None:
    algorithm = algorithm_of("reinforce", {"mismatch_cap": 1.5})
    sampler = np.log(np.array([0.5, 0.5, 0.25, 0.5], np.float32))
    batch = batch_of(algorithm, [1.0], [4], sampler=sampler, shared=3)
    start = torch.full((4,), math.log(0.5), dtype=torch.float64)
    logp = [math.log(p) for p in (0.5, 0.7, 0.5, 0.35)]
    objective = PolicyObjective(algorithm, [ModelOutputs(logp=start)], None)
    sums = objective(0, batch, (torch.tensor(logp, dtype=torch.float64), torch.full((4,), 0.5), None)).sums
    assert tuple(sums) == SUMS
    assert {name: float(value) for name, value in sums.items()} == pytest.approx(
        {
            "loss": -(1.0 + 1.2 + 1.5 + 0.7) / 4,
            "tokens": 4,
            "computed": batch.tokens.size,
            "padding": batch.padding,
            "shared": 3,
            "rows": 1,
            "sequences": 1,
            "entropy": 2.0,
            "clipped": 2,
            "mismatch_kl": 2.0 - 1.0 - math.log(2.0),
            "capped": 1,
            "teacher_gap": 0.0,
            "told": 0.0,
            "told_loss": 0.0,
            "drift": 0.0,
            "drift_tokens": 0.0,
        }
    )
    assert torch.cat(objective.ratios).max().item() == pytest.approx(0.4)


def test_without_recorded_log_probabilities_the_sampler_is_taken_for_the_policy() -> None:
    algorithm = ALGORITHMS["reinforce"]
    batch = batch_of(algorithm, [1.0], [2], sampler=None)
    assert measured(algorithm, batch, [-1.0, -7.0]).loss.item() == pytest.approx(-1.0)
    assert measured(algorithm, batch, [-1.0, -7.0]).sums["mismatch_kl"].item() == 0.0


# -------------------------------------------------------------------------------------------------- gradients


def variations() -> dict[str, Algorithm]:
    base = Algorithm(about="", credit=raw, clip_dual=1.5, mismatch_cap=1.2)
    found = {
        f"{loss} {ratio} {anchor}": replace(base, loss=LOSSES[loss], ratio=ratio, anchor=anchor)
        for loss in LOSSES
        for ratio in Ratio
        for anchor in Anchor
    }
    found |= {str(kind): replace(base, mismatch=kind) for kind in Mismatch}
    found |= {str(kind): replace(base, kl_estimator=kind, kl_loss=0.3) for kind in (KlEstimator.K2, KlEstimator.K3)}
    whole = replace(base, kl_estimator=KlEstimator.K2, kl_loss=0.3, entropy=0.2, mismatch=Mismatch.TRUNCATE_RESPONSE)
    return found | {"entropy": replace(base, entropy=0.2), "all": whole}


@pytest.mark.parametrize(("name", "algorithm"), variations().items(), ids=variations())
def test_gradients_are_those_of_finite_differences_with_weights_held_fixed(name: str, algorithm: Algorithm) -> None:
    share = torch.linspace(0.5, 1.5, 8, dtype=torch.float64)
    frozen = name.startswith(FROZEN)

    def loss(logp: torch.Tensor, entropy: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        terms = TokenTerms(
            logp=logp,
            entropy=entropy,
            start=start,
            gap=GAP,
            reference=REFERENCE,
            advantages=ADVANTAGES,
            owners=OWNERS,
            turns=TURNS,
        )
        return share * token_loss(algorithm, terms)

    at, entropy = (START + MOVED).requires_grad_(), ENTROPY.clone().requires_grad_()
    loss(at, entropy, START).sum().backward()
    # A policy and an anchor that move together leave the ratio as it is.
    moved = slopes(lambda logp: loss(logp, ENTROPY, START + (logp - START - MOVED) * frozen), at.detach())
    torch.testing.assert_close(at.grad, moved, atol=1e-8, rtol=1e-6)
    assert at.grad.any()
    if algorithm.entropy:
        torch.testing.assert_close(entropy.grad, -algorithm.entropy * share)
    else:
        assert entropy.grad is None


@pytest.mark.parametrize("kind", Mismatch)
def test_weights_against_mismatch_carry_no_gradient_to_the_policy(kind: Mismatch) -> None:
    algorithm = replace(ALGORITHMS["reinforce"], mismatch=kind)
    logp = START.clone().requires_grad_()
    batch = batch_of(algorithm, [0.7], [8], sampler=(START - GAP).numpy())
    objective = PolicyObjective(algorithm, [ModelOutputs()], None)
    objective(0, batch, (logp, torch.zeros(8), None)).loss.backward()
    own = (GAP.sum() if kind.endswith("response") else GAP).exp().expand(8)
    weight = {"none": own * 0 + 1, "truncate": own.clamp(max=2.0), "mask": own * (own <= 2.0)}[kind.split("-")[0]]
    torch.testing.assert_close(logp.grad, -0.7 * weight / 8, atol=1e-7, rtol=1e-5)
