"""Trees of sequences through the learner's forward and backward pass: what every sequence gives alone, to rounding."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from transformers import AutoConfig, AutoModelForCausalLM

from actors.types import Group
from learner.batches.packing import Packing, pack
from learner.batches.types import Sample, Totals, TrainBatch, UpdateBatch
from learner.batches.values import gather
from learner.methods.algorithms import ALGORITHMS, Algorithm, algorithm_of
from learner.models import examination, side
from learner.models.adapter import adapt
from learner.models.examination import examine
from learner.models.inputs import inputs_of
from learner.models.policy import Critic, Policy
from learner.models.sharing import reason_apart
from learner.objective import PolicyObjective
from learner.settings import AdapterSettings
from tests.builders import before_update, group, samples_of
from tests.learner.models.small import small_lm
from tests.trees import trees

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
WIDE = 10_000  # so that everything that can be shared is


def near_uniform(one: Group) -> Group:
    """Sampled by a policy that is as undecided as a random model, so that ratios lie around 1."""
    even = [replace(t, logprobs=np.where(t.sampled, -np.log(64), 0).astype(np.float32)) for t in one.trajectories]
    return replace(one, trajectories=tuple(even))


GROUPS = [near_uniform(group([1.0, -1.0, -1.0, 1.0], [9, 3, 4, 1], id=number, seed=5)) for number in range(3)]


@pytest.fixture(scope="module")
def policy() -> Policy:
    """A policy of few parameters whose entropy has its gradient."""
    one = Policy(small_lm(), logit_chunk=16, entropy_gradient=True)
    assert examine(one).shares
    return one.train()


def both(samples: Sequence[Sample], budget: int = 4096, together: int = 1) -> tuple[list[TrainBatch], list[TrainBatch]]:
    """Packed with equal beginnings once, and apart."""
    return pack(samples, budget, together, width=WIDE), pack(samples, budget, together)


def gradient_of(module: torch.nn.Module, loss: torch.Tensor) -> torch.Tensor:
    loss.backward()
    found = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    module.zero_grad()
    return found


def given_by(module: Any, batches: Sequence[TrainBatch], samples: int) -> tuple[list[list[np.ndarray]], torch.Tensor]:
    """Everything that a module gives of each sample, and the gradient of a sum of it that knows the tokens apart."""
    found, loss = [], torch.zeros(())
    for batch in batches:
        outputs = [out for out in module(**inputs_of(module, batch, CPU), temperature=0.7) if out is not None]
        found.append([out.detach() for out in outputs])
        places = batch.positions.flatten()[batch.states]
        weights = torch.from_numpy(np.array(batch.members)[batch.owners] + 0.3 * places + 1.0).float()
        loss = loss + sum((out * weights).sum() for out in outputs)
    columns = [gather(batches, list(column), samples) for column in zip(*found, strict=True)]
    return columns, gradient_of(module, loss)


def agree(module: Any, samples: Sequence[Sample], budget: int = 4096) -> int:
    """Asserts that a module gives the same of shared and separate sequences, and the same gradient; the tokens that
    were shared."""
    shared, apart = both(samples, budget)
    (values, slope), (wanted, wanted_slope) = (given_by(module, batches, len(samples)) for batches in (shared, apart))
    for column, wanted_column in zip(values, wanted, strict=True):
        for one, other in zip(column, wanted_column, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-5)
    assert (slope - wanted_slope).norm() <= 1e-5 * wanted_slope.norm()
    return sum(batch.shared for batch in shared)


@given(trees())
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_log_probabilities_entropy_and_gradients_of_random_trees_are_those_of_separate_sequences(
    policy: Policy, samples: list[Sample]
) -> None:
    agree(policy, samples)


def samples_of_groups() -> list[Sample]:
    (found,) = samples_of(algorithm_of("grpo"), GROUPS)
    return found


def test_a_state_that_several_tokens_follow_is_multiplied_by_the_output_matrix_once(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    logits = policy.head._logits
    monkeypatch.setattr(policy.head, "_logits", lambda hidden, t: computed.append(len(hidden)) or logits(hidden, t))
    (batch,), _ = both(samples_of_groups())
    with torch.no_grad():
        policy(**inputs_of(policy, batch, CPU), temperature=1.0)
    assert sum(computed) == np.unique(batch.states).size < batch.states.size
    assert max(computed) <= 16  # the chunk


@pytest.mark.parametrize("budget", [16, 40, 4096])
def test_however_the_trees_are_cut_into_micro_batches(policy: Policy, budget: int) -> None:
    assert agree(policy, samples_of_groups(), budget)


def test_the_values_of_a_critic(policy: Policy) -> None:
    critic = Critic(small_lm().base_model)
    torch.nn.init.normal_(critic.head.weight)
    critic.attend_as(policy)
    assert agree(critic, samples_of_groups())


def test_an_adapter_alone_is_trained(policy: Policy) -> None:
    lm = small_lm()
    adapt(lm, AdapterSettings(rank=4))
    for name, parameter in lm.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted = Policy(lm, logit_chunk=16)
    assert examine(adapted).shares
    assert agree(adapted.train(), samples_of_groups())
    assert all(parameter.grad is None for name, parameter in lm.named_parameters() if ".lora_" not in name)


def test_with_checkpointing() -> None:
    one = Policy(small_lm(), logit_chunk=16)
    examine(one)
    one.train().lm.gradient_checkpointing_enable({"use_reentrant": False})
    assert agree(one, samples_of_groups())


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_has_the_same_loss_and_gradient(policy: Policy, name: str) -> None:
    algorithm = replace(ALGORITHMS[name], entropy=0.1)
    (samples,) = samples_of(algorithm, GROUPS)
    found = [loss_of(policy, algorithm, batches) for batches in both(samples, 60, 2 if algorithm.credit.pairs else 1)]
    (loss, slope), (wanted, wanted_slope) = found
    assert loss == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    assert (slope - wanted_slope).norm() <= 1e-5 * wanted_slope.norm()


def loss_of(policy: Policy, algorithm: Algorithm, batches: Sequence[TrainBatch]) -> tuple[float, torch.Tensor]:
    objective = PolicyObjective(algorithm, [before_update(batch) for batch in batches], None)
    losses = [
        objective(number, batch, policy(**inputs_of(policy, batch, CPU), temperature=1.0)).loss
        for number, batch in enumerate(batches)
    ]
    total = torch.stack(losses).sum()
    return total.item(), gradient_of(policy, total)


def test_a_nucleus_is_that_of_each_sequence(policy: Policy) -> None:
    ((shared,), (apart,)) = both(samples_of_groups())
    sizes = []
    for batch in (shared, apart):
        *_, support = policy(**inputs_of(policy, batch, CPU), temperature=1.0, restrict=0.5)
        counts = np.bincount(support[0].numpy(), minlength=batch.targets.size)
        sizes.append([of.tolist() for of in gather([batch], [torch.from_numpy(counts)], len(shared.members))])
    assert sizes[0] == sizes[1]


def test_the_first_rows_alone_give_what_they_give_among_all(policy: Policy) -> None:
    (batch, *_), _ = both(samples_of_groups(), 64)
    rows = len(batch.tokens) - 1 or 1
    whole, part = (policy(**inputs_of(policy, batch, CPU, of), temperature=1.0)[0] for of in (None, rows))
    torch.testing.assert_close(part, whole[: part.numel()], atol=1e-6, rtol=1e-5)


# ---------------------------------------------------------------------------------------- models that keep apart


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        ("mistral", {"sliding_window": 4096}, "sliding window"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, "layers of sliding"),
        ("llama", {"attention_dropout": 0.1}, "attention_dropout = 0.1"),
        ("gpt2", {"n_embd": 64, "n_head": 4, "n_layer": 2}, "dropout"),
        ("llama", {}, ""),
        ("qwen3", {}, ""),
    ],
)
def test_models_that_a_tree_cannot_be_told_to_are_named_with_the_reason(
    kind: str, settings: dict[str, Any], reason: str
) -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{"vocab_size": 64, **sizes, **settings}))
    found = reason_apart(model)
    assert reason in found
    assert bool(found) == bool(reason)


def test_a_model_whose_trees_differ_keeps_sequences_apart_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaking(ends: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return torch.zeros(ends.shape[0], 1, ends.shape[1], ends.shape[1], dtype=dtype).triu(1) * -1e9

    monkeypatch.setattr("learner.models.policy.mask_of", leaking)
    one = Policy(small_lm(), logit_chunk=16)
    assert not examination.examine(one).shares
    assert one.width == 0
    (note,) = one.notes()
    assert "Qwen2ForCausalLM computes what sequences have in common for each of them anew: with a tree" in note
    ((batch,), _) = both(samples_of_groups())
    with pytest.raises(RuntimeError, match="Policy takes no trees of sequences"):
        inputs_of(one, batch, CPU)


class Apart:
    """A frozen policy that takes no trees."""

    device = CPU
    packs, shares = True, False

    def logprobs(self, batch: TrainBatch, rows: int | None = None) -> torch.Tensor:
        assert batch.shared == 0
        return torch.from_numpy(batch.targets + 100.0 * batch.positions.flatten()[batch.states]).float()


def test_a_frozen_policy_that_takes_no_trees_is_asked_about_each_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side, "in_step", lambda batches, device: batches)
    samples, totals = samples_of_groups(), Totals(tokens=1, responses=1, max_new_tokens=1)
    update = UpdateBatch(totals=totals, samples=tuple(samples), batches=tuple(both(samples, 40)[0]))
    found = side.logprobs_without_hidden(Apart(), update, Packing(tokens=40, width=WIDE))
    for sample, values in zip(samples, gather(update.batches, found, len(samples)), strict=True):
        places = np.flatnonzero(sample.trained)
        assert values.tolist() == (sample.tokens[places] + 100.0 * (places - 1)).tolist()
