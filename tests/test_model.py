"""The learner's forward pass and the invariance of its gradient, on the CPU with a tiny random model."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import group, trajectory, verdict

from actors.types import Group, Summary
from actors.world import ALPHABET
from learner.algorithms import AGGREGATIONS, algorithm_of
from learner.batching import Sample, TrainBatch, pack, plan_updates, sequences_of
from learner.model import Policy, load_policy
from learner.settings import LearnerSettings, ModelSettings
from learner.tiny import write_tiny_model


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    folder = tmp_path_factory.mktemp("model")
    write_tiny_model(folder, alphabet=ALPHABET, seed=3)
    return load_policy(folder, ModelSettings(dtype="float32"), logit_chunk=2048)


GROUPS = [group([1.0, -1.0, -1.0, 1.0], [9, 30, 4, 17], id=number, seed=5) for number in range(4)]


def forward(policy: Policy, batch: TrainBatch, temperature: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    arrays = (torch.from_numpy(array) for array in (batch.tokens, batch.positions, batch.targets))
    return policy(*arrays, temperature)


def gradient(policy: Policy, shares: list[list[TrainBatch]], loss) -> torch.Tensor:
    policy.zero_grad()
    for batch in itertools.chain.from_iterable(shares):
        logp, _ = forward(policy, batch)
        old = torch.from_numpy(batch.old_logprobs)
        (loss(logp, old, torch.from_numpy(batch.advantages)) * torch.from_numpy(batch.weights)).sum().backward()
    return torch.cat([parameter.grad.flatten() for parameter in policy.parameters()])


def samples_of(aggregate: str, groups: Sequence[Group] = GROUPS) -> list[Sample]:
    algorithm = algorithm_of(LearnerSettings(aggregate=aggregate))
    summaries = [Summary.of(one, seconds_generate=0, seconds_verify=0) for one in groups]
    (plan,) = plan_updates(summaries, algorithm, updates=1, ranks=1, longest=32)
    return [sample for one in groups for sample in sequences_of(one, algorithm, plan.totals)]


def test_packed_sequences_give_what_each_gives_alone(policy: Policy) -> None:
    samples = samples_of("token-mean")
    packed = pack(samples, 4096)
    assert len(packed) == 1
    assert packed[0].tokens.shape[0] < len(samples)
    together, _ = forward(policy, packed[0])
    order = {tuple(s.tokens.tolist()): s for s in samples}
    alone = torch.cat(
        [forward(policy, pack([s], 64)[0])[0] for s in sorted(order.values(), key=lambda s: -s.tokens.size)]
    )
    torch.testing.assert_close(together.sort().values, alone.sort().values, atol=1e-5, rtol=0)


def test_log_probabilities_and_entropy_are_those_of_the_softmax_at_the_temperature(policy: Policy) -> None:
    tokens = torch.tensor([[3, 1, 4, 1, 5]])
    targets = torch.arange(1, 5)
    logp, entropy = policy(tokens, torch.arange(5)[None], targets, 0.7)
    reference = (policy.lm(tokens).logits[0, :-1] / 0.7).log_softmax(-1)
    torch.testing.assert_close(logp, reference.gather(-1, tokens[0, 1:, None])[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(entropy, -(reference.exp() * reference).sum(-1), atol=1e-5, rtol=0)


def test_the_size_of_the_logit_chunk_changes_nothing(policy: Policy) -> None:
    batches = [pack(samples_of("token-mean"), 4096)]
    loss = algorithm_of(LearnerSettings()).loss
    whole = gradient(policy, batches, loss)
    policy._chunk, kept = 7, policy._chunk
    try:
        torch.testing.assert_close(gradient(policy, batches, loss), whole, atol=1e-6, rtol=1e-5)
    finally:
        policy._chunk = kept


@pytest.mark.parametrize("aggregate", AGGREGATIONS)
def test_the_gradient_does_not_depend_on_micro_batches_ranks_or_order(policy: Policy, aggregate: str) -> None:
    samples, loss = samples_of(aggregate), algorithm_of(LearnerSettings()).loss
    whole = gradient(policy, [pack(samples, 4096)], loss)
    shuffled = [samples[index] for index in np.random.default_rng(0).permutation(len(samples))]
    for shares in ([pack(samples, 64)], [pack(shuffled, 4096)], [pack(shuffled[:3], 128), pack(shuffled[3:], 50)]):
        torch.testing.assert_close(gradient(policy, shares, loss), whole, atol=1e-6, rtol=1e-5)


def test_a_response_without_a_verdict_changes_no_gradient(policy: Policy) -> None:
    judged = group([1.0, -1.0], [9, 17], id=9)
    extra = trajectory([7, 7, 7])
    with_failure = Group(
        id=9,
        prompt=judged.prompt,
        trajectories=(*judged.trajectories, extra),
        verdicts=(*judged.verdicts, verdict(None)),
    )
    loss = algorithm_of(LearnerSettings()).loss
    without, with_it = (gradient(policy, [pack(samples_of("", [one]), 4096)], loss) for one in (judged, with_failure))
    assert without.any()
    assert torch.equal(without, with_it)


def test_a_saved_tiny_model_is_tied_or_not_as_asked(tmp_path: Path) -> None:
    for tied in (True, False):
        write_tiny_model(tmp_path / str(tied), alphabet=ALPHABET, seed=0, tied=tied)
        names = dict(load_policy(tmp_path / str(tied), ModelSettings(dtype="float32"), 16).lm.named_parameters())
        assert ("lm_head.weight" in names) is not tied
