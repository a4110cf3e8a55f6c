"""Rows laid end to end with the bounds of their sequences, against masks. PyTorch's kernel is for GPUs only; here one
of the same signature, written by hand, stands in its place."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from learner.batches.packing import batch_of, pack
from learner.batches.types import Sample, TrainBatch
from learner.models.examination import examine
from learner.models.policy import Critic, Policy
from learner.models.varlen import (
    VARLEN,
    CannotAttend,
    VarlenAttention,
    bounds_of,
    is_varlen,
    leave_varlen,
    problem_of,
)
from tests.learner.models.kernels import by_hand

pytestmark = pytest.mark.usefixtures("one_thread", "varlen_here")

LENGTHS = (11, 5, 1, 8, 3, 17)
SIZES = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
    "pad_token_id": None,
}
MODELS = {
    "grouped heads": ("llama", {}),
    "a head of keys for each of queries": ("llama", {"num_key_value_heads": 4}),
    "biases": ("qwen2", {}),
    "norms of queries and keys": ("qwen3", {}),
    "a sliding window in all layers": ("mistral", {"sliding_window": 4}),
    "a window of one token": ("mistral", {"sliding_window": 1}),
    "a sliding window in some layers": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
}


def config_of(name: str) -> PreTrainedConfig:
    kind, settings = MODELS[name]
    return AutoConfig.for_model(kind, **{**SIZES, **settings})


def random_model(config: PreTrainedConfig, kind: Any = AutoModelForCausalLM) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = kind.from_config(config, dtype=torch.float32)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def samples(lengths: Sequence[int] = LENGTHS) -> list[Sample]:
    draw = np.random.default_rng(3)
    tokens = [draw.integers(0, 64, size).astype(np.int32) for size in lengths]
    return [Sample(tokens=t, trained=np.arange(t.size) > 0, sampler=None, advantage=1.0, weight=0.1) for t in tokens]


def forward(module: Any, batch: TrainBatch) -> torch.Tensor:
    arrays = (torch.from_numpy(array) for array in (batch.tokens, batch.positions, batch.states, batch.targets))
    bounds = {"bounds": bounds_of(batch.ends, torch.device("cpu"))} if module.one_row else {}
    return module(*arrays, 1.0, **bounds)[0]


def with_gradient(
    module: Any, batch: TrainBatch, weights: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    found = forward(module, batch)
    torch.manual_seed(5)
    (found * (torch.randn(found.shape) if weights is None else weights)).sum().backward()
    gradient = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    module.zero_grad()
    return found.detach(), gradient


def are_close(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> None:
    for found, wanted in zip(one, other, strict=True):
        assert wanted.abs().max() > 1e-3
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_several_rows_with_padding_give_what_masks_give(name: str, checkpointing: bool) -> None:
    policy = Policy(random_model(config_of(name)), logit_chunk=7)
    batch = batch_of(samples(), [[0, 1, 2], [3, 4], [5]])
    assert batch.padding == 8
    wanted = with_gradient(policy, batch)
    if checkpointing:
        policy.train()
        policy.lm.gradient_checkpointing_enable({"use_reentrant": False})
    policy.lm.set_attn_implementation(VARLEN)
    assert policy.one_row
    are_close(with_gradient(policy, batch), wanted)


@pytest.mark.parametrize("name", ["grouped heads", "a sliding window in all layers"])
def test_one_row_without_padding_gives_what_each_sequence_gives_alone(name: str) -> None:
    policy = Policy(random_model(config_of(name)), logit_chunk=7)
    (batch,) = pack(samples(), 1024, one_row=True)
    assert (batch.tokens.shape, batch.padding) == ((1, 40), 0)
    alone = {}
    for number, one in enumerate(samples()):
        if one.trained.any():
            alone[number] = forward(policy, batch_of([one], [[0]])).detach()
    policy.lm.set_attn_implementation(VARLEN)
    found = batch.split(forward(policy, batch).detach().numpy())
    for member, values in zip(batch.members, found, strict=True):
        if member in alone:
            np.testing.assert_allclose(values, alone[member], atol=1e-4)


def test_a_critic_gives_what_masks_give_and_follows_its_policy() -> None:
    policy = Policy(random_model(config_of("grouped heads")), logit_chunk=7)
    critic = Critic(random_model(config_of("grouped heads"), AutoModel))
    torch.nn.init.normal_(critic.head.weight)
    batch = batch_of(samples(), [[0, 1, 2], [3, 4], [5]])
    wanted = with_gradient(critic, batch)
    critic.body.set_attn_implementation(VARLEN)
    assert critic.one_row
    are_close(with_gradient(critic, batch), wanted)
    critic.attend_as(policy)
    assert not critic.one_row


def test_bounds_that_are_not_given_are_read_from_the_positions() -> None:
    policy = Policy(random_model(config_of("grouped heads")), logit_chunk=7)
    policy.lm.set_attn_implementation(VARLEN)
    batch = batch_of(samples(), [[0, 1, 2], [3, 4], [5]])
    arrays = (torch.from_numpy(array) for array in (batch.tokens, batch.positions, batch.states, batch.targets))
    torch.testing.assert_close(policy(*arrays, 1.0)[0], forward(policy, batch), atol=0, rtol=0)


def test_bounds_are_the_beginnings_of_sequences_and_of_padding() -> None:
    batch = batch_of(samples(), [[0, 1, 2], [3, 4], [5]])
    bounds = bounds_of(batch.ends, torch.device("cpu"))
    assert bounds.joins == ()
    assert bounds.starts.tolist() == [0, 10, 14, 15, 16, 23, 25, 32, 48]
    assert bounds.max_tokens == 16


def test_micro_batches_of_one_row_keep_the_budget_and_are_few() -> None:
    lengths = (90, 10, 60, 40, 50, 50, 70, 30, 130)
    batches = pack(samples(lengths), 100, one_row=True)
    assert sorted(batch.tokens.shape[1] for batch in batches) == [98, 98, 98, 98, 129]
    assert all(batch.tokens.shape[0] == 1 and batch.padding == 0 for batch in batches)
    assert sorted(member for batch in batches for member in batch.members) == list(range(9))
    pairs = pack(samples((30, 30, 20, 20, 10, 10)), 100, together=2, one_row=True)
    assert [batch.members for batch in pairs] == [(0, 1, 2, 3), (4, 5)]


# --------------------------------------------------------------------------------------------- what it cannot do


@pytest.mark.parametrize(
    ("kind", "settings", "problem"),
    [
        ("gemma2", {}, "caps the logits"),
        ("llama", {"attention_dropout": 0.1}, "attention_dropout = 0.1"),
        ("gpt2", {"attn_pdrop": 0.1, "n_embd": 64, "n_head": 4, "n_layer": 2}, "attn_pdrop = 0.1"),
        ("llama4_text", {"attention_chunk_size": 8}, "chunks of the row|does not have it"),
    ],
)
def test_a_model_that_asks_for_more_is_named_with_the_reason(kind: str, settings: dict[str, Any], problem: str) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SIZES, **settings}))
    assert any(part in problem_of(model) for part in problem.split("|"))


def test_plain_causal_models_have_no_problem() -> None:
    for name in MODELS:
        assert problem_of(random_model(config_of(name))) == ""


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"softcap": 50.0}, "asks for softcap"),
        ({"s_aux": torch.zeros(2)}, "asks for s_aux"),
        ({"dropout": 0.1}, "asks for dropout"),
        ({"is_causal": False}, "not causal"),
        ({"attention_mask": torch.ones(1, 1, 4, 4)}, "mask of its own"),
        ({"cu_seq_lens_q": None}, "where sequences begin"),
    ],
)
def test_what_the_kernel_does_not_do_is_refused_and_not_left_out(asked: dict[str, Any], reason: str) -> None:
    bounds = bounds_of(np.full((1, 4), 4), torch.device("cpu"))
    known = {"cu_seq_lens_q": bounds.starts, "max_length_q": bounds.max_tokens, "dropout": 0.0, "softcap": None}
    states = [torch.randn(1, 2, 4, 16) for _ in range(3)]
    VarlenAttention(by_hand)(torch.nn.Module(), *states, **known)
    with pytest.raises(CannotAttend, match=reason):
        VarlenAttention(by_hand)(torch.nn.Module(), *states, **{**known, **asked})


@pytest.mark.parametrize("size", [12, 264])
def test_heads_that_the_kernel_does_not_take_are_refused(size: int) -> None:
    states = [torch.randn(1, 2, 4, size) for _ in range(3)]
    with pytest.raises(CannotAttend, match=f"heads of {size}"):
        VarlenAttention(by_hand)(torch.nn.Module(), *states)


def test_the_examination_compares_with_masks_and_keeps_what_agrees() -> None:
    policy = Policy(random_model(config_of("grouped heads")), logit_chunk=7)
    policy.lm.set_attn_implementation(VARLEN)
    assert examine(policy).gap > 0.0  # not the same computation twice
    assert policy.one_row
    assert policy.notes() == ()


def leaking(*states: torch.Tensor, **options: Any) -> torch.Tensor:
    """A kernel that takes all sequences for one."""
    query, key, value, starts, *_ = states
    whole = torch.tensor([0, int(starts[-1])], dtype=torch.int32)
    return by_hand(query, key, value, whole, whole, query.shape[0], query.shape[0], **options)


@pytest.mark.parametrize("broken", [leaking, None])
def test_where_it_disagrees_the_model_is_trained_with_masks_and_a_note(
    broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broken is None:  # PyTorch's own, which this machine has not
        monkeypatch.undo()
    else:
        monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, VARLEN, VarlenAttention(broken))
    policy = Policy(random_model(config_of("grouped heads")), logit_chunk=7)
    policy.lm.set_attn_implementation(VARLEN)
    assert examine(policy).packs
    assert not is_varlen(policy.lm)
    assert policy.shares
    (note,) = policy.notes()
    assert "attends by masks (sdpa), which is slower than varlen attention" in note


def test_leaving_varlen_attention_and_taking_it_up_again_changes_no_number() -> None:
    policy = Policy(random_model(config_of("biases")), logit_chunk=7)
    batch = batch_of(samples(), [[0, 1, 2], [3, 4], [5]])
    policy.lm.set_attn_implementation(VARLEN)
    before = forward(policy, batch)
    leave_varlen(policy.lm)
    by_masks = forward(policy, batch)
    policy.lm.set_attn_implementation(VARLEN)
    torch.testing.assert_close(forward(policy, batch), before, atol=0, rtol=0)
    torch.testing.assert_close(by_masks, before, atol=1e-4, rtol=1e-4)
