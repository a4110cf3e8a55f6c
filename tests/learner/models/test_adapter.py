"""An adapter in a small model: it begins as nothing, it alone trains, and merged it computes the same."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, Qwen2MoeConfig, Qwen2MoeForCausalLM

from actors.data.world import ALPHABET
from learner.models.adapter import UnknownTargets, adapt, exports, merged
from learner.models.policy import Policy, load_critic, load_policy
from learner.models.tiny import write_tiny_model
from learner.settings import AdapterSettings, ModelSettings

pytestmark = pytest.mark.usefixtures("one_thread")

FLOAT32 = ModelSettings(dtype="float32")
ADAPTER = AdapterSettings(rank=4, alpha=8)
TOKENS = torch.tensor([[1, 2, 10, 3, 4, 11, 5, 5]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_tiny_model(folder, alphabet=ALPHABET, seed=3)
    return folder


def adapted(folder: Path, settings: ModelSettings = FLOAT32, adapter: AdapterSettings = ADAPTER) -> Policy:
    return load_policy(folder, settings, logit_chunk=4, adapter=adapter)


def as_if_trained(lm: nn.Module, size: float = 0.05) -> None:
    """Gives an adapter random numbers: the halves that begin as zeros too."""
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in lm.named_parameters():
            if ".lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * size)


def answer(policy: Policy) -> torch.Tensor:
    """Log-probabilities of all tokens but the first, float32[7]."""
    states = torch.arange(7)
    return policy(TOKENS[:, :-1], states[None], states, TOKENS[0, 1:], 1.0)[0]


def test_a_new_adapter_changes_nothing_and_is_no_part_of_what_is_exported(folder: Path) -> None:
    policy, plain = adapted(folder), load_policy(folder, FLOAT32, logit_chunk=4)
    assert torch.equal(answer(policy), answer(plain))
    for ours, wanted in zip(policy.exported(), plain.exported(), strict=True):
        assert (ours.name, ours.shape) == (wanted.name, wanted.shape)
        assert torch.equal(ours.tensor(), wanted.tensor())


def small_gpt2() -> GPT2LMHeadModel:
    """Holds its matrices the other way round, those of attention's output are square, and its head is tied."""
    return GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=32, n_embd=32, n_layer=2, n_head=2))


def small_moe() -> Qwen2MoeForCausalLM:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "moe_intermediate_size": 16, "num_hidden_layers": 2}
    experts = {"shared_expert_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    return Qwen2MoeForCausalLM(Qwen2MoeConfig(vocab_size=64, **sizes, **experts, **heads))


@pytest.mark.parametrize("make", [small_gpt2, small_moe])
def test_what_is_exported_computes_what_the_model_with_its_adapter_computes(make: type) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lm = make().eval()
    before = {name: parameter.clone() for name, parameter in lm.named_parameters()}
    adapt(lm, ADAPTER)
    as_if_trained(lm)
    whole = {export.name: export.tensor().clone() for export in exports(lm)}
    assert list(whole) == list(before)
    assert all(not parameter.requires_grad for parameter in whole.values())
    plain = make().eval()
    plain.load_state_dict(whole, strict=False)
    with torch.no_grad():
        found, wanted = plain(input_ids=TOKENS).logits, lm(input_ids=TOKENS).logits
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
        plain.load_state_dict(before, strict=False)
        assert (plain(input_ids=TOKENS).logits - wanted).abs().max() > 1e-2


def test_a_merged_policy_answers_as_the_adapted_one(folder: Path) -> None:
    policy, plain = adapted(folder), load_policy(folder, FLOAT32, logit_chunk=4)
    as_if_trained(policy.lm)
    assert (answer(policy) - answer(plain)).abs().max() > 1e-2
    plain.lm.load_state_dict({export.name: export.tensor() for export in policy.exported()}, strict=False)
    torch.testing.assert_close(answer(plain), answer(policy), atol=1e-5, rtol=1e-5)


def test_switched_off_the_policy_is_what_it_was(folder: Path) -> None:
    policy, plain = adapted(folder), load_policy(folder, FLOAT32, logit_chunk=4)
    as_if_trained(policy.lm)
    trained = answer(policy)
    with policy.as_it_was():
        assert torch.equal(answer(policy), answer(plain))
    assert torch.equal(answer(policy), trained)
    with pytest.raises(KeyError), policy.as_it_was():
        raise KeyError
    assert torch.equal(answer(policy), trained)
    assert torch.equal(answer(policy.reference()), answer(plain))  # a second model
    assert not policy.reference().adapted


def test_only_the_adapter_is_trained_with_checkpointing_too(folder: Path) -> None:
    slopes = {}
    for checkpointing in (False, True):
        policy = adapted(folder, ModelSettings(dtype="float32", checkpointing=checkpointing))
        policy.train()
        as_if_trained(policy.lm)
        answer(policy).sum().backward()
        slopes[checkpointing] = {name: p.grad for name, p in policy.named_parameters() if p.grad is not None}
    plain, again = slopes[False], slopes[True]
    assert plain.keys() == again.keys()
    assert len(plain) == 2 * 7 * 4  # two matrices for each of seven layers in each of four blocks
    assert all(".lora_" in name for name in plain)
    assert sum(p.numel() for p in policy.trainable()) == sum(slope.numel() for slope in plain.values())
    for name, slope in plain.items():
        assert slope.abs().max() > 0, name
        torch.testing.assert_close(slope, again[name], atol=1e-6, rtol=1e-4)


def test_a_critic_trains_an_adapter_and_its_head(folder: Path) -> None:
    critic = load_critic(folder, FLOAT32, ADAPTER)
    trained = [name for name, parameter in critic.named_parameters() if parameter.requires_grad]
    assert trained[-2:] == ["head.weight", "head.bias"]
    assert all(".lora_" in name for name in trained[:-2])
    assert len(trained) == 2 * 7 * 4 + 2


@pytest.mark.parametrize(
    ("targets", "layers"),
    [
        (("q_proj", "v_proj"), 8),
        (("mlp.down_proj",), 4),
        (("model.layers.1.self_attn.q_proj", "o_proj"), 5),
        ("linear", 28),
    ],
)
def test_targets_name_the_layers_that_get_an_adapter(folder: Path, targets: str | tuple[str, ...], layers: int) -> None:
    policy = adapted(folder, adapter=AdapterSettings(rank=2, targets=targets))
    assert sum(len(export.parts) == 3 for export in policy.exported()) == layers
    assert len(list(policy.trainable())) == 2 * layers


@pytest.mark.parametrize("targets", [("query_key_value",), ("q_proj", "proj"), ("lm_head",), ("embed_tokens",)])
def test_targets_that_a_model_does_not_have_are_refused_with_those_that_it_has(
    folder: Path, targets: tuple[str, ...]
) -> None:
    known = "It has q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj (the head takes none)"
    with pytest.raises(UnknownTargets) as refused:
        adapted(folder, adapter=AdapterSettings(rank=2, targets=targets))
    assert f"no linear layer {targets[-1]!r} that an adapter can go into. {known}" in str(refused.value)


def test_in_bfloat16_what_is_merged_is_rounded_once() -> None:
    draw = torch.Generator().manual_seed(1)
    base, low, high = (torch.randn(s, generator=draw).bfloat16() for s in ((48, 32), (4, 32), (48, 4)))
    exact = base.double() + 0.5 * (high.double() @ low.double())
    found = merged(base, low, high, 0.5, turned=False)
    assert found.dtype == torch.bfloat16
    assert ((found.double() - exact).abs() <= exact.abs() * 2**-8).all()
    assert torch.equal(merged(base.T, low, high, 0.5, turned=True), found.T)


@pytest.mark.parametrize(("size", "left"), [(1e-4, 0.06), (1e-3, 0.53), (1e-2, 1.0)])
def test_rounding_takes_what_is_small_beside_the_weights_from_a_merged_adapter(size: float, left: float) -> None:
    draw = torch.Generator().manual_seed(0)
    base = torch.randn(512, 512, generator=draw).bfloat16()
    low, high = torch.randn(16, 512, generator=draw), torch.randn(512, 16, generator=draw)
    added = size / 4.0 * high @ low  # rank 16: its standard deviation is `size` beside 1 of the weights
    found = merged(base, low, high, size / 4.0, turned=False).float() - base.float()
    assert ((found * added).sum() / added.square().sum()).item() == pytest.approx(left, abs=0.03)


def test_an_adapter_survives_the_precision_of_the_folder(folder: Path) -> None:
    policy = adapted(folder, ModelSettings(dtype="bfloat16"))
    assert {parameter.dtype for parameter in policy.parameters()} == {torch.bfloat16}
    lm = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    lm.load_state_dict({export.name: export.tensor() for export in policy.exported()}, strict=False)
    assert torch.equal(answer(Policy(lm, 4)), answer(policy))
