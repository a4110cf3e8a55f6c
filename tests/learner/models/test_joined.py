"""Trees of sequences by calls of a varlen kernel that are joined by their log-sums, against masks."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from learner.batches.packing import batch_of_trees, pack
from learner.batches.sharing import laid_out
from learner.batches.types import Sample, TrainBatch
from learner.batches.values import gather
from learner.models.examination import examine
from learner.models.joined import TorchHalves, errors_of, problem_of_halves
from learner.models.policy import Policy
from learner.models.varlen import VARLEN, VarlenAttention, bounds_of
from tests.learner.models.kernels import HalvesByHand, by_hand
from tests.learner.models.test_varlen import config_of, random_model, with_gradient

pytestmark = pytest.mark.usefixtures("one_thread", "varlen_here")


def of_trees() -> list[Sample]:
    """Answers to three prompts that are long enough to be shared; one of them goes on from another."""
    draw = np.random.default_rng(3)
    prompts = [draw.integers(0, 64, 70).tolist() for _ in range(2)]
    begun = [*prompts, prompts[0] + draw.integers(0, 64, 70).tolist()]
    tokens = [np.array([*each, *draw.integers(0, 64, size)], np.int32) for each in begun for size in (3, 5, 1)]
    return [Sample(tokens=t, trained=np.arange(t.size) > 60, sampler=None, advantage=1.0, weight=0.1) for t in tokens]


def by_member(batch: TrainBatch) -> torch.Tensor:
    """Weights of trained tokens that do not depend on how they are packed."""
    return torch.from_numpy(np.array(batch.members)[batch.owners] + 1.0 + batch.targets).float().sin()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("one_level", [True, False])
@pytest.mark.parametrize("name", ["grouped heads", "norms of queries and keys"])
def test_trees_by_joined_calls_give_what_masks_give_of_each_sequence(
    name: str, one_level: bool, checkpointing: bool
) -> None:
    policy, given = Policy(random_model(config_of(name)), logit_chunk=64), of_trees()
    (apart,) = pack(given, 4096, one_row=True)
    (tree,) = pack(given, 4096, one_row=True, width=1)
    if not one_level:
        layout = laid_out([sample.tokens[: sample.inputs] for sample in given])
        tree = batch_of_trees(given, [[(list(range(len(given))), layout)]])
    assert tree.shared > 200
    wanted, wanted_gradient = with_gradient(policy, apart, by_member(apart))
    if checkpointing:
        policy.train().lm.gradient_checkpointing_enable({"use_reentrant": False})
    policy.lm.set_attn_implementation(VARLEN)
    policy.shares = True
    assert (len(bounds_of(tree.ends, torch.device("cpu")).joins) == 1) is one_level
    found, gradient = with_gradient(policy, tree, by_member(tree))
    np.testing.assert_allclose(
        np.concatenate(gather([tree], [found], len(given))),
        np.concatenate(gather([apart], [wanted], len(given))),
        atol=1e-4,
    )
    assert (gradient - wanted_gradient).norm() <= 1e-4 * wanted_gradient.norm()


def test_joined_calls_have_the_outputs_and_gradients_of_masks() -> None:
    errors = errors_of(HalvesByHand(), torch.device("cpu"), torch.float32)
    assert max(off for off, _ in errors.values()) < 1e-5
    assert problem_of_halves(HalvesByHand(), torch.device("cpu"), torch.float32) == ""


class OfItsOwnSums(HalvesByHand):
    """A kernel that does not make its probabilities of the log-sums that it is given."""

    def backward(self, slope: Any, states: Any, made: Any, spans: Any, causal: Any, scale: Any) -> Any:
        return super().backward(slope, states, self.forward(states, spans, causal, scale), spans, causal, scale)


def test_a_kernel_whose_gradients_do_not_add_up_shares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for halves, reason in ((OfItsOwnSums(), "are off by"), (TorchHalves(), "cannot be joined here")):
        monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, VARLEN, VarlenAttention(by_hand, halves))
        policy = Policy(random_model(config_of("grouped heads")), logit_chunk=7)
        policy.lm.set_attn_implementation(VARLEN)
        examined = examine(policy)
        assert policy.one_row
        assert not examined.shares
        assert any(reason in note for note in policy.notes())
