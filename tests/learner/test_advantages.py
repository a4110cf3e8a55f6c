"""Advantages that the ranks make: of sets of siblings apart, and of a continued response as of one stream."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from actors.types import Group, Trajectory
from learner import advantages
from learner.advantages import KnownUpdate, RankAdvantages
from learner.batches.packing import pack
from learner.batches.types import Sample, TrainBatch, UpdateBatch
from learner.methods.algorithms import ALGORITHMS, Algorithm, algorithm_of
from learner.methods.choices import Normalisation
from learner.objective import ModelOutputs, TokenTerms, token_loss
from learner.settings import LearnerSettings, ModelSettings
from tests.builders import group, in_sets, learner_spec, planned, trained_samples

ON_RANK = [name for name, row in ALGORITHMS.items() if row.credits_on_rank]


@pytest.fixture(autouse=True)
def _one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advantages, "all_reduced", lambda tensor, device: tensor)


def outputs_of(batch: TrainBatch) -> ModelOutputs:
    """What models say, of each trained token by its id alone."""
    ids = torch.from_numpy(batch.targets).float()
    said = {
        name: (ids * scale).sin() - 1.5
        for scale, name in enumerate(("logp", "reference", "tuned", "process", "teacher", "informed"), 1)
    }
    return ModelOutputs(**said, critic=(ids * 7).cos())


def advantages_of(samples: Sequence[Sample], one: Group, algorithm: Algorithm, budget: int = 4096) -> list[np.ndarray]:
    """float64[T'] of each sample."""
    batches = tuple(pack(samples, budget))
    update = UpdateBatch(totals=planned(one, algorithm)[1], samples=tuple(samples), batches=batches)
    spec = replace(learner_spec(ModelSettings(), LearnerSettings(), algorithm), has_span_rewards=bool(one.span_rewards))
    (known,) = RankAdvantages(spec, torch.device("cpu"))(
        [KnownUpdate(update=update, outputs=tuple(map(outputs_of, batches)))]
    )
    found: list[np.ndarray] = [np.empty(0)] * len(samples)
    for batch in known.update.batches:
        for member, values in zip(batch.members, batch.split(batch.advantages), strict=True):
            found[member] = values
    return found


def cut(trajectory: Trajectory, at: int) -> tuple[Trajectory, Trajectory]:
    """A response whose last tokens, from the sampled one `at` on, were sampled on a stream of their own."""
    before, size = trajectory.tokens[~trajectory.sampled], int(np.count_nonzero(~trajectory.sampled)) + at
    names = ("tokens", "sampled", "logprobs", "versions")
    first = {name: getattr(trajectory, name)[:size] for name in names}
    prefix = {"tokens": before, "sampled": False, "logprobs": 0.0, "versions": -1}
    rest = {
        name: np.concatenate([np.broadcast_to(prefix[name], before.size), getattr(trajectory, name)[size:]]).astype(
            getattr(trajectory, name).dtype
        )
        for name in names
    }
    return replace(trajectory, **first), replace(trajectory, **rest, continues=True)


@pytest.mark.parametrize("spans", [False, True])
@pytest.mark.parametrize("name", ON_RANK)
def test_a_continued_response_has_the_advantages_of_one_stream(name: str, spans: bool) -> None:
    algorithm, whole = ALGORITHMS[name], group([1.0, -1.0, 1.0], [5, 4, 3], seed=3)
    if spans:
        rewards = [np.where(t.sampled, 0.5 * (t.tokens % 3), np.nan).astype(np.float32) for t in whole.trajectories]
        whole = replace(whole, span_rewards=tuple(rewards))
    first, rest = cut(whole.trajectories[0], 2)
    parts = replace(
        whole,
        trajectories=(first, rest, *whole.trajectories[1:]),
        verdicts=(whole.verdicts[0], *whole.verdicts),
    )
    if spans:
        mine = whole.span_rewards[0]
        tail = np.concatenate([np.full(3, np.nan, np.float32), mine[5:]])
        parts = replace(parts, span_rewards=(mine[:5], tail, *whole.span_rewards[1:]))
    wanted = advantages_of(trained_samples(whole, algorithm), whole, algorithm)
    for budget in (4096, 8):  # also where the two streams lie in different micro-batches
        found = advantages_of(trained_samples(parts, algorithm), parts, algorithm, budget)
        np.testing.assert_allclose(np.concatenate(found[:2]), wanted[0], rtol=1e-5)
        for mine, theirs in zip(found[2:], wanted[1:], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5)


@pytest.mark.parametrize(
    "name", [name for name in ON_RANK if ALGORITHMS[name].advantage_normalisation is Normalisation.NONE]
)
def test_each_set_of_siblings_has_a_baseline_of_its_own(name: str) -> None:
    algorithm = ALGORITHMS[name]
    one = in_sets(group([1.0, -1.0, 1.0, -1.0], [3, 3, 3, 3]), "aabb")
    alone = replace(one, trajectories=one.trajectories[2:], verdicts=one.verdicts[2:])
    found = advantages_of(trained_samples(one, algorithm), one, algorithm)[2:]
    for mine, theirs in zip(found, advantages_of(trained_samples(alone, algorithm), alone, algorithm), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5)


@pytest.mark.parametrize(("credit", "of_score"), [("", 0.0), ("centred", 1.0)])
def test_a_teacher_gives_each_token_its_log_ratio_beside_the_credit(credit: str, of_score: float) -> None:
    algorithm, one = algorithm_of("distill", {"credit": credit}), group([1.0, -1.0], [2, 1])
    said = [outputs_of(batch) for batch in pack(trained_samples(one, algorithm), 4096)]
    gap = torch.cat([output.teacher - output.logp for output in said]).double().numpy()
    found = advantages_of(trained_samples(one, algorithm), one, algorithm)
    np.testing.assert_allclose(np.concatenate(found), gap + of_score * np.array([1.0, 1.0, -1.0]), rtol=1e-5)


def test_the_gradient_of_distillation_is_that_of_the_divergence_from_the_teacher() -> None:
    # All six tokens of a vocabulary, each as often as the policy samples it: the mean is then the expectation.
    random = torch.Generator().manual_seed(0)
    logits, theirs = (torch.randn(6, generator=random, dtype=torch.float64) for _ in range(2))
    logits.requires_grad_()
    p, q = logits.log_softmax(0), theirs.log_softmax(0)
    (wanted,) = torch.autograd.grad((p.exp() * (p - q)).sum(), logits)
    terms = TokenTerms(
        logp=logits.log_softmax(0),
        entropy=torch.zeros(6),
        start=p.detach(),
        gap=torch.zeros(6),
        reference=None,
        advantages=(q - p).detach(),
        owners=torch.arange(6),
        turns=torch.arange(6),
    )
    (found,) = torch.autograd.grad((p.detach().exp() * token_loss(ALGORITHMS["distill"], terms)).sum(), logits)
    torch.testing.assert_close(found, wanted)
