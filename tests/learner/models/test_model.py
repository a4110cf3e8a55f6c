"""The learner's forward pass and the invariance of its gradient, on the CPU with a tiny random model."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Qwen2Config

from actors.data.world import ALPHABET
from actors.types import Group
from learner.batches.packing import batch_of, pack
from learner.batches.types import TrainBatch
from learner.methods.algorithms import ALGORITHMS, Algorithm, algorithm_of
from learner.methods.choices import Aggregation, Mismatch
from learner.models.policy import Critic, Policy, load_policy, nucleus
from learner.models.tiny import write_tiny_model
from learner.objective import ModelOutputs, PolicyObjective
from learner.settings import ModelSettings
from tests.builders import before_update, group, samples_of, trajectory, verdict
from tests.learner.models.small import small_lm

pytestmark = pytest.mark.usefixtures("one_thread")


def near_uniform(one: Group) -> Group:
    """Sampled by a policy that is as undecided as a random model, so that ratios lie around 1."""
    even = [replace(t, logprobs=np.where(t.sampled, -np.log(64), 0).astype(np.float32)) for t in one.trajectories]
    return replace(one, trajectories=tuple(even))


GROUPS = [near_uniform(group([1.0, -1.0, -1.0, 1.0], [9, 30, 4, 17], id=number, seed=5)) for number in range(4)]
MIXED = [
    near_uniform(group(scores, lengths, id=number, seed=8))
    for number, (scores, lengths) in enumerate(
        [([1, -1, -1], [9, 4, 12]), ([1, 1, -1], [3, 14, 5]), ([-1, 1, -1], [7, 2, 6]), ([-1, -1, 1], [1, 16, 8])]
    )
]
ROWS = ("raft", "reinforce-rej", "grpo", "gspo", "topr", "iterative-dpo", "cispo", "dapo")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    folder = tmp_path_factory.mktemp("model")
    write_tiny_model(folder, alphabet=ALPHABET, seed=3)
    return load_policy(folder, ModelSettings(dtype="float32"), logit_chunk=2048)


@pytest.fixture(scope="module")
def small() -> Policy:
    """A policy of few parameters in memory, for what takes many passes."""
    return Policy(small_lm(heads=2), logit_chunk=2048)


def forward(policy: Policy, batch: TrainBatch, temperature: float = 1.0) -> tuple[torch.Tensor, ...]:
    arrays = (torch.from_numpy(array) for array in (batch.tokens, batch.positions, batch.states, batch.targets))
    return policy(*arrays, temperature)


def gradient(
    policy: Policy, shares: list[list[TrainBatch]], algorithm: Algorithm, distance: float = 1.0
) -> torch.Tensor:
    """Of one update: the sum over the micro-batches of all ranks."""
    policy.zero_grad()
    for batches in shares:
        objective = PolicyObjective(algorithm, [before_update(batch, distance) for batch in batches], None)
        for number, batch in enumerate(batches):
            objective(number, batch, forward(policy, batch)).loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in policy.parameters()])


def packed(algorithm: Algorithm, groups: Sequence[Group], budget: int = 4096, ranks: int = 1) -> list[list[TrainBatch]]:
    return [
        pack(share, budget, together=2 if algorithm.credit.pairs else 1)
        for share in samples_of(algorithm, groups, ranks)
    ]


# ------------------------------------------------------------------------------------------------- forward pass


def test_packed_sequences_give_what_each_gives_alone(policy: Policy) -> None:
    (samples,) = samples_of(algorithm_of("reinforce-rej", {"aggregate": "token-mean"}), GROUPS)
    (together,) = pack(samples, 4096)
    assert together.tokens.shape[0] < len(samples)
    values = together.split(forward(policy, together)[0].detach().numpy())
    for member, found in zip(together.members, values, strict=True):
        alone = forward(policy, pack([samples[member]], 64)[0])[0]
        np.testing.assert_allclose(found, alone.detach().numpy(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["reinforce-rej", "grpo", "gspo"])
def test_packed_and_padded_sequences_have_the_same_loss_and_gradient(policy: Policy, name: str) -> None:
    algorithm = algorithm_of(name, {"kl_loss": 0.1, "aggregate": "token-mean"})
    (samples,) = samples_of(algorithm, GROUPS)
    padded = batch_of(samples, [[index] for index in range(len(samples))])
    assert padded.padding > 0.3 * padded.tokens.size
    found = []
    for batches in (pack(samples, 96), [padded]):
        of = [
            PolicyObjective(algorithm, [before_update(b)], None)(0, b, forward(policy, b)).loss.item() for b in batches
        ]
        found.append((sum(of), gradient(policy, [batches], algorithm)))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-5, rtol=1e-4)


def test_log_probabilities_and_entropy_are_those_of_the_softmax_at_the_temperature(policy: Policy) -> None:
    tokens, states = torch.tensor([[3, 1, 4, 1, 5]]), torch.arange(4)
    logp, entropy, support = policy(tokens[:, :-1], states[None], states, tokens[0, 1:], 0.7)
    reference = (policy.lm(tokens).logits[0, :-1] / 0.7).log_softmax(-1)
    torch.testing.assert_close(logp, reference.gather(-1, tokens[0, 1:, None])[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(entropy, -(reference.exp() * reference).sum(-1), atol=1e-5, rtol=0)
    assert support is None


def test_a_saved_tiny_model_is_tied_or_not_as_asked(tmp_path: Path) -> None:
    for tied in (True, False):
        write_tiny_model(tmp_path / str(tied), alphabet=ALPHABET, seed=0, tied=tied)
        names = dict(load_policy(tmp_path / str(tied), ModelSettings(dtype="float32"), 16).lm.named_parameters())
        assert ("lm_head.weight" in names) is not tied


def test_a_new_critic_expects_nothing(policy: Policy) -> None:
    tokens, states = torch.tensor([3, 1, 4]), torch.arange(2)
    (values,) = Critic(policy.lm.base_model)(tokens[None, :-1], states[None], states, tokens[1:], 1.0)
    assert values.tolist() == [0.0, 0.0]


# ------------------------------------------------------------------------------------------------------ nucleus


class Known(nn.Module):
    """A language model whose logits after each token are the logs of these probabilities."""

    def __init__(self, probabilities: Sequence[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(probabilities).log())
        self.base_model = Body(self.logits)

    def get_output_embeddings(self) -> nn.Module:
        return nn.Identity()


class Body:
    config = Qwen2Config()

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits

    def __call__(self, input_ids: torch.Tensor, **_: object) -> "Hidden":
        return Hidden(self.logits.expand(*input_ids.shape, -1))


class Hidden:
    def __init__(self, states: torch.Tensor) -> None:
        self.last_hidden_state = states


def known(probabilities: Sequence[float], tokens: Sequence[int], restrict=None, chunk: int = 2048, entropy=False):
    """What a policy with these probabilities after every token gives for all tokens but the first."""
    one = Policy(Known(probabilities), chunk, entropy_gradient=entropy)
    ids, states = torch.tensor(tokens), torch.arange(len(tokens) - 1)
    return one, one(ids[None, :-1], states[None], states, ids[1:], 1.0, restrict)


@pytest.mark.parametrize(
    ("probabilities", "top_p", "mask"),
    [
        ([0.5, 0.3, 0.15, 0.05], 0.9, [1, 1, 1, 0]),
        ([0.05, 0.5, 0.15, 0.3], 0.9, [0, 1, 1, 1]),
        ([0.5, 0.3, 0.15, 0.05], 0.4, [1, 0, 0, 0]),
        ([0.5, 0.3, 0.15, 0.05], 0.7, [1, 1, 0, 0]),
        ([0.25, 0.25, 0.25, 0.25], 1.0, [1, 1, 1, 1]),
    ],
)
def test_the_nucleus_holds_the_token_that_crosses_its_probability(probabilities, top_p: float, mask) -> None:
    assert nucleus(torch.tensor(probabilities), top_p).int().tolist() == mask


def test_a_policy_is_renormalised_within_the_nucleus_of_an_older_one() -> None:
    tokens = [0, 0, 1, 2]
    _, (_, _, support) = known([0.5, 0.3, 0.15, 0.05], tokens, restrict=0.9)
    assert support.T.tolist() == [[target, token] for target in range(3) for token in range(3)]
    _, (logp, entropy, _) = known([0.4, 0.4, 0.1, 0.1], tokens, restrict=support)
    masked = [0.4444, 0.4444, 0.1111]
    assert logp.exp().tolist() == pytest.approx(masked, abs=1e-4)
    assert entropy.tolist() == pytest.approx([-sum(p * np.log(p) for p in masked)] * 3, abs=1e-3)


def test_a_token_outside_the_nucleus_that_was_sampled_is_in_its_support() -> None:
    _, (logp, _, support) = known([0.5, 0.3, 0.15, 0.05], [0, 3, 0], restrict=0.4)
    assert support.T.tolist() == [[0, 0], [0, 3], [1, 0]]
    assert logp.exp().tolist() == pytest.approx([0.05 / 0.55, 1.0])


def test_the_nucleus_does_not_depend_on_the_size_of_the_logit_chunk() -> None:
    tokens = [0, 3, 1, 0, 2]
    (_, whole), (_, cut) = (known([0.5, 0.3, 0.15, 0.05], tokens, 0.7, chunk) for chunk in (2048, 2))
    for one, other in zip(whole, cut, strict=True):
        assert torch.equal(one, other) or torch.equal(one.T.unique(dim=0), other.T.unique(dim=0))


@pytest.mark.parametrize("asked", [True, False])
def test_the_entropy_has_its_gradient_only_where_it_is_asked_for(asked: bool) -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    one, (_, entropy, _) = known(probabilities.tolist(), [0, 1], entropy=asked)
    assert entropy.requires_grad is asked
    if asked:
        entropy.sum().backward()
        slope = -probabilities * (probabilities.log() + entropy.item())
        torch.testing.assert_close(one.lm.logits.grad, slope.detach())


# ----------------------------------------------------------------------------------------------------- gradient


def test_the_size_of_the_logit_chunk_changes_nothing(policy: Policy) -> None:
    algorithm = algorithm_of("reinforce-rej", {"aggregate": "token-mean"})
    batches = packed(algorithm, GROUPS)
    whole = gradient(policy, batches, algorithm)
    policy.head._chunk, kept = 7, policy.head._chunk
    try:
        torch.testing.assert_close(gradient(policy, batches, algorithm), whole, atol=1e-6, rtol=1e-5)
    finally:
        policy.head._chunk = kept


class Heights(TorchDispatchMode):
    """Notes how many rows of logits the tensors that come out of operations have."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary, self.seen = vocabulary, set[int]()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> object:
        out = func(*args, **kwargs or {})
        for one in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(one, torch.Tensor) and one.ndim == 2 and one.shape[1] == self.vocabulary:
                self.seen.add(one.shape[0])
        return out


@pytest.mark.parametrize("chunk", [7, 50])
def test_no_more_logits_than_a_chunk_exist_in_either_pass_and_none_between_them(small: Policy, chunk: int) -> None:
    hidden, vocabulary = 32, 96  # the output matrix has as many rows as the model is wide
    head = Policy(Known([1.0 / vocabulary] * vocabulary), chunk, entropy_gradient=True).head
    head.output = nn.Linear(hidden, vocabulary)
    kept: list[torch.Size] = []
    states, wanted = torch.randn(120, hidden, requires_grad=True), torch.arange(120) % vocabulary
    with Heights(vocabulary) as heights:
        with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one.shape) or one, lambda one: one):
            logp, entropy, _ = head(states, wanted, 1.0, None)
        (logp.sum() + entropy.sum()).backward()
    assert max(heights.seen - {hidden}) == chunk
    assert not [shape for shape in kept if shape[-1:] == (vocabulary,) and shape != (hidden, vocabulary)]


def test_checkpointing_keeps_fewer_activations_and_changes_no_gradient(tmp_path: Path) -> None:
    write_tiny_model(tmp_path, alphabet=ALPHABET, seed=3)
    algorithm = ALGORITHMS["reinforce-rej"]
    (batches,) = packed(algorithm, GROUPS)
    kept, gradients = [], []
    for on in (False, True):
        one, sizes = load_policy(tmp_path, ModelSettings(dtype="float32", checkpointing=on), 2048), list[int]()
        one.train()
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            forward(one, batches[0])
        kept.append(sum(sizes))
        gradients.append(gradient(one, [batches], algorithm))
    assert kept[1] < kept[0] / 4
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-5)


@pytest.fixture(scope="module")
def whole(small: Policy) -> Callable[[str, str], torch.Tensor]:
    """The gradient of one update on the mixed groups in one micro-batch of one rank."""

    @cache
    def of(name: str, aggregate: str) -> torch.Tensor:
        algorithm = algorithm_of(name, {"aggregate": aggregate, "kl_loss": 0.1})
        return gradient(small, packed(algorithm, MIXED), algorithm)

    return of


@pytest.mark.parametrize("aggregate", Aggregation)
@given(
    name=st.sampled_from(ROWS),
    micro_batch_tokens=st.integers(1, 200),
    ranks=st.integers(1, 3),
    order=st.permutations(range(len(MIXED))),
)
@settings(deadline=None, max_examples=16, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_gradient_does_not_depend_on_micro_batches_ranks_or_order(
    small: Policy, whole, aggregate: Aggregation, name: str, micro_batch_tokens: int, ranks: int, order: list[int]
) -> None:
    algorithm = algorithm_of(name, {"aggregate": aggregate, "kl_loss": 0.1})
    shares = packed(algorithm, [MIXED[index] for index in order], micro_batch_tokens, ranks)
    found, expected = gradient(small, shares, algorithm), whole(name, aggregate)
    assert (found - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("name", ROWS)
def test_the_gradient_does_not_depend_on_how_finely_the_batch_is_cut(small: Policy, whole, name: str) -> None:
    algorithm = algorithm_of(name, {"kl_loss": 0.1})
    found, expected = gradient(small, packed(algorithm, MIXED[::-1], 1, 3), algorithm), whole(name, algorithm.aggregate)
    assert (found - expected).norm() <= 1e-5 * expected.norm()


def test_algorithms_and_aggregations_differ_in_their_gradients(whole) -> None:
    choices = {(name, "token-mean") for name in ROWS} | {("grpo", aggregate) for aggregate in Aggregation}
    for one, other in itertools.combinations([whole(*choice) for choice in sorted(choices)], 2):
        assert (one - other).norm() > 1e-3 * one.norm()


def test_a_response_without_a_verdict_changes_no_gradient(policy: Policy) -> None:
    scored = group([1.0, -1.0], [9, 17], id=9)
    extra = trajectory([7, 7, 7])
    with_failure = Group(
        id=9,
        prompt=scored.prompt,
        trajectories=(*scored.trajectories, extra),
        verdicts=(*scored.verdicts, verdict(None)),
    )
    algorithm = ALGORITHMS["reinforce-rej"]
    without, with_it = (gradient(policy, packed(algorithm, [one]), algorithm) for one in (scored, with_failure))
    assert without.any()
    assert torch.equal(without, with_it)


def test_the_first_update_of_a_step_takes_its_own_log_probabilities_for_those_of_the_start(small: Policy) -> None:
    algorithm = replace(ALGORITHMS["grpo"], mismatch=Mismatch.NONE)
    ((batch,),) = packed(algorithm, MIXED)
    small.zero_grad()
    found: list[torch.Tensor] = []
    start = forward(small, batch)[0].detach()
    for known in (ModelOutputs(), ModelOutputs(logp=start)):
        PolicyObjective(algorithm, [known], None)(0, batch, forward(small, batch)).loss.backward()
        found.append(torch.cat([parameter.grad.flatten() for parameter in small.parameters()]))
        small.zero_grad()
    assert found[0].any()
    torch.testing.assert_close(*found, atol=1e-7, rtol=1e-5)
