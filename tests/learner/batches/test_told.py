"""What a response was told between its turns: which tokens, of what weight, and the gradient that they bring."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from actors.types import Group
from learner.batches.packing import pack
from learner.batches.samples import between_turns
from learner.methods.algorithms import ALGORITHMS, Algorithm
from learner.models.inputs import inputs_of
from learner.models.policy import Policy
from learner.objective import ModelOutputs, PolicyObjective
from tests.builders import group, trained_samples
from tests.learner.models.small import small_lm

ECHO = ALGORITHMS["echo"]
GRPO = replace(ECHO, echo=0.0)


def talked() -> Group:
    """Two responses: one was told tokens 2 and 3 of its own, and one more behind its last turn; the other nothing."""
    one = group([1.0, -1.0], [6, 2], seed=5)
    first = one.trajectories[0]
    sampled = np.array([False, False, False, True, True, False, False, True, False])
    first = replace(first, sampled=sampled, logprobs=np.where(sampled, -1.0, 0.0).astype(np.float32))
    return replace(one, trajectories=(first, one.trajectories[1]))


@pytest.mark.parametrize(
    ("trained", "told"),
    [("0011", ""), ("00110010", "45"), ("010101", "24"), ("0100", ""), ("01000", ""), ("0101100", "2")],
)
def test_what_lies_between_the_first_and_the_last_sampled_token_was_heard(trained: str, told: str) -> None:
    mask = between_turns(np.array([letter == "1" for letter in trained]))
    assert np.flatnonzero(mask).tolist() == [int(place) for place in told]


def test_each_response_has_the_same_share_of_the_likelihood_however_much_it_was_told() -> None:
    first, second = trained_samples(talked(), ECHO)
    assert first.told_weight == pytest.approx(0.05 / 2 / 2)  # two responses, two tokens
    assert second.told is not None
    assert not second.told.any()
    (batch,) = pack([first, second], 64)
    assert batch.told is not None
    assert batch.told.targets.tolist() == first.tokens[5:7].tolist()
    assert batch.told.weights.tolist() == pytest.approx([0.0125, 0.0125])
    assert batch.tokens.flatten()[batch.told.states].tolist() == first.tokens[4:6].tolist()
    assert all(sample.told is None for sample in trained_samples(talked(), GRPO))


def gradients(algorithm: Algorithm, **packing: int) -> tuple[float, torch.Tensor]:
    """(loss, gradient of all weights) of one update on what was talked."""
    policy = Policy(small_lm(), logit_chunk=64)
    samples, total = trained_samples(talked(), algorithm), 0.0
    batches = pack(samples, **packing)
    objective = PolicyObjective(algorithm, [ModelOutputs()] * len(batches), None)
    for number, batch in enumerate(batches):
        outputs = policy(**inputs_of(policy, batch, torch.device("cpu"), told=True), temperature=1.0)
        loss = objective(number, batch, outputs).loss
        loss.backward()
        total += loss.item()
    return total, torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])


@pytest.mark.parametrize("packing", [{"micro_batch_tokens": 64}, {"micro_batch_tokens": 8}], ids=["one", "several"])
def test_the_gradient_is_that_of_grpo_and_of_the_likelihood(packing: dict) -> None:
    loss, found = gradients(ECHO, **packing)
    alone, plain = gradients(GRPO, **packing)
    policy, first = Policy(small_lm(), logit_chunk=64), talked().trajectories[0]
    logits = policy.lm(torch.from_numpy(first.tokens[None].astype(np.int64))).logits[0].log_softmax(-1)
    nats = -logits[[4, 5], first.tokens[5:7].astype(np.int64)].sum()
    (0.0125 * nats).backward()
    likelihood = torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])
    assert loss - alone == pytest.approx(0.0125 * nats.item(), rel=1e-4)
    torch.testing.assert_close(found, plain + likelihood, rtol=1e-4, atol=1e-6)
